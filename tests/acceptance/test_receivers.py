"""Several receiver processes behind one port: they share the work and the limits, and die without taking anything."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from node.lock import LOCK_FILE
from node.metrics.memory import measure_memory
from tests.instances import ct_slice, encode
from tests.node_process import Launch, NodeProcess, command_words
from tests.pdus import (
    STORAGE_ID,
    Closed,
    Rejected,
    Response,
    Wire,
    associate_rq,
    associated,
    echo,
    message,
    store_rq,
    wire_to,
)
from tests.peers import wait_until

SERVE = Launch(verb="serve")
LIMIT_S = 30.0
# Two to abort what is under way, five to commit, and some for a busy machine.
GONE_LIMIT_S = 15.0
LOCAL_LIMIT_EXCEEDED = Rejected(result=2, source=3, reason=2)
SETTINGS = """
[assembly]
quiet_seconds = 0.5

[ledger]
busy_timeout_s = 60.0
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Return a node with two receivers; each test leaves it running, and has UIDs of its own."""
    with NodeProcess(tmp_path_factory.mktemp("node"), SETTINGS, launch=SERVE) as running:
        yield running


def receivers(node: NodeProcess) -> Sequence[psutil.Process]:
    return [child for child in node.process.children(recursive=True) if is_receiver(child)]


def is_receiver(process: psutil.Process) -> bool:
    # It may end at any moment.
    with suppress(psutil.NoSuchProcess):
        return command_words(process)[1:4] == ["-m", "node", "receiver"]
    return False


def store(wire: Wire, uid: str, *, level: int = 7) -> bytes:
    """Store the Instance `uid` of the Study that its first four components name; return its data set."""
    ds = ct_slice(sop_instance_uid=uid, level=level)
    ds.StudyInstanceUID = ".".join(uid.split(".")[:4])
    ds.SeriesInstanceUID = f"{ds.StudyInstanceUID}.0"
    encoded = encode(ds)
    wire.send(message(STORAGE_ID, store_rq(sop_instance_uid=uid), encoded))
    answer = wire.answer()
    if answer == Closed():
        raise ConnectionError
    assert isinstance(answer, Response), answer
    assert answer.status == 0
    return encoded


def is_answered(wire: Wire) -> bool:
    wire.send(echo())
    return isinstance(wire.answer(), Response)


def ask(node: NodeProcess, question: str) -> list[str]:
    with closing(sqlite3.connect(node.folder / "data" / "ledger.sqlite")) as connection:
        return [answer for (answer,) in connection.execute(question)]


def rows(node: NodeProcess) -> set[str]:
    return set(ask(node, "SELECT sop_instance_uid FROM instances"))


@contextmanager
def locked(node: NodeProcess) -> Iterator[None]:
    """Lock the ledger, so that every row waits."""
    with closing(sqlite3.connect(node.folder / "data" / "ledger.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def log(node: NodeProcess) -> Sequence[Mapping[str, object]]:
    return [json.loads(line) for line in (node.folder / "node.log").read_text().splitlines()]


def alive(processes: Sequence[psutil.Process]) -> Sequence[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            # A zombie is dead; only nobody has asked how it ended.
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(process: psutil.Process) -> None:
    process.kill()
    process.wait()


def connections(node: NodeProcess) -> list[int]:
    """Return how many connections of peers each receiver has."""
    port = node.peer.port
    return [
        sum(1 for c in process.net_connections("tcp") if c.laddr.port == port and c.raddr)
        for process in receivers(node)
    ]


def test_receivers_share_the_associations_and_a_study_over_both_is_settled_whole(node: NodeProcess) -> None:
    uids = [f"1.2.3.1.{number}" for number in range(40)]
    with ExitStack() as stack:
        wires = [stack.enter_context(associated(node.peer)) for _ in range(4)]
        assert connections(node) == [2, 2]
        for number, uid in enumerate(uids):
            store(wires[number % 4], uid)
        for wire in wires:
            wire.release()
    story = node.wait_for_study("1.2.3.1", lambda s: s.state != "OPEN", limit_s=LIMIT_S)
    assert [line.instances for line in story.series] == [len(uids)]
    # By the end of the last Association: no later Instance opened it again.
    assert "study-reopened" not in [event.kind for event in story.events]


class Sender(Thread):
    """A modality that never gives up, and remembers what was acknowledged."""

    def __init__(self, node: NodeProcess, number: int) -> None:
        super().__init__()
        self._node = node
        self._number = number
        self.acknowledged: list[str] = []
        self.ending = Event()

    def run(self) -> None:
        count = 0
        while not self.ending.is_set():
            try:
                with associated(self._node.peer) as wire:
                    while not self.ending.is_set():
                        count += 1
                        uid = f"1.2.3.2{self._number}.{count}"
                        store(wire, uid)
                        self.acknowledged.append(uid)
            except (OSError, AssertionError):
                continue


def test_a_killed_receiver_costs_its_associations_and_nothing_that_was_acknowledged(node: NodeProcess) -> None:
    senders = [Sender(node, number) for number in range(4)]
    for sender in senders:
        sender.start()
    for turn in range(3):
        for sender in senders:
            wait_for_more(sender)
        kill(receivers(node)[turn % 2])
        wait_until(lambda: len(receivers(node)) == 2, what="a new receiver", limit_s=LIMIT_S)
    for sender in senders:
        sender.ending.set()
        sender.join(LIMIT_S)
    acknowledged = {uid for sender in senders for uid in sender.acknowledged}
    wait_until(lambda: acknowledged <= rows(node), what="a row for each Success", limit_s=LIMIT_S)
    # The Associations that died with a receiver are over for the ledger, too: assembly does not wait for them.
    open_ones = "SELECT association_id FROM receptions WHERE ended_at IS NULL"
    wait_until(lambda: not ask(node, open_ones), what="the end of each Association", limit_s=LIMIT_S)


def wait_for_more(sender: Sender) -> None:
    enough = len(sender.acknowledged) + 10
    wait_until(lambda: len(sender.acknowledged) > enough, what="acknowledgments", limit_s=LIMIT_S)


def test_the_port_answers_while_a_receiver_is_dead(node: NodeProcess) -> None:
    wait_until(lambda: len(receivers(node)) == 2, what="two receivers", limit_s=LIMIT_S)
    kill(receivers(node)[0])
    for _ in range(10):
        with associated(node.peer) as wire:
            assert is_answered(wire)


def test_rows_that_killed_receivers_owed_are_made_without_a_restart(node: NodeProcess) -> None:
    uids = {f"1.2.3.3.{number}" for number in range(20)}
    with locked(node):
        with associated(node.peer) as wire:
            for uid in uids:
                store(wire, uid)
        assert not rows(node) & uids
        for process in receivers(node):
            kill(process)
    wait_until(lambda: rows(node) >= uids, what="the rows", limit_s=LIMIT_S)
    wait_until(lambda: "journal adopted" in [line["event"] for line in log(node)], what="a line", limit_s=LIMIT_S)


def test_receivers_share_what_is_loaded_and_are_handed_nothing_of_the_node(node: NodeProcess) -> None:
    wait_until(lambda: len(receivers(node)) == 2, what="two receivers", limit_s=LIMIT_S)
    for process in receivers(node):
        memory = process.memory_full_info()
        assert memory.uss < memory.rss / 2
        assert not [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
        assert not [file.path for file in process.open_files() if Path(file.path).name == LOCK_FILE]
    # Nobody decodes here.
    of_all = "".join(Path(f"/proc/{one.pid}/maps").read_text() for one in (node.process, *receivers(node)))
    assert "pydantic_core" in of_all
    assert "gdcm" not in of_all


def test_receivers_outlive_their_nursery_which_is_followed_by_another_at_once(node: NodeProcess) -> None:
    lines, mine, dead = len(log(node)), receivers(node), node.child("-m node nursery")
    dead.kill()
    wait_until(lambda: nurseries(node) not in ([], [dead.pid]), what="another nursery", limit_s=LIMIT_S)
    with associated(node.peer) as wire:
        assert is_answered(wire)
    assert alive(mine) == mine
    assert measure_memory(node.folder / "data")["receiver"] > 1_000_000
    told = [(line["level"], line["event"], line["owner"]) for line in log(node)[lines:] if "exit_code" in line]
    assert told == [("WARNING", "child ended", "nursery")]
    for process in mine:
        process.kill()
    wait_until(lambda: not alive(mine), what="the end of the receivers", limit_s=LIMIT_S)
    wait_until(lambda: len(receivers(node)) == 2, what="receivers of a new nursery", limit_s=LIMIT_S)
    with associated(node.peer) as wire:
        store(wire, "1.2.3.8.1")


def nurseries(node: NodeProcess) -> list[int]:
    return [child.pid for child in alive(node.process.children()) if "nursery" in command_words(child)]


def test_a_later_version_that_only_the_journal_knows_survives_the_node(node: NodeProcess) -> None:
    """The start-up scan alone would take the file without a row for the superseded one."""
    with associated(node.peer) as wire:
        store(wire, "1.2.3.4.1")
    wait_until(lambda: "1.2.3.4.1" in rows(node), what="the first row", limit_s=LIMIT_S)
    with locked(node):
        with associated(node.peer) as wire:
            later = store(wire, "1.2.3.4.1", level=9)
        node.kill_all()
    node.start()
    (path,) = ask(node, "SELECT path FROM instances WHERE sop_instance_uid = '1.2.3.4.1'")
    assert (node.folder / "data" / "store" / path).read_bytes().endswith(later)


def test_receivers_do_not_outlive_a_killed_node_and_the_next_one_starts_at_once(node: NodeProcess) -> None:
    with associated(node.peer) as wire:
        store(wire, "1.2.3.5.1")
        mine = receivers(node)
        node.kill()
        # It waits for those that are left.
        node.start()
    assert not alive(mine)
    assert "1.2.3.5.1" in rows(node)
    with associated(node.peer) as wire:
        assert is_answered(wire)


@pytest.mark.thorough
def test_a_receiver_that_cannot_finish_does_not_outlive_a_killed_node_for_long(node: NodeProcess) -> None:
    with locked(node), associated(node.peer) as wire:
        store(wire, "1.2.3.6.1")
        mine = receivers(node)
        node.kill()
        wait_until(lambda: not alive(mine), what="the end of the receivers", limit_s=GONE_LIMIT_S)
    node.start()
    assert "1.2.3.6.1" in rows(node)


def test_sigterm_to_all_processes_drains(node: NodeProcess) -> None:
    """Service managers send it to each of them."""
    lines, mine = len(log(node)), receivers(node)
    with associated(node.peer) as wire, wire_to(node.peer) as silent:
        store(wire, "1.2.3.7.1")
        for process in (*mine, node.process):
            os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: is_refused(node), what="a closed port", limit_s=LIMIT_S)
        store(wire, "1.2.3.7.2")
        wire.release()
        assert silent.answer() == Closed()
    assert node.stop() == 0
    assert not alive(mine)
    assert rows(node) >= {"1.2.3.7.1", "1.2.3.7.2"}
    assert not [line for line in log(node)[lines:] if line["level"] in ("ERROR", "WARNING")]


def is_refused(node: NodeProcess) -> bool:
    try:
        socket.create_connection((node.peer.host, node.peer.port), timeout=1.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


@pytest.mark.thorough
def test_limits_hold_over_all_receivers_exactly(tmp_path: Path) -> None:
    keys = "max_associations = 3\nmax_associations_per_peer = 2\nreceivers = 3\n"
    with NodeProcess(tmp_path, "", node_keys=keys, launch=SERVE) as node, ExitStack() as stack:
        first, second = (stack.enter_context(associated(node.peer)) for _ in range(2))
        for _ in range(3):
            with wire_to(node.peer) as third:
                third.send(associate_rq())
                assert third.answer() == LOCAL_LIMIT_EXCEEDED
        # Whoever was answered that it is over may come again at once, before its connection is closed, too.
        first.release()
        for _ in range(50):
            with associated(node.peer) as wire:
                wire.release()
        assert is_answered(second)


def test_a_network_that_is_not_allowed_is_refused_and_found_by_a_person(tmp_path: Path) -> None:
    settings = '[security]\nallowed_networks = ["10.0.0.0/8"]\n'
    with NodeProcess(tmp_path, settings, node_keys="receivers = 1\n", launch=SERVE) as node:
        for _ in range(3):
            with wire_to(node.peer) as wire:
                wire.send(associate_rq())
                assert wire.answer() == Closed()
        found = wait_until(
            lambda: [event for event in node.view.list_events(limit=100) if event.kind == "connection-refused"],
            what="the event",
            limit_s=LIMIT_S,
        )
        assert len(found) == 1
        assert "127.0.0.1" in found[0].text


def test_a_receiver_loads_only_what_receiving_needs() -> None:
    probe = "import sys, node.receiver; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not {"celery", "kombu", "redis", "typer", "torch"} & set(loaded)
