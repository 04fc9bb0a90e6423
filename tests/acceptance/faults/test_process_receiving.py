"""Faults of the processes, the disk, the ledger and the clock while Instances come; each test has a node of its own.

The list is RELIABILITY's "Process", as far as it is about receiving.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from select import select
from time import monotonic

import psutil
import pytest

from node.errors import OUT_OF_RESOURCES
from node.store.paths import instance_path
from tests.instances import SERIES, STUDY, ct_slice, encode
from tests.interposed import FAILING_DISK, WRONG_CLOCK, interpose
from tests.node_process import QUICK, Launch, NodeProcess, command_words, run_radnode
from tests.pdus import (
    ECHO_RSP,
    STORAGE_ID,
    STORE_RSP,
    Answer,
    Response,
    Wire,
    associated,
    echo,
    message,
    store_rq,
    wire_to,
)
from tests.peers import wait_until
from tests.testimony import rows, stored
from tests.volumes import clear, disk_volume, fill, frozen, memory_volume, unwritable

SERVE = Launch(verb="serve")
SUCCESS = 0x0000
LEDGER_LIMIT_S = 1.0
LEDGER = f"[ledger]\nbusy_timeout_s = {LEDGER_LIMIT_S}\n"
MEGABYTE = 2**20
LARGE_BYTES = 400_000
# Descriptors that a process may have, and connections that want more.
MAX_DESCRIPTORS = 48
CROWD = 150
HOUR_S = 3600


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """Each test here ends its node."""


@dataclass
class Bench:
    """A node with one sender, who knows what it was told.

    Attributes
    ----------
    kept
        SHA-256 of each data set that was acknowledged, by SOP Instance UID.
    """

    node: NodeProcess
    kept: dict[str, str]
    count: int = 0

    @property
    def data_dir(self) -> Path:
        return self.node.folder / "data"

    def send(self, wire: Wire, *, pixel_bytes: int = 48) -> int:
        """Return the Status that the next Instance is answered with."""
        uid = self.next_uid()
        self.begin(wire, uid, pixel_bytes=pixel_bytes)
        return self.note(uid, wire.answer(), pixel_bytes=pixel_bytes)

    def begin(self, wire: Wire, uid: str, *, pixel_bytes: int = 48) -> None:
        """Send an Instance and leave its answer."""
        wire.send(message(STORAGE_ID, store_rq(1, sop_instance_uid=uid), data_set(uid, pixel_bytes)))

    def note(self, uid: str, answer: Answer, *, pixel_bytes: int = 48) -> int:
        """Return the Status in `answer`, and keep in mind what was acknowledged."""
        assert isinstance(answer, Response), answer
        assert (answer.command_field, answer.message_id) == (STORE_RSP, 1)
        if answer.status == SUCCESS:
            self.kept[uid] = sha256(data_set(uid, pixel_bytes)).hexdigest()
        return answer.status

    def send_until(self, wire: Wire, status: int, *, pixel_bytes: int = 48, limit_s: float = 30.0) -> set[int]:
        """Send Instances until one is answered with `status`; return every other Status that was seen."""
        seen = set()
        until_s = monotonic() + limit_s
        while (found := self.send(wire, pixel_bytes=pixel_bytes)) != status:
            seen.add(found)
            assert monotonic() < until_s, f"after {limit_s:g} s still no {status:04X}, but {seen}"
        return seen

    def next_uid(self) -> str:
        """Return a SOP Instance UID that was not used yet."""
        self.count += 1
        return f"1.2.3.4.{self.count}"

    def prove(self, *, store: Path | None = None) -> None:
        """Fail unless the running node has a row and the very bytes for all that was acknowledged."""
        wait_until(lambda: self.kept.keys() <= rows(self.data_dir).keys(), what="a row for all that was acknowledged")
        files = dict(stored(store or self.data_dir / "store"))
        counting = rows(self.data_dir)
        assert {uid: files[counting[uid]] for uid in self.kept} == {uid: (uid, self.kept[uid]) for uid in self.kept}

    def processes(self) -> list[psutil.Process]:
        """Return the node's own processes: itself and its receivers."""
        children = self.node.process.children(recursive=True)
        return [self.node.process, *(child for child in children if "receiver" in command_words(child))]


