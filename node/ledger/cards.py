"""Cards: beside the Results of a Job lies what a ledger knows of them, for the day on which the ledger is lost."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from node.domain.job import Job, JobState
from node.domain.result import Result
from node.domain.retraction import Retraction
from node.errors import NotDicom
from node.ledger.jobs import JobOutcome
from node.ledger.rows import from_order

FORMAT = 1

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What one card says: rows of the ledger, by column.

    Attributes
    ----------
    job
        The Job that was answered; empty on the card of a retraction.
    retraction
        What was taken back; empty on the card of a Job.
    results
        What was written.
    """

    job: Row
    retraction: Row
    results: tuple[Row, ...]


def job_card(job: Job, outcome: JobOutcome, *, now: datetime) -> bytes:
    """Return the card of a Job that is about to be COMPLETED."""
    row = {
        "job_id": job.job_id,
        **from_order(job.order),
        "state": JobState.COMPLETED.value,
        "accepted_at": job.accepted_at.isoformat(),
        "not_before": job.accepted_at.isoformat(),
        "attempts": job.attempts,
        "fence": job.fence,
        "findings": list(outcome.findings),
        "seconds": dict(outcome.seconds),
        "notes": list(outcome.notes),
        "threshold": outcome.threshold,
        "model_sha256": outcome.model_sha256,
        "supersedes": job.supersedes,
        "finished_at": now.isoformat(),
    }
    return _encode(job=row, retraction={}, results=outcome.results, now=now, layout=outcome.layout)


def retraction_card(retraction: Retraction, results: Iterable[Result], *, now: datetime) -> bytes:
    """Return the card of a retraction that is about to be done: the rejection note, and what takes the place."""
    order = retraction.order
    row = {
        "retraction_id": retraction.retraction_id,
        "job_id": retraction.job_id,
        "reason": order.reason.value,
        "comment": order.comment,
        "struck": list(order.struck),
        "ordered_by": order.ordered_by,
        "ordered_at": retraction.ordered_at.isoformat(),
        "noted_at": now.isoformat(),
        "done_at": now.isoformat(),
    }
    return _encode(job={}, retraction=row, results=results, now=now)


def read_card(content: bytes) -> Card:
    """Return what a card says.

    Raises
    ------
    NotDicom
        If it is no card, or one of a newer radnode.
    """
    try:
        told = json.loads(content)
        if told["format"] != FORMAT:
            raise NotDicom(f"the card has format {told['format']}, and this radnode reads {FORMAT}")
        return Card(
            job=_with_times(told["job"]),
            retraction=_with_times(told["retraction"]),
            results=tuple(_with_times(row) for row in told["results"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise NotDicom("the file is no card of a Job") from exc


def _encode(*, job: Row, retraction: Row, results: Iterable[Result], now: datetime, layout: str = "") -> bytes:
    rows = [_result_row(result, now) for result in results]
    told = {"format": FORMAT, "job": job, "retraction": retraction, "results": rows}
    if layout:
        # No column of the ledger: it is for whoever asks how a Result came about.
        told["layout"] = layout
    return json.dumps(told, ensure_ascii=False, indent=1).encode()


def _result_row(result: Result, now: datetime) -> Row:
    row = {field.name: getattr(result, field.name) for field in fields(result)}
    kept = {"kind": result.kind.value, "attributes": dict(result.attributes)}
    return {**row, **kept, "created_at": now.isoformat()}


def _with_times(row: Row) -> Row:
    return {
        name: datetime.fromisoformat(value) if name.endswith(("_at", "_before")) and value is not None else value
        for name, value in row.items()
    }
