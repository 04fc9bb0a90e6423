"""A rule that wants an earlier Study: the Job waits for it, reads it, and is asked anew when it comes late."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from node.assembly import Assembly
from node.domain.completeness import Evidence, Terms
from node.domain.fetch import Ending, Fetched, FetchReason, FetchState, FoundSeries, FoundStudy, Retrieve
from node.domain.fetch_terms import FetchTerms
from node.domain.job import Job, JobState
from node.domain.result import ResultKind, ResultWishes
from node.domain.uids import StudyUID, derive_uid
from node.errors import DestinationDown
from node.header.scan import scan_file
from node.intake.adoption import arrival_of_file
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.landing import Quay
from node.ledger.fetches import FetchLedger
from node.ledger.jobs import RetryPolicy
from node.ledger.priors import PriorLedger
from node.peers.peer import DestinationSpec
from node.prior_waits import PriorWaits
from node.pulling.fetcher import Fetcher
from node.pulling.fetcher import Surroundings as Fetching
from node.pulling.prior_seeker import PriorSeeker, Search, Surroundings
from node.pulling.retrieval import Retrieval, open_retrieval
from node.pulling.search import open_search
from node.routing import Routing
from node.rules.explain import explain
from node.rules.grammar import parse_rules
from node.store.files import FileStore, Reserve
from tests.analyses import Ball, fill_ball, make_slices
from tests.growth import PIPELINE, GrowthPipeline, growth_card
from tests.ledgers import Books, assemble, at, copy_ledger
from tests.peers import Orthanc, web_of
from workers.heartbeat import LeaseTerms
from workers.runner import JobRunner, WarmPipeline, Workshop
from workers.volume import read_volume

RULES = """
[[rules]]
name = "CT: growth"
when = { modality = "CT" }
run = ["growth"]
priors = { from = "pacs", modality = "CT", not_older_than = "5 years", wait_seconds = 60 }
"""
TERMS = LeaseTerms(
    lease_s=60.0, heartbeat_s=5.0, retry=RetryPolicy(max_attempts=1, pause_s=5.0), alarm=lambda seconds: None
)
PRIOR = StudyUID(derive_uid("test", "prior", "study"))
SETTLES = Terms(heeded=frozenset(Evidence), after_association_s=0.0, while_open_s=0.0)


def slices_with(radius_mm: float, **elements: Any) -> list[Dataset]:
    """Return a chest CT with one bright ball."""
    made = make_slices(BodyPartExamined="CHEST", **elements)
    volume = read_volume(made)
    ball = fill_ball(volume, Ball(center_mm=volume.to_patient_mm((6, 30, 28)), radius_mm=radius_mm))
    for ds, region in zip(volume.datasets, ball, strict=True):
        pixels = np.frombuffer(ds.PixelData, np.uint16).reshape(region.shape).copy()
        pixels[region] = 1024 + 60
        ds.PixelData = pixels.tobytes()
    return made


def prior_slices(**changes: Any) -> list[Dataset]:
    """Return the same patient's chest of the year before, with a smaller ball."""
    told: dict[str, Any] = {"StudyInstanceUID": PRIOR, "StudyDate": "20240301", "AccessionNumber": "A-0"}
    made = slices_with(4.0, series="prior", **told, **changes)
    for number, ds in enumerate(made):
        ds.SOPInstanceUID = derive_uid("test", "prior", str(number))
    return made


class Archive:
    """What a peer answers to queries."""

    def __init__(self, *found: FoundStudy) -> None:
        self.found = found
        self.asked: list[Mapping[str, str]] = []
        self.is_down = False

    def find_studies(self, query: Mapping[str, str]) -> Sequence[FoundStudy]:
        if self.is_down:
            raise DestinationDown("pacs does not answer")
        self.asked.append(query)
        return self.found

    def find_series(self, study_instance_uid: StudyUID) -> Sequence[FoundSeries]:
        return ()


def told(**changes: Any) -> FoundStudy:
    """Return what the archive says of the prior."""
    says = {"patient_id": "T-1", "birth_date": "19620331", "study_date": "20240301", "modalities": ("CT",)}
    return FoundStudy(study_instance_uid=PRIOR, **{**says, **changes})


