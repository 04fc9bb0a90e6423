"""One Job from claim to finish, and what becomes of it when anything goes wrong."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import UID

from node.domain.finding import Finding
from node.domain.job import Job, JobState, digest_inputs
from node.domain.result import ResultKind, ResultWishes
from node.domain.switch import Mode, Switch
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import LedgerBusy, ModelInvalid, SliceMissing, StoreFull
from node.ledger.cards import read_card
from node.ledger.jobs import RetryPolicy
from node.ledger.switches import SwitchLedger
from node.store.files import FileStore, Reserve
from node.store.paths import card_path
from tests.analyses import Case, xray_case
from tests.ledgers import NOON, Books, at, copy_ledger, make_facts, make_order
from tests.peers import wait_until
from workers.heartbeat import LeaseTerms
from workers.pipelines.base import Analysis
from workers.radiograph import read_radiograph
from workers.runner import JobRunner, WarmPipeline, Workshop

TERMS = LeaseTerms(
    lease_s=60.0, heartbeat_s=5.0, retry=RetryPolicy(max_attempts=3, pause_s=5.0), alarm=lambda seconds: None
)
CANARY = "Canary^Patient"


@dataclass
class StubPipeline:
    """A Pipeline that says what a test wants; `meanwhile` happens while it works."""

    answer: Analysis
    meanwhile: Callable[[], object] = lambda: None
    seen: list[Mapping[str, Sequence[Dataset]]] = field(default_factory=list)

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> None:
        self.seen.append(inputs)

    def analyze(self, prepared: None) -> Analysis:
        self.meanwhile()
        return self.answer


class Bench:
    """A worker, its ledger and its store, with one chest X-ray to be read."""

    def __init__(self, folder: Path) -> None:
        self.case: Case = xray_case()
        self.books = Books(copy_ledger(folder))
        self.store = FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=0.0))
        self.pipeline = StubPipeline(self.case.analysis)
        self.card = self.case.provenance.model
        self.now: datetime = NOON
        self.source = self.case.inputs["image"][0]
        self.study = StudyUID(str(self.source.StudyInstanceUID))
        self.job = self._order(self.source)

    def runner(
        self,
        owner: str = "host:1",
        *,
        warm: Callable[[str], WarmPipeline] | None = None,
        terms: LeaseTerms = TERMS,
    ) -> JobRunner:
        shelf = WarmPipeline(pipeline=self.pipeline, card=self.card)
        workshop = Workshop(
            ledger=self.books.jobs,
            store=self.store,
            warm=warm or (lambda name: shelf),
            time_limit_s=lambda name: 600.0,
            wishes=lambda order: ResultWishes(),
            terms=terms,
            owner=owner,
            node_aet="RADNODE",
            rejects_superseded=False,
            dates_by_inputs=False,
            software_version="1.0.0",
            clock=lambda: self.now,
        )
        return JobRunner(workshop)

    def run(self) -> Job:
        assert self.runner().run_job(self.job.job_id) is True
        return self.books.find(self.job)

    def add_image(self, sop_instance_uid: str, *, now: datetime) -> Job:
        """Take a second image into the same Series, and order a Job on it alone."""
        ds = dcmread(self.store.path(f"instances/{self.source.SOPInstanceUID}.dcm"))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
        ds.SeriesInstanceUID = f"{sop_instance_uid}.1"
        self.now = now
        return self._order(ds)

    def _order(self, ds: Dataset) -> Job:
        content = BytesIO()
        dcmwrite(content, ds, enforce_file_format=True)
        uid, series = InstanceUID(str(ds.SOPInstanceUID)), SeriesUID(str(ds.SeriesInstanceUID))
        facts = replace(
            make_facts(study=self.study, received_at=self.now),
            sop_instance_uid=uid,
            series_instance_uid=series,
            path=f"instances/{uid}.dcm",
            digest=f"digest of {uid}",
        )
        self.store.put(facts.path, content.getvalue())
        self.books.instances.record_instance(facts)
        order = replace(
            make_order(study=self.study, pipeline="chest_xray"),
            model=self.case.provenance.model.name,
            model_version=self.case.provenance.model.version,
            inputs={"image": series},
            content=digest_inputs({"image": [uid]}),
        )
        self.books.route(order, study=self.study, now=self.now)
        *_, job = self.books.view.study_story(self.study).jobs
        return job


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.books.close()


def fail_with(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def test_a_job_ends_completed_with_results_that_lie_in_the_store(bench: Bench) -> None:
    end = bench.run()
    assert (end.state, end.reason_code) == (JobState.COMPLETED, None)
    assert [finding["label"] for finding in end.findings] == ["Pneumonia"]
    assert set(end.seconds) == {"prepare", "infer", "encode"}
    assert set(end.stages["prepare"]) >= {"fetch"}
    assert set(end.stages["encode"]) >= {"write", "prove", "store"}
    result, _picture = bench.books.jobs.results_of(end.job_id)
    content = bench.store.read(result.path)
    assert (result.kind, result.size_bytes) == (ResultKind.SR, len(content))
    assert result.sha256 == hashlib.sha256(content).hexdigest()
    assert dcmread(BytesIO(content)).SOPInstanceUID == result.sop_instance_uid
    assert [d.path for d in bench.books.deliveries.due_deliveries("pacs", at(1), 9)] == [result.path]


def test_the_pipeline_is_handed_the_instances_by_role(bench: Bench) -> None:
    bench.run()
    ((role, datasets),) = bench.pipeline.seen[0].items()
    assert (role, [ds.SOPInstanceUID for ds in datasets]) == ("image", [bench.source.SOPInstanceUID])


def test_a_job_that_is_done_is_not_run_again(bench: Bench) -> None:
    bench.run()
    assert bench.runner().run_job(bench.job.job_id) is False
    assert len(bench.pipeline.seen) == 1


def test_a_series_that_must_not_be_read_cancels_the_job_with_its_code(bench: Bench) -> None:
    bench.pipeline.meanwhile = fail_with(SliceMissing("series 1.2.3: 2 gaps of 5.0 mm"))
    end = bench.run()
    assert (end.state, end.reason_code, end.reason_text) == (
        JobState.CANCELED,
        "slice-missing",
        "series 1.2.3: 2 gaps of 5.0 mm",
    )
    assert bench.books.jobs.results_of(end.job_id) == ()


def test_what_may_pass_schedules_the_job_again(bench: Bench) -> None:
    bench.pipeline.meanwhile = fail_with(StoreFull("store has 1 byte free"))
    end = bench.run()
    assert (end.state, end.reason_code, end.not_before) == (JobState.SCHEDULED, "store-full", at(5))


def test_a_ledger_that_takes_no_end_of_an_attempt_is_no_fault_of_ours(bench: Bench, tmp_path: Path) -> None:
    """A full volume strikes twice: first the store, then the ledger that is to be told of it."""
    holder, bench.books = bench.books, Books(copy_ledger(tmp_path), busy_timeout_s=0.05)

    def fill_up() -> None:
        lock.enter_context(holder.instances.writing())
        raise StoreFull("store has 1 byte free")

    bench.pipeline.meanwhile = fill_up
    with ExitStack() as lock, pytest.raises(LedgerBusy):
        bench.run()
    end = bench.books.find(bench.job)
    assert (end.state, end.reason_code) == (JobState.IN_PROGRESS, None)
    holder.close()


def test_a_fault_of_ours_is_broken_and_says_nothing_of_the_patient(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.pipeline.meanwhile = fail_with(KeyError(CANARY))
    with caplog.at_level(logging.ERROR, logger="workers.runner"):
        end = bench.run()
    assert (end.state, end.reason_code) == (JobState.SCHEDULED, "broken")
    assert CANARY not in (end.reason_text or "")
    assert [record.getMessage() for record in caplog.records] == ["broken job"]


def test_a_job_that_is_always_broken_is_canceled_at_the_third_attempt(bench: Bench) -> None:
    bench.pipeline.meanwhile = fail_with(RuntimeError("a fault of ours"))
    for second in (0, 100):
        bench.now = at(second)
        assert bench.run().state is JobState.SCHEDULED
    bench.now = at(200)
    end = bench.run()
    assert (end.state, end.attempts, end.reason_code) == (JobState.CANCELED, 3, "broken")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out-of-memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out-of-memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "out-of-memory",
        ),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "device-failed"),
        (RuntimeError("CUDA error: unspecified launch failure"), "device-failed"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device-failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_process_without_memory_or_device_fails_the_attempt_and_is_spent(
    bench: Bench, error: Exception, code: str
) -> None:
    bench.pipeline.meanwhile = fail_with(error)
    runner = bench.runner()
    assert runner.run_job(bench.job.job_id) is True
    end = bench.books.find(bench.job)
    assert (end.state, end.reason_code, end.attempts, runner.is_spent) == (JobState.SCHEDULED, code, 1, True)
    bench.now = at(999)
    assert runner.run_all() == 0


def test_memory_that_is_always_short_cancels_the_job(bench: Bench) -> None:
    bench.pipeline.meanwhile = fail_with(MemoryError())
    for second in (0, 100, 200):
        bench.now = at(second)
        bench.run()
    end = bench.books.find(bench.job)
    assert (end.state, end.reason_code, end.attempts) == (JobState.CANCELED, "out-of-memory", 3)


@pytest.mark.parametrize("key", ["version", "name"])
def test_another_model_than_the_one_ordered_gives_the_job_back_unread(bench: Bench, key: str) -> None:
    changed: dict[str, Any] = {key: "9.9.9"}
    bench.card = replace(bench.card, **changed)
    for second in (0, 60, 120, 180):
        bench.now = at(second)
        end = bench.run()
        assert (end.state, end.reason_code, end.attempts) == (JobState.SCHEDULED, "model-changed", 0)
        assert end.not_before == at(second + 60)
    assert bench.pipeline.seen == []
    assert bench.books.kinds(study=bench.study).count("job-given-back") == 1
    assert "9.9.9" in (bench.books.find(bench.job).reason_text or "")


def test_a_job_that_is_canceled_while_it_works_stops_before_its_next_stage(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The heart finds it out; the encoder, which would write to the store, is never asked."""
    runner = bench.runner(terms=replace(TERMS, heartbeat_s=0.01))

    def cancel() -> None:
        bench.books.interventions.cancel_job(bench.job.job_id, ordered_by="a reader", now=at(1))
        wait_until(lambda: "lease lost while working" in caplog.messages, what="a beat", limit_s=20.0)

    bench.pipeline.meanwhile = cancel
    runner.run_job(bench.job.job_id)
    assert bench.books.find(bench.job).reason_code == "canceled-by-hand"
    assert [path.name for path in tmp_path.rglob("*.dcm")] == [f"{bench.source.SOPInstanceUID}.dcm"]


