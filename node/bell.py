"""The bell: the only door to Celery and Redis. It carries Job ids to workers and "done" back, and may forget both."""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.exceptions import OperationalError as CeleryError
from celery.signals import task_rejected
from kombu.connection import Connection
from kombu.exceptions import OperationalError as KombuError
from kombu.transport import redis as redis_transport
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import (  # type: ignore[attr-defined]  # types-redis is older than OutOfMemoryError
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from node.domain.job import JobID
from node.domain.lane import LANES, Call
from node.errors import BrokerLoginRefused, BrokerTakesNothing, BrokerUnreachable

logger = logging.getLogger(__name__)

TASK_NAME = "radnode.run_job"
QUEUE = "radnode"
# Present as long as the broker kept its memory; absent after a restart without AOF or a FLUSHALL.
MEMORY_KEY = "radnode:memory"
PROBE_KEY = "radnode:probe"
DONE_CHANNEL = "radnode:done"
# Between the name of the queue and the priority of its messages; most urgent has none.
SEPARATOR = ":"
# Celery's Redis transport serves the lists of lower numbers first.
PRIORITY_STEPS = list(range(LANES))
BROKER_TIMEOUT_S = 2.0
LISTEN_TIMEOUT_S = 1.0
# A line that is dead without a word is noticed after so long a silence, or twice as long.
SILENCE_S = 5
MISSED_ANSWERS = 2
# Before a worker calls again, however long the broker was away.
LONGEST_PAUSE_S = 10.0
# Messages that are read at a time when the queues are looked through.
PAGE = 1000
# The ledger hands a Job that fell silent to another worker; the broker must not do it a second time.
CHILD_START_S = 300.0
VISIBILITY_TIMEOUT_S = 7 * 24 * 3600


class CeleryRinger:
    """The bell over Celery and Redis; the message is the Job id and nothing else."""

    def __init__(self, broker_url: str) -> None:
        self._celery = celery_app(broker_url)
        self._redis = connect(broker_url)

    def ring(self, calls: Sequence[Call]) -> None:
        """Send one message a Job, into its lane.

        Raises
        ------
        BrokerUnreachable
            If the broker does not take them.
        """
        with _named_faults(), self._celery.connection_for_write() as connection:
            for call in calls:
                self._celery.send_task(
                    TASK_NAME,
                    args=[call.job_id],
                    queue=QUEUE,
                    priority=call.lane,
                    connection=connection,
                    retry=False,
                    ignore_result=True,
                )

    def unheard(self) -> frozenset[JobID]:
        """Return the Jobs whose messages lie in the broker, taken by no worker; what is no message is passed over.

        Raises
        ------
        BrokerUnreachable
            If the broker cannot be asked.
        """
        with _named_faults():
            return frozenset(job_id for raw in self._lying() if (job_id := _job_of(raw)) is not None)

    def kept_memory(self) -> bool:
        """Return False from when the broker lost its messages until `begin_memory` is called.

        Raises
        ------
        BrokerUnreachable
            If the broker cannot be asked.
        """
        with _named_faults():
            return bool(self._redis.exists(MEMORY_KEY))

    def begin_memory(self) -> None:
        """Note in the broker that it has every message again.

        Raises
        ------
        BrokerUnreachable
            If the broker does not take the note.
        """
        with _named_faults():
            self._redis.set(MEMORY_KEY, "1")

    def _lying(self) -> Iterator[bytes]:
        """Yield what lies in the queues; workers take it from the other end, so nothing is passed over meanwhile."""
        for step in PRIORITY_STEPS:
            key, start = f"{QUEUE}{SEPARATOR}{step}" if step else QUEUE, 0
            while page := self._redis.lrange(key, start, start + PAGE - 1):
                yield from page
                start += len(page)


class DoneAnnouncer:
    """Tells the node that a Job ended, so that its Results leave at once; nothing is lost when nobody hears it."""

    def __init__(self, broker_url: str) -> None:
        self._redis = connect(broker_url)

    def announce(self, job_id: JobID) -> None:
        """Announce the end of a Job; a broker that is away is no error, delivery looks by itself within seconds."""
        try:
            self._redis.publish(DONE_CHANNEL, job_id)
        except (RedisError, OSError):
            logger.warning("end of job not announced", extra={"job_id": job_id})


class DoneListener:
    """Calls `on_done` whenever a worker announces the end of a Job."""

    def __init__(self, broker_url: str, on_done: Callable[[], None]) -> None:
        self._url = broker_url
        self._on_done = on_done
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="done-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; returns when the thread has ended."""
        self._stopping.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._url, silence_s=SILENCE_S).pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(DONE_CHANNEL)
                    # What ended while nobody listened is found now.
                    self._on_done()
                    while not self._stopping.is_set() and _missed_answers(channel) < MISSED_ANSWERS:
                        if channel.get_message(timeout=LISTEN_TIMEOUT_S) is not None:
                            self._on_done()
            except (RedisError, OSError):
                self._stopping.wait(BROKER_TIMEOUT_S)


def _missed_answers(channel: PubSub) -> int:
    """Return how many signs of life were asked for and did not come."""
    missed: int = channel.health_check_response_counter  # type: ignore[attr-defined]  # types-redis is older
    return missed


