"""Cards: beside the Results of a Job lies what a ledger knows of them, for the day on which the ledger is lost."""

import json
import re
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
# The last group of a Job's id has 12 digits, a fence never so many.
NAME = re.compile(
    r"(?P<job_id>.+)-(?:(?P<fence>[0-9]{1,9})|(?P<retraction_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))"
)
# What a row of the ledger cannot do without, and no default gives.
JOB_COLUMNS = frozenset(
    {
        "job_id", "study_instance_uid", "pipeline", "model", "model_version", "content", "rule", "priority", "inputs",
        "deliver_to", "state", "accepted_at", "not_before", "fence", "finished_at",
    }
)  # fmt: skip
RETRACTION_COLUMNS = frozenset({"retraction_id", "job_id", "reason", "comment", "struck", "ordered_by", "ordered_at"})

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

    @property
    def job_id(self) -> str:
        """The Job that was answered, or whose Results were taken back."""
        return str((self.job or self.retraction)["job_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CardName:
    """What the name of a card's file tells of it, so that not every card has to be read.

    Attributes
    ----------
    fence
        Of the claim under which the Job was answered; None on the card of a retraction.
    retraction_id
        Empty on the card of a Job.
    """

    job_id: str
    fence: int | None
    retraction_id: str


def read_name(name: str) -> CardName | None:
    """Return what the name of a card's file says, without folder and suffix; None: nothing, the card must be read."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    fence = found["fence"]
    return CardName(
        job_id=found["job_id"],
        fence=None if fence is None else int(fence),
        retraction_id=found["retraction_id"] or "",
    )


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
        card = Card(
            job=_with_times(told["job"]),
            retraction=_with_times(told["retraction"]),
            results=tuple(_with_times(row) for row in told["results"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise NotDicom("the file is no card of a Job") from exc
    for row, columns in ((card.job, JOB_COLUMNS), (card.retraction, RETRACTION_COLUMNS)):
        if row and not columns <= row.keys():
            raise NotDicom(f"the card does not say {', '.join(sorted(columns - row.keys()))}")
    return card


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
