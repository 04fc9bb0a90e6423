"""Faults of workers: killed, crashed, hung, without memory or device, told to end, upgraded; RELIABILITY's "Process".

The node and its broker are real; so is the worker, but for a Pipeline that does what a Study tells it
(`tests/crooked_worker.py`). Processes die as the kernel lets them.
"""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copytree

import psutil
import pytest
from pydicom import Dataset
from pydicom.uid import UID

from node.domain.job import Job, JobState
from node.domain.result import DeliveryState
from node.ledger.views import StudyStory
from node.models import MODEL_FILE, SHIPPED_MODELS
from node.rehearsal.modality import send
from node.rehearsal.pacs import WELL_BEHAVED, Misbehavior, SimulatedPacs
from tests.node_process import QUICK, Launch, NodeProcess, destination_table, plain_environment, run_radnode
from tests.peers import wait_until
from tests.phantoms import small_chest_xray

LIMIT_S = 120.0
SHIPPED = "cxr-pneumonia"
ROOT = Path(__file__).resolve().parents[3]
SETTINGS = """
[pipelines.chest_xray]
model = "cxr-pneumonia"
optional_results = []
time_limit_s = 120.0

[models]
dirs = ["{models}"]

"""


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is harmed here is no receiver."""


@dataclass
class Ward:
    """A node without a worker, the PACS behind it, and the workers that tests start beside it."""

    folder: Path
    node: NodeProcess
    pacs: SimulatedPacs
    workers: ExitStack
    sent: int = field(default=0)
    staff: "psutil.Popen | None" = field(default=None)

    @property
    def models(self) -> Path:
        """Where the site's own models lie."""
        return self.folder / "models"

    @property
    def scratch(self) -> Path:
        """Where the crooked Pipeline leaves word."""
        return self.folder / "scratch"

    @property
    def worker(self) -> psutil.Popen:
        """The worker that tests share, as long as it lives."""
        if self.staff is None or not self.staff.is_running():
            self.staff = self.hire()
        return self.staff

    def hire(self, *, processes: int = 1, **environment: str) -> psutil.Popen:
        """Start a crooked worker; it is killed at the end."""
        command = [sys.executable, "-m", "tests.crooked_worker", "--settings", str(self.node.file)]
        command += ["--scratch", str(self.scratch), "--processes", str(processes)]
        with (self.folder / "worker.log").open("ab") as log:
            worker = psutil.Popen(command, stdout=log, stderr=log, env={**plain_environment(), **environment}, cwd=ROOT)
        self.workers.callback(dismiss, worker)
        return worker

    @contextmanager
    def hired(self, *, processes: int = 1, **environment: str) -> Iterator[psutil.Popen]:
        """Start a crooked worker that ends with the block."""
        worker = self.hire(processes=processes, **environment)
        try:
            yield worker
        finally:
            dismiss(worker)

    def send(self, description: str) -> str:
        """Send a film that asks for a deed; returns its Study Instance UID."""
        self.sent += 1
        ds = make_film(description, number=self.sent)
        assert not send([ds], self.node.peer).failed
        return str(ds.StudyInstanceUID)

    def wait_until_begun(self, description: str) -> None:
        """Return when the Pipeline has begun with the deed."""
        wait_until((self.scratch / f"began {description}").exists, what=f"begin of {description}", limit_s=LIMIT_S)

    def let(self, name: str) -> None:
        """Let go on who waits for `name`."""
        (self.scratch / name).touch()

    def job_of(self, study: str) -> Job:
        """Return the one Job of a Study as it is."""
        (job,) = self.node.wait_for_study(study, lambda story: story.jobs, limit_s=LIMIT_S).jobs
        return job

    def wait_for_end(self, study: str) -> StudyStory:
        """Return the story of a Study whose Job has ended."""
        return self.node.wait_for_study(study, lambda story: story.jobs and story.is_finished, limit_s=LIMIT_S)

    def wait_until_runs(self, study: str) -> Job:
        """Return the Job of a Study once a worker has it."""

        def running() -> Job | None:
            job = self.job_of(study)
            return job if job.state is JobState.IN_PROGRESS else None

        return wait_until(running, what="a running Job", limit_s=LIMIT_S)

    def told(self, study: str) -> str:
        """Return what `radnode studies show` tells a person."""
        shown = run_radnode("studies", "show", study, "--settings", self.node.file)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout

    def assert_answered(self, study: str, *, attempts: int) -> StudyStory:
        """Wait for the end of a Study, and compare what the PACS has of it with one Result set."""
        story = self.wait_for_end(study)
        (job,) = story.jobs
        assert (job.state, job.attempts) == (JobState.COMPLETED, attempts), (job.reason_text, self.log())
        received = [one for one in self.pacs.record.received if one.study_instance_uid == study]
        assert [one.sop_instance_uid for one in received] == [
            result.sop_instance_uid for result in story.results if not result.is_substitute
        ]
        return story

    def log(self) -> str:
        """Return the last of what the workers wrote."""
        return (self.folder / "worker.log").read_text()[-3000:]


