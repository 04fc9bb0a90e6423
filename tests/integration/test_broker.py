"""The embedded broker: a real Valkey or Redis, started, killed, found again and ended by us."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.bell import connect, probe_broker
from node.broker import DAMAGED_MEMORY, MEMORY, EmbeddedBroker, find_server, socket_path
from node.errors import BrokerUnreachable
from tests.peers import wait_until

LIMIT_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


def answers(broker: EmbeddedBroker) -> bool:
    try:
        probe_broker(broker.url)
    except BrokerUnreachable:
        return False
    return True


def test_it_answers_and_only_our_user_may_ask(broker: EmbeddedBroker, tmp_path: Path) -> None:
    probe_broker(broker.url)
    path = socket_path(tmp_path / "broker")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert connect(broker.url).config_get("port") in ({b"port": b"0"}, {"port": "0"})


def test_ctrl_c_is_not_for_it(broker: EmbeddedBroker) -> None:
    """A terminal sends SIGINT to the whole group of the node; the broker ends last, when the node says so."""
    assert broker.pid is not None
    assert os.getpgid(broker.pid) != os.getpgrp()


def test_killed_it_comes_back_with_what_it_held(broker: EmbeddedBroker) -> None:
    connect(broker.url).set("kept", "yes")
    first = broker.pid
    assert first is not None
    # The append-only file is synced every second; a killed process loses nothing that the kernel holds.
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: broker.pid not in (None, first) and answers(broker), what="a second life", limit_s=LIMIT_S)
    assert connect(broker.url).get("kept") == b"yes"


def test_stopped_it_is_gone_and_started_again_it_remembers(tmp_path: Path) -> None:
    first = EmbeddedBroker(tmp_path / "broker")
    first.start()
    connect(first.url).set("kept", "yes")
    first.stop()
    assert first.pid is None
    with pytest.raises(BrokerUnreachable, match=r"broker\.url"):
        probe_broker(first.url)
    second = EmbeddedBroker(tmp_path / "broker")
    second.start()
    assert connect(second.url).get("kept") == b"yes"
    second.stop()


def test_the_server_of_a_node_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """Only one server may own the append-only file."""
    leftover = EmbeddedBroker(tmp_path / "broker")
    leftover.start()
    connect(leftover.url).set("kept", "yes")
    old = leftover.pid
    assert old is not None
    broker = EmbeddedBroker(tmp_path / "broker")
    # The first node is dead: it starts no other server.
    leftover._child._stopping.set()
    broker.start()
    wait_until(lambda: leftover.pid is None, what="the end of the old server", limit_s=LIMIT_S)
    assert broker.pid not in (None, old)
    assert connect(broker.url).get("kept") == b"yes"
    broker.stop()
    leftover.stop()


def damage(memory: Path) -> None:
    """Make the append-only file one that no server reads: no end is missing, its middle is something else."""
    for part in memory.glob("*.aof"):
        part.write_bytes(b"no command of any server\n" * 10 + part.read_bytes())


def test_a_memory_that_is_damaged_is_set_aside_at_the_start(tmp_path: Path) -> None:
    first = EmbeddedBroker(tmp_path / "broker")
    first.start()
    connect(first.url).set("kept", "yes")
    first.stop()
    damage(tmp_path / "broker" / MEMORY)
    told: list[Path] = []
    second = EmbeddedBroker(tmp_path / "broker", on_damage=told.append)
    second.start()
    assert connect(second.url).get("kept") is None
    assert told == [tmp_path / "broker" / DAMAGED_MEMORY]
    assert list((tmp_path / "broker" / DAMAGED_MEMORY).glob("*.aof"))
    second.stop()


def test_a_memory_that_is_damaged_while_it_runs_costs_one_more_life(broker: EmbeddedBroker, tmp_path: Path) -> None:
    connect(broker.url).set("kept", "yes")
    damage(tmp_path / "broker" / MEMORY)
    first = broker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: broker.pid not in (None, first) and answers(broker), what="a second life", limit_s=LIMIT_S)
    assert connect(broker.url).get("kept") is None


def test_one_that_does_not_start_stops_nobody_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    server = programs / "valkey-server"
    server.write_text("#!/bin/sh\nexit 1\n")
    server.chmod(0o755)
    real = find_server()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    broker = EmbeddedBroker(tmp_path / "broker", start_timeout_s=0.1)
    broker.start()
    assert not answers(broker)
    server.unlink()
    server.symlink_to(real)
    wait_until(lambda: answers(broker), what="an answer", limit_s=LIMIT_S)
    broker.stop()


def test_a_deep_folder_gets_a_short_private_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    broker = EmbeddedBroker(deep)
    broker.start()
    path = socket_path(deep)
    assert len(str(path)) < 108
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    broker.stop()


def test_a_server_is_always_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert os.access(find_server(), os.X_OK)
