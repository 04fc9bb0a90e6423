"""Faults of the broker while Jobs wait and run: a real Redis and a real Valkey, a real worker that survives them all.

Dispatch runs on its belt as in a node, but looks into the broker oftener and tells a fault sooner; the worker is the
same from the first test to the last of each server.
"""

import base64
import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from node.bell import MEMORY_KEY, QUEUE, CeleryRinger, DoneAnnouncer, DoneListener, celery_app
from node.broker import DAMAGED_MEMORY, MEMORY, EmbeddedBroker
from node.clock import utc_now
from node.dispatch import BrokerPatience, Dispatch
from node.domain.job import Job, JobID, JobState
from node.domain.lane import Call
from node.errors import BrokerLoginRefused, BrokerTakesNothing, BrokerUnreachable
from node.ledger.bell import DAMAGED, FAULTS, FORGOT, HEALED, ODD_MESSAGE, BellLedger
from node.ledger.jobs import RetryPolicy
from node.rehearsal.modality import send
from node.scheduler import Belt
from node.settings.loading import load_settings
from tests.brokers import KINDS, PASSWORD, Line, Server, hang_up
from tests.ledgers import Books, copy_ledger
from tests.node_process import QUICK, Launch, NodeProcess, plain_environment
from tests.peers import wait_until
from tests.phantoms import small_chest_xray

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 60.0
# RELIABILITY's promise 2.
RING_AGAIN_S = 30.0
PATIENCE = BrokerPatience(resend_s=3.0, ageing_s=600.0, first_pause_s=0.2, longest_pause_s=0.4, told_after_s=0.5)
POLICY = RetryPolicy(max_attempts=3, pause_s=0.0)


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is harmed here is no receiver."""


@dataclass
class Desk:
    """A broker, a ledger, the belt that rings and the worker that hears it.

    Attributes
    ----------
    ticks
        Beats of a station on the same belt that needs no broker.
    """

    folder: Path
    server: Server
    books: Books
    url: str
    ticks: list[datetime] = field(default_factory=list)
    worker: "psutil.Popen | None" = None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self, stack: ExitStack, *, processes: int = 2) -> "Desk":
        """Start belt and worker."""
        dispatch = Dispatch(
            self.books.jobs,
            CeleryRinger(self.url),
            story=BellLedger(self.books.engine),
            policy=POLICY,
            patience=PATIENCE,
        )
        self.belt = Belt("desk", {"dispatch": dispatch.tick, "another": self._note_tick}, utc_now)
        self.belt.start()
        stack.callback(self.belt.stop)
        settings = self.folder / "settings.toml"
        settings.write_text(
            f'[node]\ndata_dir = "{self.folder / "data"}"\n[broker]\nurl = "{self.url}"\n'
            f'[ledger]\nurl = "{self.books.engine.url.render_as_string(hide_password=False)}"\n'
        )
        self.worker = hire(settings, self.folder, stack, processes=processes)
        return self

    def order(self, number: int = 1) -> list[Job]:
        """Order Jobs."""
        jobs = [self.books.add_job(study=f"1.2.3.{next(self.numbers)}") for _ in range(number)]
        self.belt.wake()
        return jobs

    def hold(self) -> None:
        """Let no Job end."""
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        """Let Jobs end."""
        (self.folder / "hold").unlink(missing_ok=True)

    def states(self, jobs: list[Job]) -> list[JobState]:
        """Return the states of Jobs as they are."""
        return [self.books.find(job).state for job in jobs]

    def wait_until_runs(self, job: Job) -> None:
        """Return once the worker has a Job."""
        wait_until(lambda: self.states([job]) == [JobState.IN_PROGRESS], what="a running Job", limit_s=LIMIT_S)

    def wait_until_rung(self, number: int, *, limit_s: float = RING_AGAIN_S) -> None:
        """Return once so many messages lie in the broker."""
        wait_until(lambda: len(self.server.waiting()) == number, what=f"{number} messages", limit_s=limit_s)

    def assert_done_once(self, jobs: list[Job]) -> None:
        """Wait for the end of Jobs, and fail unless each was begun once; the worker is the one that it always was."""
        self.let_go()
        wait_until(lambda: set(self.states(jobs)) == {JobState.COMPLETED}, what="the end of all Jobs", limit_s=LIMIT_S)
        begun = self.lines("begun")
        assert {job.job_id: begun.count(job.job_id) for job in jobs} == {job.job_id: 1 for job in jobs}
        assert {self.books.find(job).attempts for job in jobs} == {1}
        assert self.worker is not None
        assert self.worker.is_running(), (self.folder / "worker.log").read_text()[-2000:]

    def wait_for_ticks(self, number: int) -> None:
        """Return once the belt has gone round so many times."""
        enough = len(self.ticks) + number
        wait_until(lambda: len(self.ticks) >= enough, what="a belt that goes round", limit_s=LIMIT_S)

    def lines(self, name: str) -> list[str]:
        """Return what the worker noted."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def told(self) -> list[str]:
        """Return the kinds of what was told of the broker, oldest first."""
        story = (*FAULTS, HEALED, FORGOT, ODD_MESSAGE)
        return [event.kind for event in reversed(self.books.view.list_events(1000)) if event.kind in story]

    def assert_told(self, before: int, *kinds: str) -> None:
        """Wait until this and nothing else was told since `before`."""
        wait_until(lambda: len(self.told()) >= before + len(kinds), what=f"{kinds} in {self.told()}", limit_s=LIMIT_S)
        assert self.told()[before:] == list(kinds)

    def _note_tick(self, now: datetime) -> datetime:
        self.ticks.append(now)
        return now + timedelta(seconds=0.5)


