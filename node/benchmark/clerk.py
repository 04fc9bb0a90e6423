"""One who takes waiting Jobs and hands them in without any work: what the ledger takes.

``python -m node.benchmark.clerk PLACE CLERKS`` takes its settings from the environment, says ``ready``, and on a line
of standard input handles each Job whose place among all that wait is PLACE, modulo CLERKS; then it says the seconds.
"""

import sys
from time import perf_counter

from node.clock import utc_now
from node.domain.job import JobState
from node.ledger.jobs import JobLedger, JobOutcome
from node.ledger.opening import open_ledger
from node.ledger.views import LedgerView
from node.settings.loading import load_settings

LEASE_S = 60.0
MANY = 100_000
READY = "ready"
# Transactions of one Job: claimed, renewed, finished.
TRANSACTIONS = 3


def main() -> None:
    """Handle a share of the Jobs."""
    place, clerks = map(int, sys.argv[1:3])
    engine = open_ledger(load_settings(None))
    waiting = LedgerView(engine).list_jobs(state=JobState.SCHEDULED, limit=MANY)
    mine = sorted(job.job_id for job in waiting)[place::clerks]
    ledger = JobLedger(engine)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun_s = perf_counter()
    for job_id in mine:
        job = ledger.claim_job(job_id, owner=f"clerk:{place}", lease_s=LEASE_S, now=utc_now())
        if job is not None:
            ledger.renew_lease(job, lease_s=LEASE_S, now=utc_now())
            outcome = JobOutcome(findings=[], seconds={}, model_sha256="", results=())
            ledger.finish_job(job, outcome, now=utc_now())
    sys.stdout.write(f"{perf_counter() - begun_s}\n")
    engine.dispose()


if __name__ == "__main__":
    main()