def connect(broker_url: str, *, silence_s: int = 0) -> "Redis[bytes]":
    """Return a client of the broker, which tries everything once; nothing is sent yet.

    Parameters
    ----------
    silence_s
        After so long a silence it is asked for a sign of life; 0: never.
    """
    return Redis.from_url(
        plain_redis_url(broker_url),
        socket_connect_timeout=BROKER_TIMEOUT_S,
        socket_timeout=BROKER_TIMEOUT_S,
        health_check_interval=silence_s,
        retry=Retry(NoBackoff(), 0),
    )


def probe_broker(broker_url: str) -> None:
    """Ask the broker for a sign of life, and whether it takes something.

    Raises
    ------
    BrokerUnreachable
        If it gives none, or does not.
    """
    with _named_faults():
        connect(broker_url).set(PROBE_KEY, "1", ex=1)


@contextmanager
def _named_faults() -> Iterator[None]:
    try:
        yield
    except (CeleryError, KombuError, RedisError, OSError) as exc:
        raise _name_fault(exc) from exc


def _name_fault(error: BaseException) -> BrokerUnreachable:
    """Return what it means that the broker, or the library between, said this."""
    fault = error
    # Celery and kombu each wrap what Redis said.
    while not isinstance(fault, RedisError) and (within := fault.__cause__ or fault.__context__) is not None:
        fault = within
    match fault:
        case AuthenticationError() | AuthorizationError() | NoPermissionError():
            return BrokerLoginRefused(
                "the broker refuses user or password of broker.url, or lets them do too little; correct one of them. "
                "Jobs wait in the ledger until then"
            )
        case OutOfMemoryError():
            why = "its memory is full: see maxmemory"
        case ReadOnlyError():
            why = "it is a read-only replica: name its primary in broker.url"
        case ResponseError():
            # Of what it says only the code that it begins with: the rest may quote what it was sent.
            why = f"it says {str(fault).rpartition('caused error: ')[2].partition(' ')[0]}: see its log"
        case _:
            return BrokerUnreachable("the broker does not answer; see broker.url. Jobs wait in the ledger meanwhile")
    return BrokerTakesNothing(f"the broker answers and takes no messages, {why}. Jobs wait in the ledger until it does")


def _job_of(raw: bytes) -> JobID | None:
    """Return the Job that a message in a queue rings for; None when it is no message of ours."""
    try:
        (job_id,), *_ = json.loads(base64.b64decode(json.loads(raw)["body"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return JobID(job_id) if isinstance(job_id, str) else None


class _QoS(redis_transport.QoS):
    """What a worker has taken; over a connection that is gone nothing is said of it any more.

    Kombu's would open another, for which it has no address by then, and end the whole worker.
    """

    def ack(self, delivery_tag: str) -> None:
        if not self.channel.closed:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self.channel.closed:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]  # kombu has few types


class _Channel(redis_transport.Channel):
    """A channel that drops what is no message, where kombu's would end the whole worker with every Job in its hands."""

    QoS = _QoS
    # Nor is anything put back at the end: dispatch sees what is missing.
    do_restore = False

    def _brpop_read(self, **options: Any) -> object:
        held = set(self.qos._delivered)
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has few types
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            # A message that nobody works on and nobody acknowledges would take the place of one of ours for good.
            for tag in set(self.qos._delivered) - held:
                self.qos.ack(tag)
            task_rejected.send(sender=self, message=None, exc=exc)
            # What kombu itself says when there was nothing.
            raise Empty from exc

    def _connparams(self, asynchronous: bool = False) -> Mapping[str, Any]:
        # Whoever waits here serves others too, and tries again by himself.
        parameters = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]  # kombu has few types
        return {**parameters, "retry": Retry(NoBackoff(), 0)}


class _Transport(redis_transport.Transport):
    Channel = _Channel


class _Connection(Connection):
    def get_transport_cls(self) -> type[_Transport]:
        return _Transport

    def ensure_connection(self, *args: Any, **options: Any) -> "_Connection":
        options = {"interval_max": LONGEST_PAUSE_S, **options}
        super().ensure_connection(*args, **options)  # type: ignore[no-untyped-call]  # kombu has few types
        return self


class _Amqp(AMQP):  # type: ignore[misc]  # celery has no types
    Connection = _Connection


def celery_app(broker_url: str) -> Celery:
    """Return the Celery application that node and workers share: JSON only, acknowledged late, no results kept."""
    app = Celery("radnode", broker=broker_url, set_as_current=False, amqp=_Amqp)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        # What a worker has not begun stays in the queue: others may take it, and a killed worker takes it with nobody.
        worker_disable_prefetch=True,
        # Celery kills a child that is not up in 4 s; importing torch takes longer on a busy machine.
        worker_proc_alive_timeout=CHILD_START_S,
        worker_hijack_root_logger=False,
        # Else each line of a child's log goes to a logger of Celery's, and from there nowhere.
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        # The lease in the ledger says whose a Job is: a worker that has lost the broker works on.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A broker that is full, or lets us do too little, is waited for like one that is away.
        broker_channel_error_retry=True,
        broker_transport_options={
            "priority_steps": PRIORITY_STEPS,
            "sep": SEPARATOR,
            "queue_order_strategy": "priority",
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": BROKER_TIMEOUT_S,
            "socket_connect_timeout": BROKER_TIMEOUT_S,
            "health_check_interval": SILENCE_S,
        },
        enable_utc=True,
    )
    return app


def plain_redis_url(broker_url: str) -> str:
    """Return the URL as redis-py spells it: Celery says ``redis+socket`` where redis-py says ``unix``."""
    return broker_url.replace("redis+socket://", "unix://", 1)