def hire(settings: Path, scratch: Path, stack: ExitStack, *, processes: int) -> psutil.Popen:
    """Start a diligent worker; it is killed at the end."""
    command = [sys.executable, "-m", "tests.diligent_worker", "--settings", str(settings)]
    command += ["--scratch", str(scratch), "--processes", str(processes)]
    with (scratch / "worker.log").open("ab") as log:
        worker = psutil.Popen(command, stdout=log, stderr=log, env=plain_environment(), cwd=ROOT)
    stack.callback(dismiss, worker)
    return worker


def dismiss(worker: psutil.Popen) -> None:
    family = [worker, *worker.children(recursive=True)] if worker.is_running() else []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    worker.wait()


def open_desk(kind: str, folder: Path, stack: ExitStack) -> Desk:
    server = Server(kind, folder)
    server.start()
    stack.callback(server.stop)
    books = Books(copy_ledger(folder))
    stack.callback(books.close)
    return Desk(folder, server, books, server.url)


@pytest.fixture(scope="module", params=KINDS)
def shared_desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield open_desk(request.param, tmp_path_factory.mktemp("desk"), stack).open(stack)


@pytest.fixture
def desk(shared_desk: Desk) -> Desk:
    """A desk at which everything was well a moment ago."""
    shared_desk.assert_done_once(shared_desk.order())
    return shared_desk


def begin_with(desk: Desk, waiting: int) -> list[Job]:
    """Return Jobs of which two run and the others wait in the broker."""
    desk.hold()
    running = desk.order(2)
    for job in running:
        desk.wait_until_runs(job)
    jobs = [*running, *desk.order(waiting)]
    desk.wait_until_rung(waiting)
    return jobs


def test_flushed_while_jobs_wait_and_run_it_is_rung_again(desk: Desk) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 4)
    desk.server.client.flushall()
    desk.wait_until_rung(4)
    desk.assert_done_once(jobs)
    desk.assert_told(before, FORGOT)


def test_killed_and_started_again_with_its_file_it_has_every_message_once(desk: Desk) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 4)
    desk.server.kill()
    desk.server.start()
    # Three seconds at least: the broker is looked into twice.
    desk.wait_for_ticks(6)
    assert len(desk.server.waiting()) == 4
    desk.assert_done_once(jobs)
    assert desk.told()[before:] == []