def test_a_model_that_cannot_be_loaded_fails_the_attempt_with_its_code(bench: Bench) -> None:
    def warm(name: str) -> WarmPipeline:
        raise ModelInvalid(f"model of {name} is damaged")

    bench.runner(warm=warm).run_job(bench.job.job_id)
    assert bench.books.find(bench.job).reason_code == "model-invalid"


def test_an_answer_that_contradicts_itself_never_leaves(bench: Bench) -> None:
    wrong = Finding(label="Pneumonia", code=bench.case.analysis.findings[0].code, segment_number=7, confidence=0.9)
    bench.pipeline.answer = replace(bench.case.analysis, findings=(wrong, wrong), reference=None)
    end = bench.run()
    assert end.state is not JobState.COMPLETED
    assert bench.books.deliveries.due_deliveries("pacs", at(99), 9) == ()


def test_an_image_that_came_late_is_noticed_before_anything_is_read(bench: Bench) -> None:
    facts = bench.books.jobs.input_instances(bench.job)["image"][0]
    late = replace(facts, sop_instance_uid=InstanceUID("1.9.9"), path="instances/1.9.9.dcm", digest="late")
    bench.books.instances.record_instance(late)
    end = bench.run()
    assert (end.state, end.reason_code) == (JobState.SCHEDULED, "study-changed")
    assert bench.pipeline.seen == []