def make_film(description: str, *, number: int) -> Dataset:
    ds = deepcopy(small_chest_xray(with_opacity=False).dataset)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, UID(f"{ds[keyword].value}.{number}"))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesDescription = description
    return ds


def dismiss(worker: psutil.Popen) -> None:
    family = [worker, *worker.children(recursive=True)] if worker.is_running() else [worker]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    worker.wait()


def pool_of(worker: psutil.Popen) -> list[psutil.Process]:
    return list(worker.children())


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended and was not waited for does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def living(family: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return who of them runs."""
    return [process for process in family if is_alive(process)]


def is_one_left(pool: list[psutil.Process]) -> bool:
    """Return whether all but one have ended."""
    return len(living(pool)) == 1


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    for name in ("node", "scratch", "models"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        pacs = stack.enter_context(SimulatedPacs(folder / "pacs"))
        settings = QUICK + SETTINGS.format(models=folder / "models") + destination_table(pacs.peer)
        node = stack.enter_context(NodeProcess(folder / "node", settings, launch=Launch(verb="serve")))
        workers = stack.enter_context(ExitStack())
        yield Ward(folder=folder, node=node, pacs=pacs, workers=workers)


def test_poison_is_quarantined_after_three_starts_while_others_go_on(ward: Ward) -> None:
    worker = ward.worker
    poison = ward.send("segfault")
    ward.assert_answered(ward.send(""), attempts=1)
    (job,) = ward.wait_for_end(poison).jobs
    assert (job.state, job.attempts, job.reason_code) == (JobState.CANCELED, 3, "worker-lost")
    assert "signal 11 (SIGSEGV); 3 attempts are used up" in " ".join(ward.told(poison).split())
    ward.assert_answered(ward.send(""), attempts=1)
    assert worker.is_running()


@pytest.mark.parametrize(("deed", "code"), [("devour", "out-of-memory"), ("break device", "device-failed")])
def test_a_process_without_memory_or_device_is_replaced(ward: Ward, deed: str, code: str) -> None:
    ward.wait_for_end(ward.send(""))
    (before,) = pool_of(ward.worker)
    story = ward.assert_answered(ward.send(f"once {deed}"), attempts=2)
    failed = next(event for event in story.events if event.kind == "job-attempt-failed")
    assert failed.text.startswith(f"{code}: ")
    assert not before.is_running()


def test_jobs_end_while_the_pacs_is_down_and_it_has_all_of_them_when_it_returns(ward: Ward) -> None:
    """The queue of the device never waits for a PACS."""
    assert ward.worker.is_running()
    ward.pacs.change(Misbehavior(is_down=True))
    studies = [ward.send("") for _ in range(3)]
    for study in studies:
        story = ward.node.wait_for_study(study, waits_for_pacs, limit_s=LIMIT_S)
        assert [job.state for job in story.jobs] == [JobState.COMPLETED]
    ward.pacs.change(WELL_BEHAVED)
    for study in studies:
        ward.assert_answered(study, attempts=1)


def waits_for_pacs(story: StudyStory) -> bool:
    """Return whether each Delivery of a Study waits because its Destination is down."""
    return {(d.state, d.reason_code) for d in story.deliveries} == {(DeliveryState.PENDING, "destination-down")}


def test_a_killed_process_costs_one_attempt_and_no_lease(ward: Ward) -> None:
    worker = ward.worker
    study = ward.send("once wait for nobody")
    ward.wait_until_begun("once wait for nobody")
    job = ward.wait_until_runs(study)
    for process in pool_of(worker):
        process.kill()
    story = ward.assert_answered(study, attempts=2)
    failed = next(event for event in story.events if event.kind == "job-attempt-failed")
    assert "signal 9 (SIGKILL)" in failed.text
    assert job.lease_expires_at is not None
    assert failed.at < job.lease_expires_at


@pytest.mark.thorough
def test_a_person_cancels_a_running_job_and_tries_it_again(ward: Ward) -> None:
    assert ward.worker.is_running()
    study = ward.send("once wait for the person")
    ward.wait_until_begun("once wait for the person")
    job = ward.wait_until_runs(study)
    command = ("jobs", "cancel", job.job_id, "--reason", "sent by mistake", "--settings", ward.node.file)
    assert run_radnode(*command).returncode == 0
    again = run_radnode(*command)
    assert (again.returncode, "only a Job that waits or runs" in again.stderr) == (2, True)
    ward.let("the person")
    ward.assert_answered(ward.send(""), attempts=1)
    assert ward.job_of(study).reason_code == "canceled-by-hand"
    assert "sent by mistake" in " ".join(ward.told(study).split())
    assert run_radnode("jobs", "retry", job.job_id, "--settings", ward.node.file).returncode == 0
    ward.assert_answered(study, attempts=1)


def test_a_worker_that_lost_its_lease_changes_nothing(ward: Ward) -> None:
    """It is stopped as by a machine that sleeps, past its lease; another one answers; then it goes on."""
    slow = ward.worker
    study = ward.send("once wait for the morning")
    ward.wait_until_begun("once wait for the morning")
    family = [slow, *pool_of(slow)]
    for process in family:
        process.suspend()
    with ward.hired():
        story = ward.assert_answered(study, attempts=2)
        ward.let("the morning")
        for process in family:
            process.resume()
        wait_until(lambda: "lease-lost" in ward.log() or None, what="a dropped answer", limit_s=LIMIT_S)
    after = ward.assert_answered(study, attempts=2)
    assert (after.jobs, after.results) == (story.jobs, story.results)


def test_sigterm_lets_a_short_job_end(ward: Ward) -> None:
    worker = ward.worker
    study = ward.send("wait for the signal")
    ward.wait_until_begun("wait for the signal")
    worker.send_signal(signal.SIGTERM)
    ward.let("the signal")
    assert worker.wait(LIMIT_S) == 0
    ward.assert_answered(study, attempts=1)


def test_sigterm_gives_a_long_job_back_at_no_cost(ward: Ward) -> None:
    study = ward.send("once wait for the end")
    with ward.hired(RADNODE__DISPATCH__DRAIN_SECONDS="1") as worker:
        ward.wait_until_begun("once wait for the end")
        family = pool_of(worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30.0) == 0
    assert not living(family)
    job = ward.job_of(study)
    assert (job.state, job.attempts, job.reason_code) == (JobState.SCHEDULED, 0, "worker-ended")
    assert ward.worker.is_running()
    ward.assert_answered(study, attempts=1)
    dismiss(ward.worker)


def test_a_hung_job_is_ended_at_its_time_limit_and_only_it(ward: Ward) -> None:
    """One lets the other threads of its process run while it hangs, one does not; the process beside it goes on."""
    pipelines = '{ chest_xray = { model = "cxr-pneumonia", optional_results = [], time_limit_s = 12.0 } }'
    # Longer than the time limit, or a Job that stops the heart would be taken for one whose worker is lost.
    lease = {"RADNODE__DISPATCH__LEASE_SECONDS": "60"}
    with ward.hired(processes=2, RADNODE__PIPELINES=pipelines, **lease) as worker:
        for deed in ("hang in C", "hang"):
            study = ward.send(f"once {deed}")
            ward.wait_until_begun(f"once {deed}")
            pool = pool_of(worker)
            ward.assert_answered(ward.send(""), attempts=1)
            story = ward.assert_answered(study, attempts=2)
            failed = next(event for event in story.events if event.kind == "job-attempt-failed")
            assert failed.text.startswith("time-limit: "), (deed, failed.text)
            wait_until(partial(is_one_left, pool), what="one process of two", limit_s=LIMIT_S)


def put_model(ward: Ward, *, version: str) -> None:
    """Install the shipped model under another version, where the site's own lie."""
    folder = ward.models / SHIPPED
    if not folder.exists():
        copytree(SHIPPED_MODELS / SHIPPED, folder)
    text = (SHIPPED_MODELS / SHIPPED / MODEL_FILE).read_text()
    (shipped,) = [line for line in text.splitlines() if line.startswith("version = ")]
    (folder / MODEL_FILE).write_text(text.replace(shipped, f'version = "{version}"'))


@pytest.mark.thorough
def test_open_jobs_are_told_of_an_upgrade_and_answered_by_the_new_model(ward: Ward) -> None:
    """The model is replaced under a node that runs: until it is restarted, nobody answers what it orders."""
    if ward.staff is not None:  # or it would answer before
        dismiss(ward.staff)
    study = ward.send("")
    ordered = ward.job_of(study)
    put_model(ward, version="9.9.9")
    assert ward.worker.is_running()

    def is_refused() -> bool:
        return ward.job_of(study).reason_code == "model-changed"

    wait_until(is_refused, what="a Job that is not answered by another model", limit_s=LIMIT_S)
    assert ward.job_of(study).attempts == 0
    ward.node.stop()
    ward.node.start()
    story = ward.assert_answered(study, attempts=1)
    assert story.jobs[0].order.model_version == "9.9.9" != ordered.order.model_version
    assert "job-reordered" in [event.kind for event in story.events]
    dismiss(ward.worker)


def test_a_worker_without_its_device_ends_and_takes_no_job(ward: Ward) -> None:
    study = ward.send("")
    assert ward.job_of(study).state is JobState.SCHEDULED
    command = [sys.executable, "-m", "node", "worker", "--device", "cuda:7", "--settings", str(ward.node.file)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=plain_environment(), check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "radnode worker: device cuda:7 cannot be used" in ended.stderr
    assert (ward.job_of(study).attempts, ward.job_of(study).state) == (0, JobState.SCHEDULED)