@pytest.mark.parametrize("ends", ["while it is away", "after it has come back"])
def test_away_while_jobs_run_it_costs_no_job_and_no_worker(desk: Desk, ends: str) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 2)
    desk.server.kill()
    desk.assert_told(before, BrokerUnreachable.code)
    if ends == "while it is away":
        desk.assert_done_once(jobs[:2])
    desk.server.start()
    desk.assert_told(before, BrokerUnreachable.code, HEALED)
    desk.assert_done_once([*jobs, *desk.order(2)])


def test_killed_and_started_again_without_its_file_it_is_rung_again(desk: Desk) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 4)
    desk.server.kill()
    shutil.rmtree(desk.server.folder / "appendonlydir")
    desk.server.start()
    desk.wait_until_rung(4)
    desk.assert_done_once(jobs)
    desk.assert_told(before, FORGOT)


def test_started_again_from_an_old_snapshot_it_is_rung_again(desk: Desk) -> None:
    """As Debian ships Redis: what it remembers looks whole, and the last messages are missing."""
    client = desk.server.client
    client.save()
    assert client.exists(MEMORY_KEY)
    jobs = begin_with(desk, 4)
    desk.server.kill()
    shutil.rmtree(desk.server.folder / "appendonlydir")
    desk.server.start(append_only=False)
    assert desk.server.client.exists(MEMORY_KEY)
    desk.wait_until_rung(4)
    desk.assert_done_once(jobs)
    (desk.server.folder / "dump.rdb").unlink()


def test_a_wrong_password_is_told_once_and_heals(desk: Desk) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 1)
    client = desk.server.client
    client.config_set("requirepass", "another")
    hang_up(client)
    jobs += desk.order(2)
    desk.assert_told(before, BrokerLoginRefused.code)
    client.config_set("requirepass", PASSWORD)
    desk.assert_told(before, BrokerLoginRefused.code, HEALED)
    desk.assert_done_once(jobs)
    log = (desk.folder / "worker.log").read_text()
    assert PASSWORD not in log


def test_a_full_one_is_told_once_and_heals(desk: Desk) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 1)
    client = desk.server.client
    client.config_set("maxmemory", "1")
    jobs += desk.order(2)
    desk.assert_told(before, BrokerTakesNothing.code)
    client.config_set("maxmemory", "0")
    desk.assert_told(before, BrokerTakesNothing.code, HEALED)
    desk.assert_done_once(jobs)


class Exploit:
    """What a pickle would do if anybody loaded it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


def template(desk: Desk) -> dict[str, Any]:
    """Return a message as Celery writes it, taken back before anybody heard it."""
    with celery_app(desk.url).connection_for_write() as connection:
        celery_app(desk.url).send_task("x", args=["y"], queue="aside", connection=connection)
    message: dict[str, Any] = json.loads(desk.server.client.rpop("aside") or b"")
    message["properties"]["delivery_info"]["routing_key"] = QUEUE
    return message


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def odd_messages(desk: Desk, trap: Path) -> Iterator[bytes]:
    """Yield what rings for no Job, from a pickle to a stranger's task."""
    yield b"no JSON"
    yield b"\xff\xfe\x00"
    yield b""
    yield b'"a text"'
    yield b"[]"
    yield b"{}"
    yield b"null"
    yield b"[" * 100_000
    pickled = template(desk)
    pickled["body"] = base64.b64encode(pickle.dumps(((Exploit(trap),), {}, {}))).decode()
    pickled["content-type"] = "application/x-python-serialize"
    yield json.dumps(pickled).encode()
    message = template(desk)
    yield json.dumps(message).encode()
    for body in ("no base64!", encoded("no list"), encoded([[], {}, {}])):
        broken = template(desk)
        broken["headers"]["task"] = "radnode.run_job"
        broken["body"] = body
        yield json.dumps(broken).encode()
    del message["headers"]
    yield json.dumps(message).encode()


