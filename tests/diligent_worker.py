"""A real worker whose Jobs are nothing but notes: `python -m tests.diligent_worker --settings FILE --scratch FOLDER`.

It claims and finishes them in the ledger as every worker does. Each start is a line of ``begun``, each message whose
Job was not to be had a line of ``refused``; while there is a file ``hold`` no Job ends.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from node.children import end_with_parent
from node.clock import utc_now
from node.domain.job import JobID, JobOrder
from node.domain.result import ResultWishes
from node.ledger.engine import open_engine
from node.ledger.jobs import JobLedger, JobOutcome
from node.ledger.retractions import RetractionLedger
from node.logs import configure_logging
from node.models import ModelCard
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.store.files import FileStore, Reserve
from workers.post import Post, make_post
from workers.tasks import serve_jobs

if TYPE_CHECKING:
    from workers.retraction import Registry
    from workers.runner import JobRunner

LEASE_S = 300.0
SHORT_S = 0.02


class Diligent:
    """What runs Jobs in one process."""

    is_spent = False

    def __init__(self, ledger: JobLedger, owner: str, scratch: Path) -> None:
        self._ledger = ledger
        self._owner = owner
        self._scratch = scratch

    def run_job(self, job_id: JobID) -> bool:
        """Claim, note, wait, finish."""
        job = self._ledger.claim_job(job_id, owner=self._owner, lease_s=LEASE_S, now=utc_now())
        self._note("begun" if job is not None else "refused", job_id)
        if job is None:
            return False
        while (self._scratch / "hold").exists():
            time.sleep(SHORT_S)
        outcome = JobOutcome(findings=[], seconds={}, model_sha256="", results=())
        self._ledger.finish_job(job, outcome, now=utc_now())
        return True

    def _note(self, name: str, job_id: JobID) -> None:
        with (self._scratch / name).open("a") as book:
            book.write(f"{job_id}\n")


def open_diligent_tools(settings: Settings, post: Post, *, scratch: Path) -> "tuple[JobRunner, Registry]":
    # Only after the fork, as in `workers.tasks`.
    from workers.retraction import Registry

    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    registry = Registry(
        retractions=RetractionLedger(engine),
        jobs=JobLedger(engine),
        store=FileStore(scratch / "store", Reserve(reserve_bytes=0, reserve_percent=0.0)),
        card=no_model,
        wishes=no_wishes,
        node_aet=settings.node.aet,
        software_version="",
        clock=utc_now,
    )
    runner = Diligent(JobLedger(engine), post.name_process(os.getpid()), scratch)
    return cast("JobRunner", runner), registry


def no_model(name: str) -> ModelCard:
    raise AssertionError(f"nothing is retracted here, and nobody asks for {name}")


def no_wishes(order: JobOrder) -> ResultWishes:
    raise AssertionError(f"nothing is retracted here, not even of {order.pipeline}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    end_with_parent(os.getppid())
    settings = load_settings(arguments.settings)
    configure_logging(settings.log.level)
    tools = partial(open_diligent_tools, scratch=arguments.scratch)
    return serve_jobs(settings, make_post("cpu", processes=arguments.processes), tools=tools)


if __name__ == "__main__":
    sys.exit(main())