def test_a_worker_that_lost_its_lease_changes_nothing_that_another_finished(bench: Bench) -> None:
    """The slow worker's answer differs; what was finished, and its bytes, stay."""
    fast = bench.runner("fast")

    def lose_the_lease() -> None:
        bench.pipeline.meanwhile = lambda: None
        bench.books.jobs.reap_expired(at(60), TERMS.retry)
        bench.now = at(100)
        assert fast.run_job(bench.job.job_id) is True
        bench.pipeline.answer = replace(bench.case.analysis, notes=("Another sentence.",))

    bench.pipeline.meanwhile = lose_the_lease
    end = bench.run()
    assert (end.state, end.lease_owner, end.attempts) == (JobState.COMPLETED, "fast", 2)
    result, _picture = bench.books.jobs.results_of(end.job_id)
    assert hashlib.sha256(bench.store.read(result.path)).hexdigest() == result.sha256
    assert len(bench.books.deliveries.due_deliveries("pacs", at(999), 9)) == 1
    # A ledger that is made anew from what lies in the store must not take the slow worker's word.
    assert bench.store.path(card_path(bench.study, end.job_id, name="3")).exists()
    assert not bench.store.path(card_path(bench.study, end.job_id, name="1")).exists()


def test_the_card_of_a_job_that_was_switched_into_shadow_says_so(bench: Bench) -> None:
    def switch() -> None:
        wanted = Switch(
            pipeline=bench.job.order.pipeline, mode=Mode.SHADOW, changed_by="kim", changed_at=bench.now, reason=""
        )
        SwitchLedger(bench.books.engine).switch_pipeline(wanted)

    bench.pipeline.meanwhile = switch
    end = bench.run()
    card = read_card(bench.store.read(card_path(bench.study, end.job_id, name=str(end.fence))))
    assert (end.state, end.order.is_shadow, card.job["is_shadow"]) == (JobState.COMPLETED, True, True)


def test_a_new_answer_names_the_report_that_it_replaces(bench: Bench) -> None:
    first = bench.run()
    earlier, _picture = bench.books.jobs.results_of(first.job_id)
    bench.job = bench.add_image("1.2.840.9.1", now=at(50))
    bench.pipeline.answer = replace(bench.case.analysis, radiograph=read_radiograph(_second(bench)))
    second = bench.run()
    assert (second.state, second.supersedes) == (JobState.COMPLETED, first.job_id)
    later, _picture = bench.books.jobs.results_of(second.job_id)
    report = dcmread(bench.store.path(later.path))
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == earlier.sop_instance_uid
    assert later.sop_instance_uid != earlier.sop_instance_uid


def test_without_a_broker_every_waiting_job_is_run(bench: Bench) -> None:
    assert bench.runner().run_all() == 1
    assert bench.runner().run_all() == 0


def _second(bench: Bench) -> Dataset:
    return dcmread(bench.store.path("instances/1.2.840.9.1.dcm"))
