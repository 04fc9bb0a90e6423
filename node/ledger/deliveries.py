"""What delivery asks of the ledger: what is due, and what became of it."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Update, and_, delete, exists, func, or_, select, update

from node.domain.capability import name_kind
from node.domain.job import JobID
from node.domain.result import Delivery, DeliveryState
from node.domain.uids import StudyUID
from node.ledger.engine import Desk
from node.ledger.placement import touch
from node.ledger.proofs import begin_proof
from node.ledger.rows import add_alarm, add_event, to_delivery
from node.ledger.schema import confirmations, deliveries, instances, results, tallies
from node.ledger.stand_in import follow_refusal
from node.ledger.tallies import TallyName, add_tallies

# Reason of a Delivery whose Result was taken back before it left.
RETRACTED = "retracted"
RETRIED = "delivery-retried"
PENDING = deliveries.c.state == DeliveryState.PENDING.value
# Somebody is still to do something: a courier, or a person.
WAITS = or_(PENDING, and_(deliveries.c.state == DeliveryState.LOST.value, deliveries.c.seen_at.is_(None)))
HAS_ARRIVED = deliveries.c.state.in_([DeliveryState.SENT.value, DeliveryState.COMMITTED.value])
IS_RETRACTED = exists().where(
    results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.retracted_at.is_not(None)
)


# A Delivery with the one file that it is about, be it a Result or an Instance that is forwarded.
WITH_FILES = deliveries.outerjoin(
    results,
    and_(results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.path == deliveries.c.path),
).outerjoin(
    instances,
    and_(instances.c.sop_instance_uid == deliveries.c.sop_instance_uid, instances.c.path == deliveries.c.path),
)
SIZE_BYTES = func.coalesce(results.c.size_bytes, instances.c.size_bytes).label("size_bytes")

# The Destination took the object, and nobody learns whether it holds it.
IS_UNCONFIRMED = exists().where(
    deliveries.c.state == DeliveryState.SENT.value,
    confirmations.c.delivery_id == deliveries.c.delivery_id,
    confirmations.c.ask_at.is_(None),
)
IS_PURGED = exists().where(
    results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.purged_at.is_not(None)
)


class DeliveryLedger(Desk):
    """Deliveries on their way from PENDING to SENT or REFUSED."""

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> tuple[Delivery, ...]:
        """Return what may be sent now: fewest attempts first, then the oldest, whole Studies together."""
        oldest_of_study = func.min(deliveries.c.delivery_id).over(partition_by=deliveries.c.study_instance_uid)
        statement = (
            select(deliveries, SIZE_BYTES)
            .select_from(WITH_FILES)
            .where(deliveries.c.destination == destination, PENDING, deliveries.c.not_before <= now)
            .order_by(deliveries.c.attempts, oldest_of_study, deliveries.c.delivery_id)
            .limit(limit)
        )
        with self.reading() as connection:
            return tuple(to_delivery(row) for row in connection.execute(statement).mappings())

    def still_pending(self, delivery_ids: Collection[int]) -> frozenset[int]:
        """Return which of these Deliveries are PENDING: a Result may have been taken back since they were due."""
        statement = select(deliveries.c.delivery_id).where(deliveries.c.delivery_id.in_(delivery_ids), PENDING)
        with self.reading() as connection:
            return frozenset(connection.execute(statement).scalars())

    def next_delivery_at(self, destination: str) -> datetime | None:
        """Return when the next pending Delivery becomes due; None when there is none."""
        earliest = func.min(deliveries.c.not_before, type_=deliveries.c.not_before.type)
        with self.reading() as connection:
            found: datetime | None = connection.execute(
                select(earliest).where(deliveries.c.destination == destination, PENDING)
            ).scalar_one()
            return found

    def overdue_deliveries(self, destination: str, ordered_before: datetime) -> tuple[Delivery, ...]:
        """Return what is PENDING and was ordered, or last made due by hand, so long ago."""
        statement = select(deliveries).where(
            deliveries.c.destination == destination, PENDING, deliveries.c.created_at <= ordered_before
        )
        with self.reading() as connection:
            return tuple(to_delivery(row) for row in connection.execute(statement).mappings())

    def waiting_destinations(self) -> frozenset[str]:
        """Return every Destination for which something is PENDING, or LOST and not taken note of."""
        with self.reading() as connection:
            return find_waiting(connection)

    def stray_deliveries(self, destination: str, ordered_before: datetime) -> tuple[Delivery, ...]:
        """Return what is PENDING, or LOST and not taken note of, and was ordered or made due anew so long ago."""
        statement = select(deliveries).where(
            deliveries.c.destination == destination, WAITS, deliveries.c.created_at <= ordered_before
        )
        with self.reading() as connection:
            return tuple(to_delivery(row) for row in connection.execute(statement).mappings())

    def delivery_age_start(self, delivery_id: int) -> datetime | None:
        """Return when the Delivery was ordered, or last made due by hand; None when it is unknown."""
        with self.reading() as connection:
            found: datetime | None = connection.execute(
                select(deliveries.c.created_at).where(deliveries.c.delivery_id == delivery_id)
            ).scalar_one_or_none()
            return found

    def record_sent(
        self, delivery: Delivery, *, now: datetime, reason_code: str | None, reason_text: str | None
    ) -> None:
        """Commit that the Destination took the object, and is to prove that it holds it; reason is its warning.

        This and the other operations named `record_` do nothing where the Delivery was tried or made due anew since it
        was read: an answer that could not be written for long says nothing of what came after it.

        Parameters
        ----------
        delivery
            As it was when it was tried.
        now
            When the Destination answered (UTC).
        """
        with self.writing() as connection:
            sent = _settle(connection, delivery, DeliveryState.SENT, now=now, reason=(reason_code, reason_text))
            if sent is not None:
                begin_proof(connection, sent, now=now)
                _tell(connection, sent, now=now)

    def record_refused(self, delivery: Delivery, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        """Commit that the Destination will never take the object; returns whether a person must act.

        Where the Destination did not want a SEG or SR, the picture of its Job is ordered instead in the same
        transaction, once; where nothing brings the answer there, the Event is an alarm.
        """
        reason = (reason_code, reason_text)
        with self.writing() as connection:
            refused = _settle(connection, delivery, DeliveryState.REFUSED, now=now, reason=reason)
            if refused is None:
                return False
            consequence = follow_refusal(connection, refused, reason_code, now=now)
            if consequence.value:
                refused = replace(refused, reason_text=f"{reason_text}; {consequence.value}")
                _set_reason(connection, refused)
            _tell(connection, refused, now=now, is_alarm=consequence.needs_person)
            return consequence.needs_person

    def record_retry(
        self,
        delivery: Delivery,
        *,
        now: datetime,
        not_before: datetime,
        reason: tuple[str, str],
        is_doubtful: bool = False,
    ) -> None:
        """Commit a failed attempt, its reason (code and text), and when the next may begin.

        Parameters
        ----------
        is_doubtful
            Whether it is one of the few that an object has; see `Delivery.doubts`.
        """
        with self.writing() as connection:
            connection.execute(
                update(deliveries)
                .where(*_as_it_was(delivery, now), PENDING)
                .values(
                    attempts=deliveries.c.attempts + 1,
                    doubts=deliveries.c.doubts + int(is_doubtful),
                    not_before=not_before,
                    reason_code=reason[0],
                    reason_text=reason[1],
                    changed_at=now,
                )
            )

    def leave_out(self, delivery: Delivery) -> None:
        """Commit that an object is none that its Destination is told of: it waits no longer."""
        with self.writing() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.delivery_id == delivery.delivery_id, PENDING))
            touch(connection, delivery.study_instance_uid)

    def defer_deliveries(
        self,
        destination: str,
        *,
        now: datetime,
        not_before: datetime,
        reason: tuple[str, str],
        is_news: bool = True,
    ) -> None:
        """Let every PENDING Delivery of a Destination wait, with a reason (code and text).

        Parameters
        ----------
        is_news
            False leaves those alone that have this reason by now: an outage of a day would write them 10,000 times.
        """
        code, text = reason
        is_told = deliveries.c.reason_code == code
        unless_told = () if is_news else (or_(deliveries.c.reason_code.is_(None), ~is_told),)
        waiting = (deliveries.c.destination == destination, PENDING, deliveries.c.not_before < not_before)
        with self.writing() as connection:
            connection.execute(
                update(deliveries)
                .where(*waiting, *unless_told)
                .values(not_before=not_before, changed_at=now, reason_code=code, reason_text=text)
            )

    def retry_deliveries(self, *, destination: str | None, ordered_by: str, now: datetime) -> int:
        """Make every PENDING, REFUSED or LOST Delivery due again by hand, as if ordered now; returns how many.

        Results that were taken back or purged stay where they are. Who ordered it stands in the time line of each
        Study.
        """
        only = () if destination is None else (deliveries.c.destination == destination,)
        with self.writing() as connection:
            due = _make_due(connection, only, now=now)
            returned = due.returning(deliveries.c.destination, deliveries.c.study_instance_uid)
            rows = connection.execute(returned).all()
            where = "" if destination is None else f" to {destination}"
            for uid, count in Counter(row.study_instance_uid for row in rows).items():
                text = f"{count} Deliveries{where} are due again, by {ordered_by}"
                add_event(connection, at=now, kind=RETRIED, text=text, study_instance_uid=StudyUID(uid))
            return _count_orders(connection, (row.destination for row in rows), now=now)

    def retries_ordered(self, destination: str) -> int:
        """Return how many Deliveries to a Destination were made due by hand, ever."""
        statement = select(tallies.c.value).where(
            tallies.c.name == TallyName.RETRIES_ORDERED, tallies.c.subject == destination
        )
        with self.reading() as connection:
            return int(connection.execute(statement).scalar() or 0)

    def retry_of_study(self, study: StudyUID, *, delivery_id: int | None = None, ordered_by: str, now: datetime) -> int:
        """Make what did not arrive of a Study due again, all or one Delivery; returns how many. See `retry_deliveries`.

        Who ordered it stands in the time line.
        """
        only = (
            deliveries.c.study_instance_uid == study,
            *(() if delivery_id is None else (deliveries.c.delivery_id == delivery_id,)),
        )
        with self.writing() as connection:
            rows = connection.execute(_make_due(connection, only, now=now).returning(deliveries)).mappings().all()
            for delivery in map(to_delivery, rows):
                text = f"{delivery.sop_instance_uid} to {delivery.destination} is due again, by {ordered_by}"
                kind, job_id = RETRIED, delivery.job_id
                add_event(connection, at=now, kind=kind, text=text, study_instance_uid=study, job_id=job_id)
            return _count_orders(connection, (row["destination"] for row in rows), now=now)

    def dismiss_deliveries(
        self, *, destination: str | None, study: StudyUID | None, ordered_by: str, now: datetime
    ) -> int:
        """Commit that a person took note of every Delivery that ended badly; returns how many were new to anybody.

        Those are REFUSED or LOST, or SENT to a Destination that nobody asks any more whether it holds the object.

        Retention may give up their Studies from then on.
        """
        ended = deliveries.c.state.in_([DeliveryState.REFUSED.value, DeliveryState.LOST.value])
        asked = [or_(ended, IS_UNCONFIRMED), deliveries.c.seen_at.is_(None)]
        if destination is not None:
            asked.append(deliveries.c.destination == destination)
        if study is not None:
            asked.append(deliveries.c.study_instance_uid == study)
        with self.writing() as connection:
            rows = connection.execute(
                update(deliveries).where(*asked).values(seen_at=now).returning(deliveries)
            ).mappings()
            dismissed = [to_delivery(row) for row in rows]
            for delivery in dismissed:
                object_uid = delivery.sop_instance_uid
                add_event(
                    connection,
                    at=now,
                    kind="delivery-dismissed",
                    text=f"{ordered_by} took note that {object_uid} does not go to {delivery.destination}",
                    study_instance_uid=delivery.study_instance_uid,
                    job_id=delivery.job_id,
                )
            return len(dismissed)


def _count_orders(connection: Connection, made_due: Iterable[str], *, now: datetime) -> int:
    """Raise the count of each Destination by which its courier sees that a person orders; return how many there are."""
    counts = Counter((TallyName.RETRIES_ORDERED.value, destination) for destination in made_due)
    add_tallies(connection, counts, at=now)
    return counts.total()


def _make_due(connection: Connection, only: Collection[ColumnElement[bool]], *, now: datetime) -> Update:
    """Return the statement that makes every Delivery due that did not arrive and meets the conditions.

    What was lost before does not count against what a person has seen to: it is forgotten here.
    """
    failed = (DeliveryState.PENDING, DeliveryState.REFUSED, DeliveryState.LOST)
    concerned = [deliveries.c.state.in_([state.value for state in failed]), ~IS_RETRACTED, ~IS_PURGED, *only]
    connection.execute(
        delete(confirmations).where(confirmations.c.delivery_id.in_(select(deliveries.c.delivery_id).where(*concerned)))
    )
    due = {"state": DeliveryState.PENDING.value, "attempts": 0, "doubts": 0, "seen_at": None}
    return update(deliveries).where(*concerned).values(**due, not_before=now, changed_at=now, created_at=now)


def find_waiting(connection: Connection) -> frozenset[str]:
    """Return every Destination for which something waits, whether the settings name it or not.

    One look into an index for each that there ever was: to read all of it takes long in an old ledger.
    """
    found: set[str] = set()
    following = select(func.min(deliveries.c.destination))
    name = connection.execute(following).scalar_one()
    while name is not None:
        if connection.execute(select(exists().where(deliveries.c.destination == name, WAITS))).scalar_one():
            found.add(name)
        name = connection.execute(following.where(deliveries.c.destination > name)).scalar_one()
    return frozenset(found)


def _settle(
    connection: Connection,
    delivery: Delivery,
    state: DeliveryState,
    *,
    now: datetime,
    reason: tuple[str | None, str | None],
) -> Delivery | None:
    """Move one Delivery to `state`; None when it is not there any more, or something newer is known of it."""
    moved = (
        update(deliveries)
        .where(*_as_it_was(delivery, now))
        .values(
            state=state.value,
            attempts=deliveries.c.attempts + 1,
            reason_code=reason[0],
            reason_text=reason[1],
            changed_at=now,
        )
        .returning(deliveries)
    )
    row = connection.execute(moved.where(PENDING)).mappings().first()
    if row is None:
        # It was given up, or was lost, while the Destination took it: that counts no more.
        row = connection.execute(moved.where(~HAS_ARRIVED)).mappings().first()
        if row is not None:
            touch(connection, row["study_instance_uid"])
    return None if row is None else to_delivery(row)


def _as_it_was(delivery: Delivery, answered_at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the condition of the row of a Delivery that was neither tried nor made due anew since it was answered.

    One that was made due by hand while it was on its way has its answer all the same.
    """
    ordered_at = deliveries.c.created_at
    return (
        deliveries.c.delivery_id == delivery.delivery_id,
        deliveries.c.attempts <= delivery.attempts,
        # The clock may have been set back since it was ordered.
        or_(ordered_at <= answered_at, ordered_at == delivery.ordered_at),
    )


def _set_reason(connection: Connection, delivery: Delivery) -> None:
    connection.execute(
        update(deliveries)
        .where(deliveries.c.delivery_id == delivery.delivery_id)
        .values(reason_text=delivery.reason_text)
    )


def _tell(connection: Connection, delivery: Delivery, *, now: datetime, is_alarm: bool = False) -> None:
    why = f": {delivery.reason_text}" if delivery.reason_text else ""
    tell = add_alarm if is_alarm else add_event
    tell(
        connection,
        at=now,
        kind=f"delivery-{delivery.state.value.lower()}",
        text=f"{name_kind(delivery.sop_class_uid)} {delivery.sop_instance_uid} to {delivery.destination}{why}",
        study_instance_uid=StudyUID(delivery.study_instance_uid),
        job_id=None if delivery.job_id is None else JobID(delivery.job_id),
    )
