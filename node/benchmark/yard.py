"""Broker, workers and node as processes of their own, before a ledger that is filled while no node runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

from node.benchmark.invented_backlog import PIPELINES
from node.benchmark.receivers import free_port, is_listening
from node.benchmark.usage import cpu_s, wait_until_calm
from node.broker import EmbeddedBroker
from node.children import end_child, end_with_parent
from node.domain.job import Job, JobState
from node.errors import Broken
from node.ledger.engine import Engine
from node.ledger.opening import open_ledger
from node.ledger.views import LedgerView
from node.offline import OfflineNode
from node.peers.peer import Peer
from node.peers.sender import send_files
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.workforce import spawn_worker

# After so long something has failed.
LIMIT_S = 1800.0
START_LIMIT_S = 60.0
STOP_S = 40.0
# How often the ledger is asked whether all is done.
LOOK_EVERY_S = 0.25
LOOK_FOR_BEGIN_S = 0.02
MANY = 100_000
Worker = subprocess.Popen[bytes]
Hire = Callable[[Settings], Sequence[Worker]]
KINDS: Mapping[str, str] = {pipeline: kind for kind, pipeline in PIPELINES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One Job from its order to its end.

    Attributes
    ----------
    kind
        As in `node.benchmark.invented_backlog`.
    owner
        The process that had it.
    stages
        Seconds by stage and part of it, as the worker noted them.
    answer
        Names what was found, to the last digit.
    """

    kind: str
    owner: str
    ordered_at: datetime
    begun_at: datetime
    ended_at: datetime
    stages: Mapping[tuple[str, str], float]
    answer: str

    @property
    def network_s(self) -> float:
        """How long its network had the device."""
        return self.stages.get(("infer", "network"), 0.0)

    @property
    def work_s(self) -> float:
        """How long a worker had it."""
        return (self.ended_at - self.begun_at).total_seconds()

    def since_s(self, at: datetime) -> float:
        """Return how long after `at` it ended."""
        return (self.ended_at - at).total_seconds()


