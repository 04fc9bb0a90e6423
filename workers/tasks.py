"""The worker's door to Celery: a message rings, the ledger says what to do."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.exceptions import Reject
from celery.signals import task_failure, task_rejected, task_unknown, worker_process_init, worker_shutting_down

from node.bell import QUEUE, TASK_NAME, DoneAnnouncer, celery_app
from node.domain.job import JobID
from node.errors import Broken, LedgerBusy, NodeError
from node.logs import configure_logging
from node.settings.whole import Settings
from workers.foreman import Foreman
from workers.post import Post
from workers.turns import Gatekeeper

if TYPE_CHECKING:
    from workers.retraction import Registry
    from workers.runner import JobRunner

    OpenTools = Callable[[Settings, Post], tuple[JobRunner, Registry]]

logger = logging.getLogger(__name__)

# Before a message whose Job the ledger could not be asked about is taken again.
BUSY_PAUSE_S = 1.0
EXIT_FAILURE = 1
# What one write to a pipe takes whole, whoever else writes (pipe(7)).
PIPE_BYTES = 4096


def open_tools(settings: Settings, post: Post) -> "tuple[JobRunner, Registry]":
    """Return what one process works with; to be called after the fork."""
    # Loaded by `preload` long since; here it would make this file's own importers wait for torch.
    from workers.app import build_registry, build_runner

    return build_runner(settings, post), build_registry(settings)


def preload() -> None:
    """Load once what every process of the pool needs, before they are forked: they share its pages, and come quickly.

    It is loaded and not used: a child of a process whose torch has computed something hangs.
    """
    # The command line of a worker must not wait for it before it knows that it is to serve.
    import workers.app  # noqa: F401  for its own sake

    # Else the collector writes into the pages of every object, and so makes them each process's own.
    gc.collect()
    gc.freeze()


def serve_jobs(settings: Settings, post: Post, *, tools: "OpenTools" = open_tools) -> int:
    """Run Jobs until SIGTERM; returns the exit code.

    Then a Job in hand may go on for `dispatch.drain_seconds`, and is given back if it needs longer. A worker whose
    processes cannot begin to work ends by itself.
    """
    preload()
    app = celery_app(settings.broker.url.get_secret_value())
    failures, report = os.pipe()
    _register_task(app, _PoolProcess(settings, post, tools, report))
    _appoint_foreman(Foreman(settings, post))
    if post.gate is not None:
        Gatekeeper(post.gate).start()
    worker = app.Worker(
        pool="prefork",
        concurrency=post.processes,
        queues=[QUEUE],
        loglevel="ERROR",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    os.set_blocking(failures, False)
    try:
        said = os.read(failures, PIPE_BYTES).decode()
    except BlockingIOError:
        return int(worker.exitcode or 0)
    sys.stderr.write(f"radnode worker: {said}")
    return EXIT_FAILURE


class _PoolProcess:
    """One process of the pool: opens its tools after the fork, and is replaced when it is spent."""

    def __init__(self, settings: Settings, post: Post, tools: "OpenTools", report: int) -> None:
        self._settings = settings
        self._post = post
        self._open_tools = tools
        self._report = report
        self._tools: tuple[JobRunner, Registry] | None = None
        self._announcer = DoneAnnouncer(settings.broker.url.get_secret_value())

    def open(self) -> None:
        """Open runner and registry; where that fails the whole worker ends, before it has taken a Job."""
        configure_logging(self._settings.log.level)
        try:
            self._tools = self._open_tools(self._settings, self._post)
            logger.info("worker process ready")
        except NodeError as exc:
            self._give_up(exc)
        except Exception:
            # The outer edge of the process: without tools it would use up messages for nothing.
            logger.exception("worker process not opened")
            self._give_up(Broken("a process of the worker did not open; the traceback is in the log"))

    def run_job(self, job_id: JobID) -> None:
        """Run one Job, then what retractions are pending; ends the process when it is spent."""
        # As in `open_tools`.
        from workers.retraction import carry_out_retractions

        if self._tools is None:
            raise Broken("a process of the pool was asked before it was opened")
        runner, registry = self._tools
        try:
            runner.run_job(job_id)
            # A finished Job may have superseded another; what failed is logged and stays pending.
            carry_out_retractions(registry)
        except LedgerBusy as exc:
            logger.warning("ledger busy", extra={"job_id": job_id, "reason_code": exc.code})
            time.sleep(BUSY_PAUSE_S)
            raise Reject(exc.code, requeue=True) from exc
        finally:
            self._announcer.announce(job_id)
        if runner.is_spent:
            logger.warning("worker process spent", extra={"job_id": job_id})
            os._exit(os.EX_TEMPFAIL)

    def _give_up(self, error: NodeError) -> None:
        logger.error("worker cannot work", extra={"reason_code": error.code})
        os.write(self._report, f"{error}\n".encode()[:PIPE_BYTES])
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(EXIT_FAILURE)


def _register_task(app: Celery, process: _PoolProcess) -> None:
    def open_process(**_: object) -> None:
        process.open()

    def run_job(job_id: str) -> None:
        process.run_job(JobID(job_id))

    worker_process_init.connect(open_process, weak=False)
    app.task(run_job, name=TASK_NAME, acks_late=True, ignore_result=True)


def _appoint_foreman(foreman: Foreman) -> None:
    def mourn(exception: BaseException, args: tuple[Any, ...], **_: object) -> None:
        # Other failures are told by the process itself.
        if isinstance(exception, WorkerLostError):
            foreman.mourn(JobID(str(args[0])), str(exception))

    def note_odd_message(**_: object) -> None:
        foreman.note_odd_message()

    def begin_to_end(**_: object) -> None:
        foreman.begin_to_end()

    task_rejected.connect(note_odd_message, weak=False)
    task_unknown.connect(note_odd_message, weak=False)
    task_failure.connect(mourn, weak=False)
    worker_shutting_down.connect(begin_to_end, weak=False)
