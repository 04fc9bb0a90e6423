"""The bell over a real broker: urgent first, JSON only, and a lost memory is noticed."""

import base64
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.message import Message

from node.bell import (
    PAGE,
    QUEUE,
    TASK_NAME,
    CeleryRinger,
    DoneAnnouncer,
    DoneListener,
    celery_app,
    connect,
    probe_broker,
)
from node.broker import EmbeddedBroker
from node.dispatch import BrokerPatience, Dispatch
from node.domain.job import JobID
from node.domain.lane import LANES, Call
from node.errors import BrokerTakesNothing, BrokerUnreachable
from node.ledger.bell import BellLedger
from node.ledger.jobs import RetryPolicy
from tests.brokers import Server
from tests.ledgers import NOON, Books, at, copy_ledger
from tests.peers import wait_until

LIMIT_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(tmp_path_factory.mktemp("bell") / "broker")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def url(server: EmbeddedBroker) -> str:
    connect(server.url).flushall()
    return server.url


def calls(*pairs: tuple[str, int]) -> list[Call]:
    return [Call(job_id=JobID(job_id), lane=lane) for job_id, lane in pairs]


class Listener:
    """A Celery application with our settings whose task notes what it was told."""

    def __init__(self, url: str) -> None:
        self.app: Celery = celery_app(url)
        self.heard: list[str] = []

        def note(job_id: str) -> None:
            self.heard.append(job_id)

        self.app.task(note, name=TASK_NAME, acks_late=True, ignore_result=True, shared=False)

    def hear(self, count: int) -> list[str]:
        """Work until so many messages came."""
        with start_worker(
            self.app, pool="solo", perform_ping_check=False, queues=[QUEUE], shutdown_timeout=LIMIT_S, loglevel="ERROR"
        ):
            wait_until(lambda: len(self.heard) >= count, what=f"{count} messages", limit_s=LIMIT_S)
        return self.heard


def queues(url: str) -> list[bytes]:
    """Return the lists that hold messages: one for each priority."""
    return [*connect(url).keys(QUEUE), *connect(url).keys(f"{QUEUE}:[0-9]")]


def waiting(url: str) -> int:
    return sum(int(connect(url).llen(key)) for key in queues(url))


def test_the_urgent_is_heard_first_whatever_was_rung_first(url: str) -> None:
    order = [("low", LANES - 1), ("routine", 7), ("high", 3), ("stat", 0)]
    CeleryRinger(url).ring(calls(*order))
    assert Listener(url).hear(4) == ["stat", "high", "routine", "low"]


def test_of_equal_priority_the_first_rung_is_heard_first(url: str) -> None:
    CeleryRinger(url).ring(calls(*[(f"j{n}", 7) for n in range(5)]))
    assert Listener(url).hear(5) == [f"j{n}" for n in range(5)]


def test_a_message_holds_the_job_id_and_nothing_of_a_patient(url: str) -> None:
    CeleryRinger(url).ring(calls(("the-job-id", 0)))
    redis = connect(url)
    (message,) = [json.loads(raw) for key in queues(url) for raw in redis.lrange(key, 0, -1)]
    body = json.loads(base64.b64decode(message["body"]))
    assert message["content-type"] == "application/json"
    assert body[:2] == [["the-job-id"], {}]