class Yard:
    """Broker and workers that run, and nodes that come and go before the same ledger.

    Parameters
    ----------
    settings
        Shipped but for folder, port and broker, and what was added.
    """

    def __init__(self, settings: Settings, workers: Sequence[Worker], broker: EmbeddedBroker) -> None:
        self.settings = settings
        self._workers = workers
        self._broker = broker
        self._engine: Engine = open_ledger(settings)
        self.view = LedgerView(self._engine)
        self._ordered = 0

    @property
    def worker_cpu_s(self) -> float:
        """Processor time of the workers and of everything below them."""
        return sum(cpu_s(worker.pid) for worker in self._workers)

    @property
    def broker_cpu_s(self) -> float:
        """Processor time of the broker."""
        return 0.0 if self._broker.pid is None else cpu_s(self._broker.pid)

    def take_in(self, studies: Sequence[Sequence[Path]]) -> None:
        """Receive, settle and route Studies, so that Jobs wait in the ledger; to be called while no node runs.

        Raises
        ------
        Broken
            If something of them is refused.
        """
        # What is written here is no part of what is measured.
        quick = self.settings.store.model_copy(update={"durability": "none"})
        node = OfflineNode(self.settings.model_copy(update={"store": quick}))
        try:
            refused = list(node.take_in([file for study in studies for file in study]))
            if refused:
                raise Broken(f"{len(refused)} Instances of the backlog were refused ({refused[0].code})")
            node.route()
        finally:
            node.close()
        self._ordered += len(studies)

    @contextmanager
    def node(self, *, ageing_s: float | None = None) -> Iterator["RunningNode"]:
        """Run a node, which rings for what waits; gives it when it was started.

        Parameters
        ----------
        ageing_s
            `dispatch.ageing_seconds`; None: as shipped.
        """
        settings = self.settings
        if ageing_s is not None:
            dispatch = settings.dispatch.model_copy(update={"ageing_seconds": ageing_s})
            settings = settings.model_copy(update={"dispatch": dispatch})
        command = [sys.executable, "-m", "node", "serve"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **settings.as_environment()},
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
        try:
            yield RunningNode(process=process, peer=_peer(settings))
        finally:
            end_child(process, timeout_s=STOP_S)

    def send(self, files: Sequence[Path], peer: Peer) -> None:
        """Send one Study to a node that runs.

        Raises
        ------
        Broken
            If it does not take all of it.
        """
        if send_files(files, peer).failed:
            raise Broken("the node did not take what was sent; its log is on standard error")
        self._ordered += 1

    def is_waiting(self, kind: str) -> bool:
        """Return whether a Job of this kind has not begun."""
        waiting = self.view.list_jobs(state=JobState.SCHEDULED, limit=MANY)
        return any(KINDS[job.order.pipeline] == kind for job in waiting)

    def wait_until_begun(self) -> None:
        """Return when a worker has taken the first Job.

        Raises
        ------
        Broken
            If that takes too long.
        """
        until_s = monotonic() + START_LIMIT_S
        while not self.view.list_jobs(state=JobState.IN_PROGRESS, limit=1):
            if monotonic() > until_s:
                raise Broken("no worker takes a Job; the log of node and worker is on standard error")
            sleep(LOOK_FOR_BEGIN_S)

    def wait_until_done(self) -> None:
        """Return when a Job of each Study has ended.

        Raises
        ------
        Broken
            If that takes too long, or the worker has ended.
        """
        until_s = monotonic() + LIMIT_S
        while not self._is_idle():
            if monotonic() > until_s or any(worker.poll() is not None for worker in self._workers):
                raise Broken("the backlog does not get done; the log of node and worker is on standard error")
            sleep(LOOK_EVERY_S)

    def served_since(self, at: datetime) -> Sequence[Served]:
        """Return the Jobs that ended after `at`, in the order in which they began.

        Raises
        ------
        Broken
            If one of them was not answered.
        """
        jobs = [job for job in self.view.list_jobs(state=None, limit=MANY) if job.finished_at and job.finished_at > at]
        if any(job.state is not JobState.COMPLETED for job in jobs):
            raise Broken("Jobs of the backlog were refused or failed; the log of the worker is on standard error")
        return sorted((self._served(job) for job in jobs), key=lambda one: one.begun_at)

    def close(self) -> None:
        """Let go of the ledger."""
        self._engine.dispose()

    def _is_idle(self) -> bool:
        states = (JobState.SCHEDULED, JobState.IN_PROGRESS)
        if any(self.view.list_jobs(state=state, limit=1) for state in states):
            return False
        return len(self.view.list_jobs(state=None, limit=MANY)) >= self._ordered

    def _served(self, job: Job) -> Served:
        begun_at = next(event.at for event in self.view.job_events(job) if event.kind == "job-started")
        if job.finished_at is None:
            raise Broken(f"job {job.job_id} has no end")
        return Served(
            kind=KINDS[job.order.pipeline],
            owner=job.lease_owner or "",
            ordered_at=job.accepted_at,
            begun_at=begun_at,
            ended_at=job.finished_at,
            stages=_parts(job),
            answer=sha256(json.dumps(job.findings, sort_keys=True).encode()).hexdigest(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """A node as a process."""

    process: Worker
    peer: Peer

    @property
    def cpu_s(self) -> float:
        """Processor time of the node and of everything below it, since it was started."""
        return cpu_s(self.process.pid)

    def wait_until_listening(self) -> None:
        """Return when it takes connections.

        Raises
        ------
        Broken
            If that takes too long.
        """
        until_s = monotonic() + START_LIMIT_S
        while not is_listening(self.peer.port):
            if monotonic() > until_s:
                raise Broken("the node does not listen; its log is on standard error")
            sleep(LOOK_EVERY_S)


def _parts(job: Job) -> Mapping[tuple[str, str], float]:
    """Return seconds by stage and part; of a stage that has no parts the whole."""
    whole = {(name, ""): seconds for name, seconds in job.seconds.items() if name not in job.stages}
    return whole | {(name, part): took for name, parts in job.stages.items() for part, took in parts.items()}


@contextmanager
def open_yard(folder: Path, hire: Hire, *, added: str = "") -> Iterator[Yard]:
    """Start broker and workers before an empty ledger, and end them; the workers are ready when it is given.

    Parameters
    ----------
    folder
        Does not exist; it is gone afterwards.
    hire
        Starts the workers.
    added
        Further settings, as TOML.
    """
    folder.mkdir(parents=True)
    broker = EmbeddedBroker(folder / "broker")
    settings = load_settings(_write_settings(folder, broker.url, added), {})
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(broker.stop)
        broker.start()
        workers = hire(settings)
        for worker in workers:
            stack.callback(end_child, worker, timeout_s=STOP_S)
        yard = stack.enter_context(closing(Yard(settings, workers, broker)))
        # They load their libraries first, which is no part of any Job.
        for worker in workers:
            wait_until_calm(worker.pid, limit_s=START_LIMIT_S)
        yield yard


def hire_one(device: str, processes: int) -> Hire:
    """Return what starts the worker that `radnode worker` starts."""
    return lambda settings: [spawn_worker(settings, ("serve", "--device", device, "--processes", str(processes)))]


def _write_settings(folder: Path, broker_url: str, added: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(
        f'[node]\nport = {free_port()}\ndata_dir = "{folder / "data"}"\n\n[broker]\nurl = "{broker_url}"\n\n'
        '[store]\nreserve_bytes = 0\n\n[web]\nport = 0\n\n[log]\nlevel = "ERROR"\n' + added,
        encoding="utf-8",
    )
    return file


def _peer(settings: Settings) -> Peer:
    return Peer(aet=settings.node.aet, host="127.0.0.1", port=settings.node.port, calling_aet="BENCH")