def rings(desk: Desk, *arguments: object) -> bytes:
    """Return a message that rings for whatever is given."""
    message = template(desk)
    message["headers"]["task"] = "radnode.run_job"
    message["body"] = encoded([list(arguments), {}, {}])
    return json.dumps(message).encode()


def test_a_pickle_and_whatever_is_no_message_harms_nobody(desk: Desk, tmp_path: Path) -> None:
    before = len(desk.told())
    jobs = begin_with(desk, 1)
    trap = tmp_path / "was-here"
    for raw in odd_messages(desk, trap):
        # The end from which workers take.
        desk.server.client.rpush(QUEUE, raw)
    for odd in ({"a": 1}, 7, None, "no job of ours", "x" * 10_000, ["1.2.3"]):
        desk.server.client.rpush(QUEUE, rings(desk, odd))
    jobs += desk.order(2)
    desk.assert_done_once(jobs)
    assert not trap.exists()
    assert set(desk.told()[before:]) == {ODD_MESSAGE}
    assert desk.server.waiting() == []


def test_a_task_longer_than_the_visibility_timeout_has_effect_once(desk: Desk) -> None:
    """Kombu gives it to another process while the first still works on it."""
    desk.hold()
    jobs = desk.order()
    desk.wait_until_runs(jobs[0])
    refused = desk.lines("refused").count(jobs[0].job_id)
    app = celery_app(desk.url)
    app.conf.broker_transport_options = app.conf.broker_transport_options | {"visibility_timeout": 0}
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.qos.restore_visible(num=None, interval=1)
    wait_until(lambda: desk.lines("refused").count(jobs[0].job_id) > refused, what="a second delivery", limit_s=LIMIT_S)
    desk.assert_done_once(jobs)


def test_messages_that_come_twice_or_late_or_early_have_effect_once(desk: Desk) -> None:
    ringer = CeleryRinger(desk.url)
    jobs = begin_with(desk, 2)
    first = jobs[0]
    calls = [Call(job_id=job.job_id, lane=0) for job in jobs]
    for _ in range(5):
        ringer.ring(calls[::-1])
    # The message of an older claim: by now the Job waits for its second start.
    later = ("test", "not now")
    desk.books.jobs.give_back(desk.books.find(first), reason=later, now=utc_now(), pause_s=3600.0)
    ringer.ring(calls[:1])
    desk.assert_done_once(jobs[1:])
    wait_until(lambda: not desk.server.waiting(), what="an empty queue", limit_s=LIMIT_S)
    assert desk.states([first]) == [JobState.SCHEDULED]


def test_gone_with_messages_in_the_hands_of_a_worker_it_costs_no_worker(tmp_path: Path) -> None:
    """What is taken can neither be acknowledged nor put back: kombu looks for an address that it has forgotten."""
    with ExitStack() as stack:
        desk = open_desk("redis", tmp_path, stack).open(stack)
        # Rung several times while the worker still opens, so that it has its hands full a moment later.
        desk.assert_done_once(desk.order())
        desk.server.kill()
        jobs = desk.order(2)
        desk.assert_told(0, BrokerUnreachable.code)
        desk.server.start()
        desk.assert_done_once(jobs)
        desk.assert_told(0, BrokerUnreachable.code, HEALED)


@pytest.fixture
def line_to(tmp_path: Path) -> Iterator[tuple[Server, Line]]:
    """Return a server, and a line to it."""
    with ExitStack() as stack:
        server = Server("redis", tmp_path)
        server.start()
        stack.callback(server.stop)
        line = Line(server.port)
        stack.callback(line.close)
        yield server, line