class Exploit:
    """What a pickle would do if anybody loaded it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


def test_a_pickle_in_the_queue_is_refused_and_the_next_message_is_heard(url: str, tmp_path: Path) -> None:
    trap = tmp_path / "was-here"
    CeleryRinger(url).ring(calls(("template", 0)))
    redis = connect(url)
    (key,) = queues(url)
    message = json.loads(redis.lpop(key) or b"")
    message["body"] = base64.b64encode(pickle.dumps(((Exploit(trap),), {}, {}))).decode()
    message["content-type"] = "application/x-python-serialize"
    redis.lpush(key, json.dumps(message))
    CeleryRinger(url).ring(calls(("after", LANES - 1)))
    assert Listener(url).hear(1) == ["after"]
    assert not trap.exists()
    assert waiting(url) == 0


def test_what_nobody_has_heard_is_known_among_whatever_else_lies_there(url: str) -> None:
    ringer = CeleryRinger(url)
    assert ringer.unheard() == frozenset()
    ringer.ring(calls(*[(f"j{n}", n % LANES) for n in range(2 * PAGE + 7)]))
    for odd in (b"no JSON", b"[]", b'{"body": "####"}', b'{"body": "bnVsbA=="}', b"\xff"):
        connect(url).rpush(QUEUE, odd)
    assert ringer.unheard() == {f"j{n}" for n in range(2 * PAGE + 7)}


def test_what_a_worker_holds_is_no_burden_when_the_broker_is_gone(tmp_path: Path) -> None:
    """It asks for more at that moment; kombu's own would connect anew at each of the last three lines."""
    server = Server("redis", tmp_path)
    server.start()
    CeleryRinger(server.url).ring(calls(("j1", 0), ("j2", 0)))
    app = celery_app(server.url)
    held: list[Message] = []
    connection = app.connection_for_read()
    app.amqp.TaskConsumer(connection.default_channel, on_message=held.append).consume()
    while len(held) < 2:
        connection.drain_events(timeout=LIMIT_S)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    server.kill()
    connection.collect()
    connection.close()
    held[0].ack()  # type: ignore[no-untyped-call]  # kombu has few types
    held[1].requeue()  # type: ignore[no-untyped-call]  # kombu has few types


def test_memory_is_lost_until_it_is_begun(url: str) -> None:
    ringer = CeleryRinger(url)
    assert (ringer.kept_memory(), ringer.kept_memory()) == (False, False)
    ringer.begin_memory()
    assert ringer.kept_memory() is True
    connect(url).flushall()
    assert ringer.kept_memory() is False


def test_after_a_flushall_every_waiting_job_is_rung_again(url: str, tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    job = books.add_job()
    dispatch = Dispatch(
        books.jobs,
        CeleryRinger(url),
        story=BellLedger(books.engine),
        policy=RetryPolicy(max_attempts=3, pause_s=5.0),
        patience=BrokerPatience(resend_s=30.0, ageing_s=600.0),
    )
    dispatch.tick(NOON)
    dispatch.tick(at(1))
    assert waiting(url) == 1
    connect(url).flushall()
    assert waiting(url) == 0
    dispatch.tick(at(2))
    assert Listener(url).hear(1) == [job.job_id]
    books.close()


def test_without_a_broker_ringing_fails_soon_and_says_so(tmp_path: Path) -> None:
    ringer = CeleryRinger(f"redis+socket://{tmp_path / 'nobody.sock'}")
    asks = (ringer.kept_memory, ringer.unheard, ringer.begin_memory, lambda: ringer.ring(calls(("j", 0))))
    for ask in asks:
        with pytest.raises(BrokerUnreachable, match="wait in the ledger"):
            ask()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [("maxmemory", "1", "memory is full"), ("min-replicas-to-write", "1", "NOREPLICAS"), ("replicaof", "", "replica")],
)
def test_a_broker_that_takes_nothing_says_why(url: str, key: str, value: str, why: str) -> None:
    client = connect(url)
    ringer = CeleryRinger(url)
    if key == "replicaof":
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        client.config_set(key, value)
    try:
        with pytest.raises(BrokerTakesNothing, match=why):
            ringer.ring(calls(("j", 0)))
        with pytest.raises(BrokerTakesNothing, match=why):
            ringer.begin_memory()
        with pytest.raises(BrokerTakesNothing, match=why):
            probe_broker(url)
        assert ringer.kept_memory() is False
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", "0")
        client.config_set("min-replicas-to-write", "0")


def test_the_end_of_a_job_is_heard_at_once(url: str) -> None:
    heard = threading.Semaphore(0)
    ears = DoneListener(url, heard.release)
    ears.start()
    # Once for what ended while nobody listened.
    assert heard.acquire(timeout=LIMIT_S)
    DoneAnnouncer(url).announce(JobID("j1"))
    assert heard.acquire(timeout=LIMIT_S)
    ears.stop()


def test_an_announcement_that_nobody_can_take_harms_nobody(tmp_path: Path) -> None:
    DoneAnnouncer(f"redis+socket://{tmp_path / 'nobody.sock'}").announce(JobID("j1"))