def data_set(uid: str, pixel_bytes: int) -> bytes:
    ds = ct_slice(sop_instance_uid=uid)
    ds.Rows, ds.Columns, ds.PixelData = pixel_bytes // 16, 8, bytes(pixel_bytes)
    return encode(ds)


Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a node; it ends with the test."""
    with ExitStack() as stack:

        def begin(settings: str = "", *, launch: Launch = SERVE, node_keys: str = "") -> Bench:
            node = NodeProcess(tmp_path, settings, launch=launch, node_keys=node_keys)
            return Bench(stack.enter_context(node), {})

        yield begin


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Hold the ledger's one right to write until the block ends."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_killed_between_answer_and_commit_it_makes_the_rows_anew(start: Start) -> None:
    bench = start()
    with locked(bench.data_dir / "ledger.sqlite"), associated(bench.node.peer) as wire:
        assert [bench.send(wire) for _ in range(5)] == [SUCCESS] * 5
        bench.node.kill_all()
    assert not rows(bench.data_dir)
    bench.node.start()
    bench.prove()


@pytest.mark.thorough
def test_killed_between_name_and_answer_it_has_the_instance_once(start: Start) -> None:
    bench = start()
    with associated(bench.node.peer) as wire:
        uid = halt_between_name_and_answer(bench, wire)
        bench.node.kill_all()
    bench.node.start()
    assert rows(bench.data_dir)[uid] == path_of(uid)
    with associated(bench.node.peer) as wire:
        bench.begin(wire, uid)
        assert bench.note(uid, wire.answer()) == SUCCESS
    bench.prove()
    assert [path for path, (found, _) in stored(bench.data_dir / "store") if found == uid] == [path_of(uid)]


def path_of(uid: str) -> str:
    return instance_path(STUDY, SERIES, uid)


def halt_between_name_and_answer(bench: Bench, wire: Wire) -> str:
    """Return the UID of an Instance that has its name and was not answered; every process of the node stands still."""
    processes = bench.processes()
    # Found by trying: each Instance is stopped as soon as its file is seen.
    for _ in range(1000):
        uid = bench.next_uid()
        target = bench.data_dir / "store" / path_of(uid)
        bench.begin(wire, uid)
        while not target.exists():
            assert psutil.pid_exists(bench.node.process.pid)
        for process in processes:
            process.suspend()
        wait_until(lambda: all(p.status() == psutil.STATUS_STOPPED for p in processes), what="a halt")
        if not select([wire.connection], [], [], 0.0)[0]:
            return uid
        for process in processes:
            process.resume()
        bench.note(uid, wire.answer())
    pytest.fail("each Instance was answered before the node could be stopped")


@pytest.mark.needs("sqlite")
def test_ledger_that_is_locked_is_told_and_heals(start: Start) -> None:
    bench = start(LEDGER)
    with associated(bench.node.peer) as wire:
        with locked(bench.data_dir / "ledger.sqlite"):
            assert bench.send_until(wire, OUT_OF_RESOURCES) == {SUCCESS}
            wire.send(echo(7))
            assert wire.answer() == Response(ECHO_RSP, 7, SUCCESS)
        assert bench.send_until(wire, SUCCESS) <= {OUT_OF_RESOURCES}
    bench.prove()


@pytest.mark.needs("sqlite")
def test_ledger_that_nobody_may_write_is_told_and_heals(start: Start) -> None:
    bench = start(LEDGER)
    ledger = bench.data_dir / "ledger.sqlite"
    with associated(bench.node.peer) as wire:
        assert bench.send(wire) == SUCCESS
        bench.prove()
        with unwritable(ledger, ledger.with_name("ledger.sqlite-wal"), ledger.with_name("ledger.sqlite-shm")):
            assert bench.send_until(wire, OUT_OF_RESOURCES) <= {SUCCESS}
        assert bench.send_until(wire, SUCCESS) <= {OUT_OF_RESOURCES}
    bench.prove()


@pytest.mark.needs("sqlite")
def test_ledger_whose_volume_is_full_is_told_and_heals(start: Start, tmp_path: Path) -> None:
    with memory_volume(tmp_path / "data", 8 * MEGABYTE) as volume:
        bench = start(f'url = "{tmp_path / "store"}"\n{LEDGER}')
        with associated(bench.node.peer) as wire:
            assert bench.send(wire) == SUCCESS
            fill(volume)
            assert bench.send_until(wire, OUT_OF_RESOURCES) <= {SUCCESS}
            clear(volume)
            assert bench.send_until(wire, SUCCESS) <= {OUT_OF_RESOURCES}
        bench.prove(store=tmp_path / "store")
        assert bench.node.stop() == 0


def test_store_whose_volume_is_full_is_told_and_heals(start: Start, tmp_path: Path) -> None:
    with memory_volume(tmp_path / "volume", 8 * MEGABYTE) as volume:
        bench = start(f'url = "{volume}"\n')
        with associated(bench.node.peer) as wire:
            assert bench.send_until(wire, OUT_OF_RESOURCES, pixel_bytes=LARGE_BYTES) == {SUCCESS}
            fill(volume)
            assert bench.send(wire, pixel_bytes=LARGE_BYTES) == OUT_OF_RESOURCES
            clear(volume)
            assert not list((volume / ".incoming").iterdir())
            assert bench.send(wire) == SUCCESS
        bench.prove(store=volume)
        assert bench.node.stop() == 0


def test_full_volume_for_temporary_files_harms_nothing(start: Start, tmp_path: Path) -> None:
    with memory_volume(tmp_path / "temporary", MEGABYTE) as volume:
        fill(volume)
        bench = start(launch=Launch(verb="serve", environment={"TMPDIR": str(volume)}))
        with associated(bench.node.peer) as wire:
            assert bench.send(wire, pixel_bytes=LARGE_BYTES) == SUCCESS
        bench.prove()


def test_store_that_stands_still_is_waited_for_and_everybody_else_is_served(start: Start, tmp_path: Path) -> None:
    with disk_volume(tmp_path / "volume", 32 * MEGABYTE) as volume:
        bench = start(f'url = "{volume}"\n')
        with associated(bench.node.peer) as wire, associated(bench.node.peer) as other:
            assert bench.send(wire) == SUCCESS
            with frozen(volume):
                uid = bench.next_uid()
                bench.begin(wire, uid)
                for message_id in range(1, 4):
                    other.send(echo(message_id))
                    assert other.answer() == Response(ECHO_RSP, message_id, SUCCESS)
                with associated(bench.node.peer):
                    assert not select([wire.connection], [], [], 1.0)[0]
            assert bench.note(uid, wire.answer()) == SUCCESS
            assert bench.send(wire) == SUCCESS
        bench.prove(store=volume)
        assert bench.node.stop() == 0


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("durability", ["fsync", "group"])
def test_error_of_the_disk_is_never_success(start: Start, tmp_path: Path, durability: str) -> None:
    fails = tmp_path / "told"
    launch = Launch(verb="serve", environment=interpose(FAILING_DISK, tmp_path))
    bench = start(f'durability = "{durability}"\n', launch=launch)
    with associated(bench.node.peer) as wire:
        assert bench.send(wire) == SUCCESS
        fails.touch()
        failed = [bench.next_uid() for _ in range(3)]
        for uid in failed:
            bench.begin(wire, uid)
            assert bench.note(uid, wire.answer()) == OUT_OF_RESOURCES
        seen = {uid for _, (uid, _) in stored(bench.data_dir / "store")}
        assert not seen & set(failed)
        fails.unlink()
        assert not list((bench.data_dir / "store" / ".incoming").iterdir())
        assert bench.send(wire) == SUCCESS
    bench.prove()


@pytest.mark.thorough
@pytest.mark.needs("prlimit")
def test_more_connections_than_descriptors_are_refused_and_it_heals(start: Start) -> None:
    bench = start(launch=Launch(verb="serve", prefix=("prlimit", f"--nofile={MAX_DESCRIPTORS}")))
    before = bench.processes()
    with ExitStack() as crowd:
        for _ in range(CROWD):
            crowd.enter_context(wire_to(bench.node.peer))
    with associated(bench.node.peer) as wire:
        assert bench.send_until(wire, SUCCESS) <= {OUT_OF_RESOURCES}
    assert bench.processes() == before
    bench.prove()


@pytest.mark.needs("sqlite")
def test_ledger_that_is_lost_is_made_anew_from_the_store(start: Start) -> None:
    bench = start()
    with associated(bench.node.peer) as wire:
        assert [bench.send(wire) for _ in range(3)] == [SUCCESS] * 3
    assert bench.node.stop() == 0
    for file in bench.data_dir.glob("ledger.sqlite*"):
        file.unlink()
    bench.node.start()
    bench.prove()


@pytest.mark.needs("sqlite")
def test_ledger_that_is_damaged_is_refused_with_the_remedy(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite").write_bytes(b"no database " * 1000)
    done = run_radnode("serve", "--settings", node.file)
    assert done.returncode != 0
    assert "cannot be opened (DatabaseError)" in done.stderr
    assert "restore the file" in done.stderr


def set_clock(folder: Path, by_s: int) -> None:
    """Set the clock of a node with `WRONG_CLOCK`, in one step: it may look at any time."""
    (folder / "new").write_text(str(by_s))
    (folder / "new").replace(folder / "told")


@pytest.mark.thorough
@pytest.mark.needs("gcc")
@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_clock_that_is_set_settles_nothing_too_early_and_nothing_an_hour_late(
    start: Start, tmp_path: Path, by_s: int
) -> None:
    launch = Launch(verb="serve", environment=interpose(WRONG_CLOCK, tmp_path))
    bench = start(QUICK, launch=launch)
    with associated(bench.node.peer) as wire:
        assert bench.send(wire) == SUCCESS
        bench.prove()
        set_clock(tmp_path, by_s)
        log = bench.node.folder / "node.log"
        # The stations have looked at their work by then, or do so next.
        wait_until(lambda: "clock was set" in log.read_text(), what="a node that knows of it")
        # The Association goes on: an hour was no silence.
        assert not select([wire.connection], [], [], 3.0)[0]
        assert bench.send(wire) == SUCCESS
        bench.prove()
        assert not settled(bench)
        wire.release()
    wait_until(lambda: settled(bench), what="a Study that settles")
    bench.prove()


def settled(bench: Bench) -> bool:
    """Return whether the one Study counts as complete."""
    (story,) = bench.node.view.list_studies(limit=2)
    return "study-settled" in {event.kind for event in story.events}
