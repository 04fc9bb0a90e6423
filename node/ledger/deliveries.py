"""What delivery asks of the ledger: what is due, and what became of it."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, exists, func, select, update

from node.domain.capability import name_kind
from node.domain.job import JobID
from node.domain.result import Delivery, DeliveryState
from node.domain.uids import StudyUID
from node.ledger.engine import Desk
from node.ledger.rows import add_alarm, add_event, to_delivery
from node.ledger.schema import deliveries, results
from node.ledger.stand_in import follow_refusal

# Reason of a Delivery whose Result was taken back before it left.
RETRACTED = "retracted"
PENDING = deliveries.c.state == DeliveryState.PENDING.value
IS_RETRACTED = exists().where(
    results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.retracted_at.is_not(None)
)


IS_PURGED = exists().where(
    results.c.sop_instance_uid == deliveries.c.sop_instance_uid, results.c.purged_at.is_not(None)
)


class DeliveryLedger(Desk):
    """Deliveries on their way from PENDING to SENT or REFUSED."""

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> tuple[Delivery, ...]:
        """Return what may be sent now: fewest attempts first, whole Studies together."""
        statement = (
            select(deliveries)
            .where(deliveries.c.destination == destination, PENDING, deliveries.c.not_before <= now)
            .order_by(deliveries.c.attempts, deliveries.c.study_instance_uid, deliveries.c.delivery_id)
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

    def delivery_age_start(self, delivery_id: int) -> datetime | None:
        """Return when the Delivery was ordered, or last made due by hand; None when it is unknown."""
        with self.reading() as connection:
            found: datetime | None = connection.execute(
                select(deliveries.c.created_at).where(deliveries.c.delivery_id == delivery_id)
            ).scalar_one_or_none()
            return found

    def record_sent(self, delivery_id: int, *, now: datetime, reason_code: str | None, reason_text: str | None) -> None:
        """Commit that the Destination took the object; reason is its warning, if any."""
        with self.writing() as connection:
            sent = _settle(connection, delivery_id, DeliveryState.SENT, now=now, reason=(reason_code, reason_text))
            if sent is not None:
                _tell(connection, sent, now=now)

    def record_refused(self, delivery_id: int, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        """Commit that the Destination will never take the object; returns whether a person must act.

        Where the Destination did not want a SEG or SR, the picture of its Job is ordered instead in the same
        transaction, once; where nothing brings the answer there, the Event is an alarm.
        """
        reason = (reason_code, reason_text)
        with self.writing() as connection:
            refused = _settle(connection, delivery_id, DeliveryState.REFUSED, now=now, reason=reason)
            if refused is None:
                return False
            consequence = follow_refusal(connection, refused, reason_code, now=now)
            if consequence.value:
                refused = replace(refused, reason_text=f"{reason_text}; {consequence.value}")
                _set_reason(connection, refused)
            _tell(connection, refused, now=now, is_alarm=consequence.needs_person)
            return consequence.needs_person

    def record_retry(
        self, delivery_id: int, *, now: datetime, not_before: datetime, reason_code: str, reason_text: str
    ) -> None:
        """Commit a failed attempt and when the next may begin."""
        with self.writing() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.delivery_id == delivery_id, PENDING)
                .values(
                    attempts=deliveries.c.attempts + 1,
                    not_before=not_before,
                    reason_code=reason_code,
                    reason_text=reason_text,
                    changed_at=now,
                )
            )

    def defer_deliveries(
        self, destination: str, *, now: datetime, not_before: datetime, reason_code: str, reason_text: str
    ) -> None:
        """Let every PENDING Delivery of a Destination that is down wait, so that one connect probes for all."""
        reason = {"reason_code": reason_code, "reason_text": reason_text}
        with self.writing() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.destination == destination, PENDING, deliveries.c.not_before < not_before)
                .values(not_before=not_before, changed_at=now, **reason)
            )

    def retry_deliveries(self, *, destination: str | None, now: datetime) -> int:
        """Make every PENDING or REFUSED Delivery due again by hand; returns how many.

        Results that were taken back or purged stay where they are.
        """
        waiting = deliveries.c.state.in_([DeliveryState.PENDING.value, DeliveryState.REFUSED.value])
        with self.writing() as connection:
            changed = connection.execute(
                update(deliveries)
                .where(
                    waiting,
                    ~IS_RETRACTED,
                    ~IS_PURGED,
                    *([deliveries.c.destination == destination] if destination else []),
                )
                .values(state=DeliveryState.PENDING.value, not_before=now, changed_at=now, created_at=now, seen_at=None)
            )
            return int(changed.rowcount)

    def dismiss_deliveries(
        self, *, destination: str | None, study: StudyUID | None, ordered_by: str, now: datetime
    ) -> int:
        """Commit that a person took note of every REFUSED Delivery; returns how many were new to anybody.

        Retention may give up their Studies from then on.
        """
        asked = [deliveries.c.state == DeliveryState.REFUSED.value, deliveries.c.seen_at.is_(None)]
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


def _settle(
    connection: Connection,
    delivery_id: int,
    state: DeliveryState,
    *,
    now: datetime,
    reason: tuple[str | None, str | None],
) -> Delivery | None:
    """Move one Delivery to `state`; None when there is no such Delivery."""
    row = connection.execute(
        update(deliveries)
        .where(deliveries.c.delivery_id == delivery_id)
        .values(
            state=state.value,
            attempts=deliveries.c.attempts + 1,
            reason_code=reason[0],
            reason_text=reason[1],
            changed_at=now,
        )
        .returning(deliveries)
    ).mappings()
    return next(map(to_delivery, row), None)


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