@pytest.mark.thorough
def test_a_line_that_goes_dead_stops_nobody_and_heals(line_to: tuple[Server, Line], tmp_path: Path) -> None:
    """Connections are taken, and nobody ever answers."""
    server, line = line_to
    with ExitStack() as stack:
        books = Books(copy_ledger(tmp_path))
        stack.callback(books.close)
        desk = Desk(tmp_path, server, books, line.url(server)).open(stack)
        desk.hold()
        running = desk.order()
        desk.wait_until_runs(running[0])
        line.die()
        waiting = desk.order(2)
        desk.assert_told(0, BrokerUnreachable.code)
        desk.wait_for_ticks(4)
        desk.assert_done_once(running)
        line.heal()
        desk.assert_done_once([*waiting, *desk.order()])
        desk.assert_told(0, BrokerUnreachable.code, HEALED)


@pytest.mark.thorough
def test_the_end_of_a_job_is_heard_again_after_a_dead_line(line_to: tuple[Server, Line]) -> None:
    """What nobody hears is found by the couriers all the same, at their next round: see test_scheduler."""
    server, line = line_to
    heard: list[None] = []
    ears = DoneListener(line.url(server), lambda: heard.append(None))
    ears.start()
    mouth = DoneAnnouncer(server.url)

    def is_heard() -> bool:
        before = len(heard)
        mouth.announce(JobID("j1"))
        with suppress(TimeoutError):
            wait_for_more(heard, before)
        return len(heard) > before

    wait_until(lambda: heard, what="a listener", limit_s=LIMIT_S)
    assert is_heard()
    line.die()
    assert not is_heard()
    line.heal()
    wait_until(is_heard, what="ears", limit_s=LIMIT_S)
    ears.stop()


def wait_for_more(heard: list[None], before: int, limit_s: float = 0.5) -> None:
    deadline_s = monotonic() + limit_s
    while len(heard) == before:
        if monotonic() > deadline_s:
            raise TimeoutError
        sleep(0.01)


def event_kinds(node: NodeProcess) -> list[str]:
    return [event.kind for event in node.view.list_events(100)]


def test_a_node_whose_broker_is_down_at_its_start_receives_and_catches_up(tmp_path: Path) -> None:
    server = Server("redis", tmp_path)
    (tmp_path / "node").mkdir()
    settings = QUICK + f'[broker]\nurl = "{server.url}"\n'
    film = small_chest_xray(with_opacity=False).dataset
    with NodeProcess(tmp_path / "node", settings, launch=Launch(verb="serve")) as node, ExitStack() as stack:
        assert not send([film], node.peer).failed
        (job,) = node.wait_for_study(film.StudyInstanceUID, lambda story: story.jobs).jobs
        wait_until(lambda: BrokerUnreachable.code in event_kinds(node), what="an alarm", limit_s=LIMIT_S)
        assert job.state is JobState.SCHEDULED
        server.start()
        stack.callback(server.stop)
        wait_until(server.waiting, what="a message", limit_s=RING_AGAIN_S)
        hire(node.file, tmp_path, stack, processes=1)
        node.wait_for_study(film.StudyInstanceUID, lambda story: story.is_finished, limit_s=LIMIT_S)
        assert HEALED in event_kinds(node)
        assert PASSWORD not in (tmp_path / "node" / "node.log").read_text()


@pytest.mark.thorough
def test_a_damaged_file_of_the_embedded_one_is_set_aside_and_told(tmp_path: Path) -> None:
    memory = tmp_path / "data" / "broker" / MEMORY
    memory.mkdir(parents=True)
    (memory / "appendonly.aof.manifest").write_bytes(b"\x00 no manifest of any server\n")
    with NodeProcess(tmp_path, QUICK, launch=Launch(verb="serve")) as node:
        assert DAMAGED in event_kinds(node)
        assert (memory.parent / DAMAGED_MEMORY / "appendonly.aof.manifest").exists()
        film = small_chest_xray(with_opacity=False).dataset
        assert not send([film], node.peer).failed
        (job,) = node.wait_for_study(film.StudyInstanceUID, lambda story: story.jobs).jobs
        url = EmbeddedBroker(load_settings(node.file).broker_dir).url
        assert wait_until(lambda: CeleryRinger(url).unheard(), what="a message", limit_s=LIMIT_S) == {job.job_id}
