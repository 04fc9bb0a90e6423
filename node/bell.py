"""The bell: the only door to Celery and Redis. It carries Job ids to workers and "done" back, and may forget both."""

import logging
import threading
from collections.abc import Callable, Sequence

from celery import Celery
from celery.exceptions import OperationalError as CeleryError
from kombu.exceptions import OperationalError as KombuError
from redis import Redis
from redis.exceptions import RedisError

from node.domain.job import JobID, Priority
from node.errors import BrokerUnreachable
from node.ledger.jobs import Bell

logger = logging.getLogger(__name__)

TASK_NAME = "radnode.run_job"
QUEUE = "radnode"
# Present as long as the broker kept its memory; absent after a restart without AOF or a FLUSHALL.
MEMORY_KEY = "radnode:memory"
DONE_CHANNEL = "radnode:done"
# Celery's Redis transport serves the lists of lower numbers first.
PRIORITY_STEPS = [int(priority) for priority in Priority]
BROKER_TIMEOUT_S = 2.0
LISTEN_TIMEOUT_S = 1.0
# The ledger hands a Job that fell silent to another worker; the broker must not do it a second time.
CHILD_START_S = 300.0
VISIBILITY_TIMEOUT_S = 7 * 24 * 3600


class CeleryRinger:
    """The bell over Celery and Redis; the message is the Job id and nothing else."""

    def __init__(self, broker_url: str) -> None:
        self._celery = celery_app(broker_url)
        self._redis = connect(broker_url)

    def ring(self, bells: Sequence[Bell]) -> None:
        """Send one message a Job.

        Raises
        ------
        BrokerUnreachable
            If the broker does not take them.
        """
        try:
            with self._celery.connection_for_write() as connection:
                for bell in bells:
                    self._celery.send_task(
                        TASK_NAME,
                        args=[bell.job_id],
                        queue=QUEUE,
                        priority=int(bell.priority),
                        connection=connection,
                        retry=False,
                        ignore_result=True,
                    )
        except (CeleryError, KombuError, RedisError, OSError) as exc:
            raise BrokerUnreachable("the broker does not answer; Jobs wait in the ledger until it does") from exc

    def kept_memory(self) -> bool:
        """Return False from when the broker lost its messages until `begin_memory` is called.

        Raises
        ------
        BrokerUnreachable
            If the broker cannot be asked.
        """
        try:
            return bool(self._redis.exists(MEMORY_KEY))
        except (RedisError, OSError) as exc:
            raise BrokerUnreachable("the broker does not answer; Jobs wait in the ledger until it does") from exc

    def begin_memory(self) -> None:
        """Note in the broker that it has every message again.

        Raises
        ------
        BrokerUnreachable
            If the broker does not take the note.
        """
        try:
            self._redis.set(MEMORY_KEY, "1")
        except (RedisError, OSError) as exc:
            raise BrokerUnreachable("the broker does not answer; Jobs wait in the ledger until it does") from exc


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
                with connect(self._url).pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(DONE_CHANNEL)
                    # What ended while nobody listened is found now.
                    self._on_done()
                    while not self._stopping.is_set():
                        if channel.get_message(timeout=LISTEN_TIMEOUT_S) is not None:
                            self._on_done()
            except (RedisError, OSError):
                self._stopping.wait(BROKER_TIMEOUT_S)


def connect(broker_url: str) -> "Redis[bytes]":
    """Return a client of the broker; nothing is sent yet."""
    return Redis.from_url(
        plain_redis_url(broker_url), socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S
    )


def probe_broker(broker_url: str) -> None:
    """Ask the broker for a sign of life.

    Raises
    ------
    BrokerUnreachable
        If it gives none.
    """
    try:
        connect(broker_url).ping()
    except (RedisError, OSError) as exc:
        raise BrokerUnreachable(f"the broker does not answer ({type(exc).__name__}); check broker.url") from exc


def celery_app(broker_url: str) -> Celery:
    """Return the Celery application that node and workers share: JSON only, acknowledged late, no results kept."""
    app = Celery("radnode", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        # Celery kills a child that is not up in 4 s; importing torch takes longer on a busy machine.
        worker_proc_alive_timeout=CHILD_START_S,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "priority_steps": PRIORITY_STEPS,
            "sep": ":",
            "queue_order_strategy": "priority",
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": 30.0,
            "socket_connect_timeout": BROKER_TIMEOUT_S,
        },
        enable_utc=True,
    )
    return app


def plain_redis_url(broker_url: str) -> str:
    """Return the URL as redis-py spells it: Celery says ``redis+socket`` where redis-py says ``unix``."""
    return broker_url.replace("redis+socket://", "unix://", 1)
