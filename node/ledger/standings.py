"""How Studies of one page of the worklist stand: read from what they are, not from what was kept of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from node.domain.completeness import REFUSED
from node.domain.decision import Outcome
from node.domain.result import DeliveryState
from node.domain.study import Attributes, SeriesState
from node.ledger.engine import Desk
from node.ledger.placement import IS_FAILED, Answer, answers_of
from node.ledger.schema import decisions, deliveries, instances, series, studies, study_entries
from node.ledger.worklist import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How many objects of a Study are in one state on their way to one Destination, and why one of them is.

    Attributes
    ----------
    is_failed
        Whether they ended badly, and nobody took note of it.
    """

    destination: str
    state: DeliveryState
    count: int
    of_job: bool
    is_failed: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that a row of the worklist says of a Study.

    Attributes
    ----------
    instances
        How many there are; counted as long as more may come.
    refusal
        Why no rule was asked of it, though it is closed; empty for any other.
    outcomes
        What the rules concluded, each with the sentence of the first that did, and how many did.
    last_instance_at
        By Series Instance UID (UTC).
    """

    place: Place
    state: SeriesState
    opened_at: datetime
    attributes: Attributes
    instances: int
    refusal: str
    outcomes: Mapping[Outcome, tuple[int, str]]
    answers: tuple[Answer, ...]
    ways: tuple[Way, ...]
    last_instance_at: Mapping[str, datetime]


class StandingLedger(Desk):
    """What is told of the Studies of a page."""

    def describe(self, places: Sequence[Place]) -> tuple[Standing, ...]:
        """Return how each Study stands, in this order; one that has gone meanwhile is left out."""
        uids = [place.study_instance_uid for place in places]
        with self.reading() as connection:
            found = {row["study_instance_uid"]: row for row in _rows(connection, select(studies), studies, uids)}
            entries = {
                row["study_instance_uid"]: row for row in _rows(connection, select(study_entries), study_entries, uids)
            }
            open_uids = [uid for uid, row in found.items() if row["state"] == SeriesState.OPEN.value]
            counts = _count_instances(connection, open_uids)
            outcomes = _outcomes(connection, {uid: row["revision"] for uid, row in found.items()})
            answers, ways, last = (
                answers_of(connection, uids),
                _ways(connection, uids),
                _last_instances(connection, uids),
            )
        return tuple(
            Standing(
                place=place,
                state=SeriesState(found[uid]["state"]),
                opened_at=found[uid]["first_instance_at"],
                attributes=entries[uid]["attributes"] if uid in entries else {},
                instances=counts.get(uid, 0),
                refusal=_refusal(found[uid]["reason"]),
                outcomes=outcomes.get(uid, {}),
                answers=tuple(answers.get(uid, ())),
                ways=tuple(ways.get(uid, ())),
                last_instance_at=last.get(uid, {}),
            )
            for uid, place in zip(uids, places, strict=True)
            if uid in found
        )


def _refusal(reason: str | None) -> str:
    return reason.removeprefix(REFUSED) if reason is not None and reason.startswith(REFUSED) else ""


def _rows(connection: Connection, statement: Any, table: Any, uids: Sequence[str]) -> Sequence[Any]:
    return connection.execute(statement.where(table.c.study_instance_uid.in_(uids))).mappings().all()


def _count_instances(connection: Connection, uids: Sequence[str]) -> Mapping[str, int]:
    uid = instances.c.study_instance_uid
    counted = select(uid, func.count()).where(uid.in_(uids)).group_by(uid)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _outcomes(connection: Connection, revisions: Mapping[str, int]) -> Mapping[str, Mapping[Outcome, tuple[int, str]]]:
    uid = decisions.c.study_instance_uid
    asked = select(uid, decisions.c.revision, decisions.c.outcome, decisions.c.reason)
    found: dict[str, dict[Outcome, tuple[int, str]]] = defaultdict(dict)
    for row in connection.execute(asked.where(uid.in_(list(revisions))).order_by(decisions.c.decision_id)):
        if row.revision == revisions[row.study_instance_uid]:
            count, reason = found[row.study_instance_uid].get(Outcome(row.outcome), (0, row.reason))
            found[row.study_instance_uid][Outcome(row.outcome)] = count + 1, reason
    return found


def _ways(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[Way]]:
    uid, of_job = deliveries.c.study_instance_uid, deliveries.c.job_id.is_not(None).label("of_job")
    key = uid, deliveries.c.destination, deliveries.c.state, of_job, IS_FAILED.label("is_failed")
    wanted = select(*key, func.count().label("count"), func.max(deliveries.c.reason_text).label("reason"))
    found: dict[str, list[Way]] = defaultdict(list)
    for row in connection.execute(wanted.where(uid.in_(uids)).group_by(*key).order_by(deliveries.c.destination)):
        found[row.study_instance_uid].append(
            Way(
                destination=row.destination,
                state=DeliveryState(row.state),
                count=row[5],
                of_job=bool(row.of_job),
                is_failed=bool(row.is_failed),
                reason=row.reason,
            )
        )
    return found


def _last_instances(connection: Connection, uids: Sequence[str]) -> Mapping[str, dict[str, datetime]]:
    wanted = select(series.c.study_instance_uid, series.c.series_instance_uid, series.c.last_instance_at)
    found: dict[str, dict[str, datetime]] = defaultdict(dict)
    for study, one, moment in connection.execute(wanted.where(series.c.study_instance_uid.in_(uids))):
        found[study][one] = moment
    return found
