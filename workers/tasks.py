"""The worker's door to Celery: a message rings, the ledger says what to do."""

from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import worker_process_init

from node.bell import QUEUE, TASK_NAME, DoneAnnouncer, celery_app
from node.domain.job import JobID
from node.logs import configure_logging
from node.settings import Settings

if TYPE_CHECKING:
    from workers.retraction import Registry
    from workers.runner import JobRunner


def serve_jobs(settings: Settings, *, device: str, processes: int) -> int:
    """Run Jobs until SIGTERM: a Job in hand is finished first; returns the exit code.

    Each of `processes` imports torch after the fork: a child of a parent that has used torch hangs.
    """
    app = celery_app(settings.broker.url.get_secret_value())
    _register_task(app, settings, device, processes)
    worker = app.Worker(
        pool="prefork",
        concurrency=processes,
        queues=[QUEUE],
        loglevel="ERROR",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _register_task(app: Celery, settings: Settings, device: str, processes: int) -> None:
    runners: dict[str, JobRunner] = {}
    registries: dict[str, Registry] = {}
    announcer = DoneAnnouncer(settings.broker.url.get_secret_value())

    def prepare_process(**_: object) -> None:
        # Keeps torch out of the parent process.
        from workers.app import build_registry, build_runner

        configure_logging(settings.log.level)
        runners["this process"] = build_runner(settings, device, processes=processes)
        registries["this process"] = build_registry(settings)

    def run_job(job_id: str) -> None:
        from workers.retraction import carry_out_retractions

        runners["this process"].run_job(JobID(job_id))
        try:
            # A finished Job may have superseded another; what failed is logged and stays pending.
            carry_out_retractions(registries["this process"])
        finally:
            announcer.announce(JobID(job_id))

    worker_process_init.connect(prepare_process, weak=False)
    app.task(run_job, name=TASK_NAME, acks_late=True, ignore_result=True)
