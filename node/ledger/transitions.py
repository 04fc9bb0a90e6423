"""What every room of the ledger writes when it moves a Job: the values of a state, and the line that tells of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from node.domain.job import Job, JobState
from node.ledger.rows import add_event


def canceled(reason_code: str, reason_text: str, now: datetime) -> Mapping[str, Any]:
    """Return the values of a Job that ends CANCELED."""
    return {
        "state": JobState.CANCELED.value,
        "reason_code": reason_code,
        "reason_text": reason_text,
        "lease_expires_at": None,
        "finished_at": now,
    }


def scheduled_again(reason: tuple[str, str] | None, not_before: datetime) -> Mapping[str, Any]:
    """Return the values of a Job that waits for a worker again; `reason` is why the last attempt ended."""
    code, text = reason or (None, None)
    return {
        "state": JobState.SCHEDULED.value,
        "not_before": not_before,
        "enqueued_at": None,
        "lease_owner": None,
        "lease_expires_at": None,
        "finished_at": None,
        "reason_code": code,
        "reason_text": text,
    }


def tell(connection: Connection, job: Job, *, now: datetime, kind: str, text: str) -> None:
    """Add a line to the time line of the Job and of its Study."""
    uid = job.order.study_instance_uid
    add_event(connection, at=now, kind=kind, text=text, study_instance_uid=uid, job_id=job.job_id)