class Ward:
    """A node without its threads: each station is ticked by hand."""

    def __init__(self, folder: Path) -> None:
        self.now: datetime = at(0)
        self.folder = folder
        self.store = FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=0.0))
        self.card = growth_card(folder / "model")
        models = {PIPELINE: self.card}
        self.rules = parse_rules(
            tomllib.loads(RULES)["rules"], pipelines=models, destinations=("pacs",), peers=("pacs",)
        )
        self.archive = Archive(told())
        self.begin()

    def begin(self) -> None:
        """Begin a life: all that is known is what the ledger knows."""
        self.books = books = Books(copy_ledger(self.folder))
        self.intake = Intake(
            store=self.store,
            ledger=books.instances,
            clock=lambda: self.now,
            terms=IntakeTerms(own_results="store", max_instance_bytes=2**32),
        )
        self.assembly: Assembly = assemble(books, SETTLES)
        self.routing = Routing(books.studies, self.rules, {PIPELINE: self.card})
        self.priors = PriorLedger(books.engine)
        self.fetches = FetchLedger(books.engine)
        self.waits = PriorWaits(self.priors, call=lambda: None)

    def end(self) -> None:
        """End without a word, as a process that is killed does."""
        self.books.close()

    def take(self, slices: Sequence[Dataset], association: str) -> None:
        """Take in a Study, settle it and let the stations tick."""
        for ds in slices:
            content = BytesIO()
            dcmwrite(content, ds, enforce_file_format=True)
            header = scan_file(content.getvalue())
            self.intake.store_instance(
                content.getvalue()[header.data_set_offset :], arrival_of_file(header, association)
            )
        self.intake.association_ended(association)
        self.tick(1)

    def tick(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and every station of the ledger look."""
        self.now = at((self.now - at(0)).total_seconds() + seconds)
        self.assembly.tick(self.now)
        while any(station.tick(self.now) == self.now for station in (self.routing, self.waits)):
            pass

    def seek(self, opened: Callable[[], AbstractContextManager[Search]] | None = None) -> None:
        """Let the archive be asked, or a real one."""
        ask = opened or (lambda: nullcontext(self.archive))
        around = Surroundings(open_search=ask, committed=lambda: None, clock=lambda: self.now, chance=lambda: 0.5)
        PriorSeeker(peer="pacs", sources=frozenset({"pacs"}), ledger=self.priors, surroundings=around).tick(self.now)
        self.tick()

    def fetch(self, slices: Sequence[Dataset]) -> None:
        """Do what the fetcher does: begin, take in, end."""
        fetch = self.fetches.claim("pacs", reasons=[FetchReason.PRIOR], now=self.now)
        assert fetch is not None
        assert fetch.order.study_instance_uid == PRIOR
        self.take(slices, "fetched")
        state = FetchState.COMPLETED if slices else FetchState.CANCELED
        reason = None if slices else "destination-down"
        ending = Ending(state=state, fetched=Fetched(done=len(slices)), reason_code=reason, reason_text=reason)
        self.fetches.end(fetch, ending, now=self.now)
        self.tick()

    def fetch_really(self, spec: DestinationSpec) -> None:
        """Let the fetcher work off one order at a real archive."""
        with ThreadPoolExecutor(2) as closers:
            quay = Quay(intake=self.intake, association_prefix=lambda: "fetched", closers=closers)

            @contextmanager
            def open_peer() -> Iterator[Retrieval]:
                with quay.land(spec) as landing, open_retrieval(spec, landing, retrieve=Retrieve.AUTO) as retrieval:
                    yield retrieval

            around = Fetching(open_retrieval=open_peer, clock=lambda: self.now, chance=lambda: 0.0, ended=lambda: None)
            Fetcher(source="pacs", queue=self.fetches, terms=FetchTerms(), surroundings=around).tick(self.now)
        self.tick(1)

    def run(self) -> None:
        """Run what may start."""
        workshop = Workshop(
            ledger=self.books.jobs,
            store=self.store,
            warm=lambda name: WarmPipeline(pipeline=GrowthPipeline(), card=self.card),
            time_limit_s=lambda name: 600.0,
            wishes=lambda order: ResultWishes(),
            terms=TERMS,
            owner="host:1",
            node_aet="RADNODE",
            rejects_superseded=False,
            dates_by_inputs=False,
            software_version="1.0.0",
            clock=lambda: self.now,
        )
        JobRunner(workshop).run_all()

    def jobs(self) -> list[Job]:
        return list(self.books.view.study_story(self.study).jobs)

    def explained(self, study: StudyUID | None = None) -> str:
        """Return what `rules explain` says."""
        return "\n".join(explain(self.books.view.study_story(study or self.study).decisions))

    def report(self, job: Job) -> Dataset:
        (sr,) = (one for one in self.books.jobs.results_of(job.job_id) if one.kind is ResultKind.SR)
        return dcmread(self.store.path(sr.path))

    @property
    def study(self) -> StudyUID:
        return StudyUID(derive_uid("test", "study"))


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path)
    yield made
    made.end()


GREW = "The bright part was"


def test_a_job_waits_over_a_crash_for_its_prior_and_reads_it(ward: Ward) -> None:
    ward.take(slices_with(6.0), "pushed")
    (job,) = ward.jobs()
    assert (job.state, job.reason_code) == (JobState.SCHEDULED, "awaits-prior")
    assert (job.not_before - job.accepted_at).total_seconds() == 60
    assert "It waits for a prior from pacs, 60 s at most." in ward.explained()
    ward.run()
    ward.end()
    ward.begin()
    assert ward.jobs() == [job]
    ward.seek()
    assert ward.archive.asked == [
        {"PatientID": "T-1", "StudyDate": "20200115-20250114", "ModalitiesInStudy": "CT"},
    ]
    ward.fetch(prior_slices())
    ward.run()
    (done,) = ward.jobs()
    assert (done.job_id, done.state, done.reason_code) == (job.job_id, JobState.COMPLETED, None)
    assert done.order.prior_study_instance_uid == PRIOR
    assert done.order.content != job.order.content
    assert GREW in done.notes[0]
    was, becomes = (float(word) for word in done.notes[0].replace(".", " ").split() if word.isdecimal())
    assert was < becomes
    assert "With the prior of 2024-03-01." in ward.explained()
    sr = ward.report(done)
    assert [item.StudyInstanceUID for item in sr.CurrentRequestedProcedureEvidenceSequence] == [ward.study]
    (other,) = sr.PertinentOtherEvidenceSequence
    assert other.StudyInstanceUID == PRIOR
    assert len(other.ReferencedSeriesSequence[0].ReferencedSOPSequence) == len(prior_slices())


def test_a_prior_comes_from_a_real_archive(ward: Ward, tmp_path: Path) -> None:
    with Orthanc() as orthanc:
        spec = web_of(orthanc)
        for number, ds in enumerate(prior_slices()):
            path = tmp_path / f"{number}.dcm"
            dcmwrite(path, ds, enforce_file_format=True)
            orthanc.upload(path)
        ward.take(slices_with(6.0), "pushed")
        ward.seek(lambda: open_search(spec))
        ward.fetch_really(spec)
    ward.run()
    (done,) = ward.jobs()
    assert (done.state, done.order.prior_study_instance_uid) == (JobState.COMPLETED, PRIOR)
    assert GREW in done.notes[0]
    assert ward.books.view.study_story(PRIOR).jobs == ()


def test_a_study_that_is_fetched_as_prior_starts_nothing_unless_a_person_wants_it(ward: Ward) -> None:
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    ward.fetch(prior_slices())
    story = ward.books.view.study_story(PRIOR)
    assert story.jobs == ()
    assert "fetched as prior" in ward.explained(PRIOR)
    ward.books.interventions.reprocess(PRIOR, ordered_by="reader", now=ward.now)
    ward.tick()
    assert len(ward.books.view.study_story(PRIOR).jobs) == 1


def test_a_prior_that_comes_late_supersedes_the_answer_without_it(ward: Ward) -> None:
    ward.archive.is_down = True
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    ward.tick(61)
    assert "Without a prior: none came from pacs in 60 s" in ward.explained()
    ward.run()
    (first,) = ward.jobs()
    assert (first.state, first.notes) == (JobState.COMPLETED, ("There is no earlier Study to compare with.",))
    ward.archive.is_down = False
    ward.seek()
    ward.fetch(prior_slices())
    ward.run()
    _, second = sorted(ward.jobs(), key=lambda job: job.accepted_at)
    assert (second.state, second.supersedes) == (JobState.COMPLETED, first.job_id)
    assert GREW in second.notes[0]
    assert "With the prior of 2024-03-01, which came late." in ward.explained()
    assert ward.report(second).PredecessorDocumentsSequence[0].StudyInstanceUID == ward.study


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((), "Without a prior: none found at pacs."),
        ((told(study_date="20180101"),), "Without a prior: none found at pacs."),
        ((told(birth_date="19620330"),), "none found at pacs that may be read: its birth date differs."),
        ((told(patient_id="T-2"),), "none found at pacs that may be read: its Patient ID differs."),
        ((told(issuer="other hospital"),), "none found at pacs that may be read: the Study tells no Issuer"),
    ],
)
def test_without_a_prior_the_job_starts_at_once_and_says_why(
    ward: Ward, found: tuple[FoundStudy, ...], words: str
) -> None:
    ward.archive.found = found
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    assert words in ward.explained()
    (job,) = ward.jobs()
    assert (job.not_before, job.reason_code, list(job.order.inputs)) == (ward.now, None, ["ct"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PatientBirthDate": "19620330"}, "its birth date differs"),
        ({"PatientBirthDate": ""}, "it tells no birth date"),
        ({"IssuerOfPatientID": "other hospital"}, "the Study tells no Issuer of Patient ID"),
        ({"PatientID": "T-2"}, "its Patient ID differs"),
        ({"Modality": "MR"}, "does not meet modality = CT"),
    ],
)
def test_what_a_peer_sends_of_somebody_else_is_never_read(ward: Ward, changes: dict[str, str], words: str) -> None:
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    ward.fetch(prior_slices(**changes))
    assert words in ward.explained()
    (job,) = ward.jobs()
    assert (job.reason_code, list(job.order.inputs), job.order.prior_study_instance_uid) == (None, ["ct"], None)


def test_a_prior_that_does_not_come_whole_is_not_read(ward: Ward) -> None:
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    ward.fetch(())
    assert "Without a prior: it did not come from pacs (destination-down)." in ward.explained()
    assert [job.reason_code for job in ward.jobs()] == [None]


def test_a_prior_that_is_here_already_is_not_fetched(ward: Ward) -> None:
    ward.archive.found = ()
    ward.take(prior_slices(), "pushed before")
    ward.seek()
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    assert ward.fetches.claim("pacs", reasons=[FetchReason.PRIOR], now=ward.now) is None
    ward.run()
    (job,) = ward.jobs()
    assert job.order.prior_study_instance_uid == PRIOR
    assert GREW in job.notes[0]
    assert [job.notes for job in ward.books.view.study_story(PRIOR).jobs] == [
        ("There is no earlier Study to compare with.",)
    ]


def test_a_prior_that_changes_is_read_anew(ward: Ward) -> None:
    ward.take(slices_with(6.0), "pushed")
    ward.seek()
    slices = prior_slices()
    ordered = sorted(slices, key=lambda ds: float(ds.ImagePositionPatient[2]))
    ward.fetch(ordered[:-1])
    ward.run()
    ward.take(ordered[-1:], "late")
    ward.run()
    jobs = sorted(ward.jobs(), key=lambda job: job.accepted_at)
    assert [job.state for job in jobs] == [JobState.COMPLETED, JobState.COMPLETED]
    assert jobs[1].supersedes == jobs[0].job_id


def test_a_late_slice_while_it_waits_is_the_same_job(ward: Ward) -> None:
    slices = sorted(slices_with(6.0), key=lambda ds: float(ds.ImagePositionPatient[2]))
    ward.take(slices[:-1], "pushed")
    (before,) = ward.jobs()
    ward.take(slices[-1:], "late")
    (after,) = ward.jobs()
    assert (after.job_id, after.not_before, after.reason_code) == (before.job_id, before.not_before, "awaits-prior")
    assert after.order.content != before.order.content
    ward.seek()
    ward.fetch(prior_slices())
    ward.run()
    (done,) = ward.jobs()
    assert (done.state, done.order.prior_study_instance_uid) == (JobState.COMPLETED, PRIOR)
