"""What the proof of Deliveries asks of the ledger: what is to be asked about, and what the Destination answered."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)

from node.domain.capability import name_kind
from node.domain.confirmation import Aftermath, CommitmentReport, Unproven
from node.domain.result import Delivery, DeliveryState
from node.domain.uids import StudyUID
from node.ledger.deliveries import IS_PURGED, IS_RETRACTED, RETRACTED
from node.ledger.engine import Desk
from node.ledger.placement import touch
from node.ledger.rows import add_alarm, add_event, to_delivery
from node.ledger.schema import confirmations, deliveries, events, instances, results

# Reason of a Delivery that the Destination took and does not hold, and of one of which nobody learns whether it does.
LOST = "not-held"
UNCONFIRMED = "unconfirmed"
BY_COMMITMENT = "Storage Commitment"
COMMITTED_EVENT = "delivery-committed"
# How many of the newest proofs of a Destination are looked at to learn what a way finds there.
PROOFS_LOOKED_AT = 200
# Failure Reasons (0008,1197) that say that the Destination does not hold the object: no such object instance, and
# class-instance conflict (it holds another under that UID). All others leave it open (PS3.3 C.14, PS3.4 J.3.3).
MISSING = frozenset({0x0112, 0x0119})

_SAME = confirmations.c.delivery_id == deliveries.c.delivery_id
_SENT = deliveries.c.state == DeliveryState.SENT.value
_IS_HERE = or_(
    exists().where(results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.purged_at.is_(None)),
    exists().where(instances.c.sop_instance_uid == deliveries.c.sop_instance_uid),
)


class CommitmentLedger(Desk):
    """Deliveries on their way from SENT to COMMITTED, or to LOST and back to PENDING."""

    def due_proofs(self, destination: str, *, now: datetime, sent_before: datetime, limit: int) -> tuple[Unproven, ...]:
        """Return what the Destination is to be asked about now, whole Studies together."""
        series = func.coalesce(
            select(results.c.series_instance_uid)
            .where(results.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .scalar_subquery(),
            select(instances.c.series_instance_uid)
            .where(instances.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .scalar_subquery(),
        )
        ours = ("delivery_id", "study_instance_uid", "sop_class_uid", "sop_instance_uid")
        theirs = ("transaction_uid", "asks", "misses")
        statement = (
            select(
                *(deliveries.c[name] for name in ours),
                *(confirmations.c[name] for name in theirs),
                series.label("series_instance_uid"),
            )
            .join(confirmations, _SAME)
            .where(
                confirmations.c.destination == destination,
                confirmations.c.ask_at <= now,
                confirmations.c.sent_at <= sent_before,
                _SENT,
                ~IS_RETRACTED,
            )
            .order_by(deliveries.c.study_instance_uid, deliveries.c.delivery_id)
            .limit(limit)
        )
        with self.reading() as connection:
            return tuple(Unproven(**row) for row in connection.execute(statement).mappings())

    def next_proof_at(self, destination: str, *, after: timedelta) -> datetime | None:
        """Return when something is to be asked about next; None when nothing is.

        Parameters
        ----------
        after
            How long after its sending an object is asked about at the earliest.
        """
        sent = type_coerce(confirmations.c.sent_at, BigInteger) + after // timedelta(microseconds=1)
        asked = type_coerce(confirmations.c.ask_at, BigInteger)
        later = type_coerce(case((asked > sent, asked), else_=sent), confirmations.c.ask_at.type)
        statement = (
            select(func.min(later, type_=confirmations.c.ask_at.type))
            .join(deliveries, _SAME)
            .where(confirmations.c.destination == destination, confirmations.c.ask_at.is_not(None), _SENT)
        )
        with self.reading() as connection:
            found: datetime | None = connection.execute(statement).scalar_one()
            return found

    def count_sent(self, destination: str, series_instance_uid: str) -> int:
        """Return how many objects of a Series the Destination took and is not known to have lost."""
        of_series = union_all(
            select(results.c.sop_instance_uid).where(results.c.series_instance_uid == series_instance_uid),
            select(instances.c.sop_instance_uid).where(instances.c.series_instance_uid == series_instance_uid),
        )
        arrived = [state.value for state in DeliveryState if state.has_arrived]
        statement = select(func.count(deliveries.c.sop_instance_uid.distinct())).where(
            deliveries.c.destination == destination,
            deliveries.c.state.in_(arrived),
            deliveries.c.sop_instance_uid.in_(of_series),
        )
        with self.reading() as connection:
            return int(connection.execute(statement).scalar_one())

    def begin_commitment(self, delivery_ids: Collection[int], transaction_uid: str, *, ask_at: datetime) -> None:
        """Commit that a Storage Commitment is about to be asked for; its report may come before the answer."""
        with self.writing() as connection:
            _change(
                connection,
                delivery_ids,
                transaction_uid=transaction_uid,
                asks=confirmations.c.asks + 1,
                ask_at=ask_at,
            )

    def withdraw_question(self, delivery_ids: Collection[int], *, ask_at: datetime) -> None:
        """Commit that a Storage Commitment was not asked for after all: the request met with no answer."""
        with self.writing() as connection:
            _change(connection, delivery_ids, asks=confirmations.c.asks - 1, ask_at=ask_at)

    def is_awaited(self, transaction_uids: Collection[str]) -> bool:
        """Return whether one of these transactions is still without a report on all its objects."""
        found = exists().where(confirmations.c.transaction_uid.in_(transaction_uids), _SAME, _SENT)
        with self.reading() as connection:
            return bool(connection.execute(select(found)).scalar_one())

    def record_report(self, report: CommitmentReport, *, now: datetime) -> int:
        """Commit what a Destination reports, and return of how many Deliveries; 0 when none waits for this report.

        What it holds is COMMITTED. What it does not hold is LOST. Any other failure leaves open what it holds: it is
        asked again when the report would have been late.
        """
        waits = confirmations.c.transaction_uid == report.transaction_uid, _SENT
        with self.writing() as connection:
            rows = connection.execute(select(deliveries).join(confirmations, _SAME).where(*waits)).mappings()
            waiting = [to_delivery(row) for row in rows]
            answered = 0
            for delivery in waiting:
                uid = delivery.sop_instance_uid
                if uid in report.held:
                    _commit(connection, delivery, by=BY_COMMITMENT, now=now)
                elif report.failed.get(uid) in MISSING:
                    reason = f"{BY_COMMITMENT}, failure reason {report.failed[uid]:04X}H"
                    _lose(connection, delivery, reason=reason, now=now)
                elif uid in report.failed:
                    # With the next question begins another transaction: this one has had its report.
                    _change(connection, [delivery.delivery_id], transaction_uid=None)
                else:
                    continue
                answered += 1
            return answered

    def has_found(self, destination: str, sop_class_uid: str, *, by: str) -> bool:
        """Return whether the Destination was seen to hold an object of this SOP Class when it was asked in this way.

        Its last proofs are looked at, as the time line tells them.
        """
        proven = (
            select(deliveries.c.study_instance_uid, deliveries.c.sop_instance_uid, deliveries.c.sop_class_uid)
            .where(deliveries.c.destination == destination, deliveries.c.state == DeliveryState.COMMITTED.value)
            .order_by(deliveries.c.changed_at.desc())
            .limit(PROOFS_LOOKED_AT)
            .subquery()
        )
        said = literal(f"{name_kind(sop_class_uid)} ") + proven.c.sop_instance_uid + f" to {destination}: {by}"
        is_told = exists().where(
            proven.c.sop_class_uid == sop_class_uid,
            events.c.study_instance_uid == proven.c.study_instance_uid,
            events.c.kind == COMMITTED_EVENT,
            events.c.text == said,
        )
        with self.reading() as connection:
            return bool(connection.execute(select(is_told)).scalar_one())

    def record_held(self, delivery_ids: Collection[int], *, by: str, now: datetime) -> None:
        """Commit that the Destination holds these objects, as it answered to a query."""
        with self.writing() as connection:
            for delivery in _find_sent(connection, delivery_ids):
                _commit(connection, delivery, by=by, now=now)

    def record_missing(self, delivery_ids: Collection[int], *, by: str, now: datetime) -> None:
        """Commit that the Destination does not hold these objects, as it answered to a query."""
        with self.writing() as connection:
            for delivery in _find_sent(connection, delivery_ids):
                _lose(connection, delivery, reason=by, now=now)

    def put_off(self, delivery_ids: Collection[int], *, ask_at: datetime, is_missed: bool = False) -> None:
        """Commit that a question brought no answer that counts, and when to ask again.

        Parameters
        ----------
        is_missed
            Whether a query did not find the objects.
        """
        counter = confirmations.c.misses if is_missed else confirmations.c.asks
        with self.writing() as connection:
            _change(connection, delivery_ids, ask_at=ask_at, **{counter.name: counter + 1})

    def give_up(self, delivery_ids: Collection[int], *, now: datetime) -> None:
        """Commit that nobody asks about these objects any more: whether they are held is not known.

        There is one alarm for all objects of a Study.
        """
        told: set[str] = set()
        with self.writing() as connection:
            for delivery in _find_sent(connection, delivery_ids):
                text = "the Destination took it, and did not answer whether it holds it"
                is_news = delivery.study_instance_uid not in told
                told.add(delivery.study_instance_uid)
                _change(connection, [delivery.delivery_id], ask_at=None)
                _move(connection, delivery, DeliveryState.SENT, now=now, reason_code=UNCONFIRMED, reason_text=text)
                _tell(connection, delivery, kind="delivery-unconfirmed", why=text, now=now, is_alarm=is_news)

    def forgo(self, destination: str, delivery_ids: Collection[int] | None = None) -> None:
        """Commit that the Destination is not asked about these objects, or about any: it confirms nothing."""
        concerned = [confirmations.c.destination == destination, _in_state(DeliveryState.SENT)]
        if delivery_ids is not None:
            concerned.append(confirmations.c.delivery_id.in_(delivery_ids))
        with self.reading() as connection:
            if not connection.execute(select(exists().where(*concerned))).scalar_one():
                return
        with self.writing() as connection:
            connection.execute(delete(confirmations).where(*concerned))

    def forget_retracted(self, destination: str) -> None:
        """Commit that nobody asks about what was taken back: a Destination that heeds it holds the object no longer."""
        taken_back = exists().where(_SAME, _SENT, IS_RETRACTED)
        concerned = confirmations.c.destination == destination, taken_back
        with self.reading() as connection:
            if not connection.execute(select(exists().where(*concerned))).scalar_one():
                return
        with self.writing() as connection:
            connection.execute(delete(confirmations).where(*concerned))

    def follow_losses(self, destination: str, *, tries: int, now: datetime) -> Aftermath:
        """Commit what follows for each object that was lost: it is sent again, or a person is told.

        It is sent again at most `tries` times, and not when the node holds it no longer. What was taken back meanwhile
        is not missed. There is one alarm for all objects of a Study.
        """
        statement = (
            select(
                deliveries.c.delivery_id,
                confirmations.c.losses,
                IS_RETRACTED.label("is_retracted"),
                and_(_IS_HERE, ~IS_PURGED).label("is_here"),
            )
            .join(confirmations, _SAME)
            .where(
                confirmations.c.destination == destination,
                confirmations.c.ask_at.is_not(None),
                deliveries.c.state == DeliveryState.LOST.value,
            )
        )
        with self.reading() as connection:
            if connection.execute(statement.limit(1)).first() is None:
                return Aftermath()
        told: set[str] = set()
        with self.writing() as connection:
            rows = connection.execute(statement).all()
            followed = [_follow_loss(connection, row, told, tries=tries, now=now) for row in rows]
        return Aftermath(resent=followed.count(True), given_up=followed.count(False))

    def waiting_proofs(self, delivery_ids: Collection[int]) -> Mapping[int, tuple[int, datetime | None]]:
        """Return how often each of these was asked about, and when that is done next; what is proven is left out."""
        asked = (confirmations.c.asks + confirmations.c.misses).label("asked")
        statement = select(confirmations.c.delivery_id, asked, confirmations.c.ask_at).where(
            confirmations.c.delivery_id.in_(delivery_ids), _in_state(DeliveryState.SENT)
        )
        with self.reading() as connection:
            return {row.delivery_id: (row.asked, row.ask_at) for row in connection.execute(statement)}


def _in_state(state: DeliveryState) -> ColumnElement[bool]:
    """Return the condition that the Delivery of a row of `confirmations` is in this state."""
    return exists().where(_SAME, deliveries.c.state == state.value)


def _find_sent(connection: Connection, delivery_ids: Collection[int]) -> list[Delivery]:
    """Return those that are still SENT: a report may have come meanwhile."""
    found = connection.execute(select(deliveries).where(deliveries.c.delivery_id.in_(delivery_ids), _SENT)).mappings()
    return [to_delivery(row) for row in found]


def _change(connection: Connection, delivery_ids: Collection[int], **values: Any) -> None:
    connection.execute(update(confirmations).where(confirmations.c.delivery_id.in_(delivery_ids)).values(**values))


def _move(connection: Connection, delivery: Delivery, state: DeliveryState, *, now: datetime, **values: Any) -> None:
    same = deliveries.c.delivery_id == delivery.delivery_id
    connection.execute(update(deliveries).where(same).values(state=state.value, changed_at=now, **values))
    touch(connection, delivery.study_instance_uid)


def _commit(connection: Connection, delivery: Delivery, *, by: str, now: datetime) -> None:
    _move(connection, delivery, DeliveryState.COMMITTED, now=now)
    connection.execute(delete(confirmations).where(confirmations.c.delivery_id == delivery.delivery_id))
    _tell(connection, delivery, kind=COMMITTED_EVENT, why=by, now=now)


def _lose(connection: Connection, delivery: Delivery, *, reason: str, now: datetime) -> None:
    text = f"the Destination took it and does not hold it ({reason})"
    _move(connection, delivery, DeliveryState.LOST, now=now, reason_code=LOST, reason_text=text)
    _change(connection, [delivery.delivery_id], ask_at=now, transaction_uid=None)
    _tell(connection, delivery, kind="delivery-lost", why=text, now=now)


def _follow_loss(connection: Connection, row: Row[Any], told: set[str], *, tries: int, now: datetime) -> bool | None:
    """Send again what was lost, or tell a person; return which, None where it matters no more.

    Parameters
    ----------
    told
        Studies that have their alarm.
    """
    same = deliveries.c.delivery_id == row.delivery_id
    delivery = to_delivery(connection.execute(select(deliveries).where(same)).mappings().one())
    losses = row.losses + 1
    if row.is_retracted:
        text = "the Result was taken back; that it was lost matters no more"
        _move(connection, delivery, DeliveryState.REFUSED, now=now, reason_code=RETRACTED, reason_text=text)
        connection.execute(delete(confirmations).where(confirmations.c.delivery_id == row.delivery_id))
        return None
    if row.is_here and losses <= tries:
        text = f"{delivery.reason_text}; it is sent again, {losses} of {tries}"
        anew: dict[str, Any] = {"attempts": 0, "doubts": 0, "not_before": now, "created_at": now}
        _move(connection, delivery, DeliveryState.PENDING, now=now, reason_text=text, **anew)
        _change(connection, [row.delivery_id], losses=losses)
        return True
    why = f"it was lost {losses} times" if row.is_here else "this node does not hold it any more"
    text = f"{delivery.reason_text}; {why}, and is not sent again"
    _move(connection, delivery, DeliveryState.LOST, now=now, reason_text=text)
    _change(connection, [row.delivery_id], ask_at=None, losses=losses)
    is_news = delivery.study_instance_uid not in told
    told.add(delivery.study_instance_uid)
    _tell(connection, delivery, kind="delivery-lost", why=text, now=now, is_alarm=is_news)
    return False


def _tell(
    connection: Connection, delivery: Delivery, *, kind: str, why: str, now: datetime, is_alarm: bool = False
) -> None:
    tell = add_alarm if is_alarm else add_event
    tell(
        connection,
        at=now,
        kind=kind,
        text=f"{name_kind(delivery.sop_class_uid)} {delivery.sop_instance_uid} to {delivery.destination}: {why}",
        study_instance_uid=StudyUID(delivery.study_instance_uid),
        job_id=delivery.job_id,
    )
