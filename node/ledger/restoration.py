"""What the restoration of a lost ledger asks of the new one: answers that were given are not asked for again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, exists, insert, select, update

from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.cards import Card, Row
from node.ledger.catalogue import enter_result, strike_empty
from node.ledger.deliveries import RETRACTED
from node.ledger.engine import Desk
from node.ledger.orders import add_delivery
from node.ledger.placement import touch
from node.ledger.rows import add_event
from node.ledger.schema import deliveries, instances, jobs, results, retractions, studies

PROVEN = "the audit trail says that it was sent; the ledger that knew more was lost"
UNPROVEN = "nothing proves that it was sent; the ledger that knew was lost"


class Evidence:
    """How many objects went where, as somebody else than the ledger remembers it; each counts once.

    Parameters
    ----------
    counted
        Number of objects by Destination, Study Instance UID and SOP Class UID.
    """

    def __init__(self, counted: Mapping[tuple[str, str, str], int]) -> None:
        self._left = dict(counted)

    def take(self, destination: str, row: Row, count: int = 1) -> bool:
        """Return whether `count` objects of the Study and SOP Class of `row` are proven to have gone there."""
        key = destination, str(row["study_instance_uid"]), str(row["sop_class_uid"])
        if self._left.get(key, 0) < count:
            return False
        self._left[key] -= count
        return True


@dataclass(slots=True)
class Tally:
    """What was restored.

    Attributes
    ----------
    sent, pending
        Deliveries of Results of which it is proven that they were sent, and of which it is not.
    forwarded
        Deliveries of received Instances that were sent.
    """

    jobs: int = 0
    results: int = 0
    sent: int = 0
    pending: int = 0
    forwarded: int = 0


class RestorationLedger(Desk):
    """A new ledger, on its way to what the lost one knew."""

    def is_blank(self) -> bool:
        """Return whether no Study was ever recorded."""
        with self.reading() as connection:
            return not _exists(connection, studies)

    def restore_answers(self, cards: Sequence[Card], evidence: Evidence, *, now: datetime) -> Tally:
        """Commit what cards say, all of it in one transaction; what is known already stays.

        A Result of which nothing proves that it was sent is ordered again: it goes out with the same UID and bytes.
        """
        tally = Tally()
        answered = sorted((card for card in cards if card.job), key=lambda card: card.job["finished_at"])
        taken_back = sorted((card for card in cards if card.retraction), key=lambda card: card.retraction["ordered_at"])
        with self.writing() as connection:
            for card in answered:
                if not _exists(connection, jobs, job_id=card.job["job_id"]):
                    _restore_job(connection, card, now=now)
                    tally.jobs += 1
            for card in taken_back:
                # What the Job wrote may be lost with its card.
                if _exists(connection, jobs, job_id=card.retraction["job_id"]):
                    _restore_retraction(connection, card)
            for row in _undelivered(connection):
                tally.results += 1
                _restore_deliveries(connection, row, evidence, tally, now=now)
        return tally

    def restore_forwards(self, destinations: Iterable[str], evidence: Evidence, *, now: datetime) -> int:
        """Commit which received Instances were forwarded, so that no rule sends them again; returns how many.

        Where not all Instances of a Study and SOP Class are proven to have gone, none counts.
        """
        count = 0
        names = tuple(destinations)
        columns = instances.c.study_instance_uid, instances.c.sop_class_uid
        with self.writing() as connection:
            found = [dict(row) for row in connection.execute(select(instances).order_by(*columns)).mappings()]
            for _, group in groupby(found, key=lambda row: (row["study_instance_uid"], row["sop_class_uid"])):
                rows = list(group)
                for name in names:
                    if evidence.take(name, rows[0], len(rows)):
                        for row in rows:
                            _add_delivery(connection, row, name, DeliveryState.SENT, now=now)
                        count += len(rows)
        return count


def _restore_job(connection: Connection, card: Card, *, now: datetime) -> None:
    uid = card.job["study_instance_uid"]
    if not _exists(connection, studies, study_instance_uid=uid):
        # Until its Instances are adopted, if they are still there.
        times = {"first_instance_at": card.job["accepted_at"], "changed_at": now}
        values = {"state": SeriesState.PURGED.value, "reason": "restored", "revision": 1}
        connection.execute(insert(studies).values(study_instance_uid=uid, **values, **times))
    _insert(connection, jobs, card.job)
    for row in card.results:
        _insert(connection, results, row)
    add_event(
        connection,
        at=now,
        kind="job-restored",
        text=f"{card.job['pipeline']} answered on {card.job['finished_at']:%Y-%m-%d}; the ledger that knew was lost",
        study_instance_uid=uid,
        job_id=card.job["job_id"],
    )


def _restore_retraction(connection: Connection, card: Card) -> None:
    row = card.retraction
    if _exists(connection, retractions, retraction_id=row["retraction_id"]):
        return
    standing = results.c.job_id == row["job_id"], results.c.retracted_at.is_(None), results.c.kind != "REJECT"
    connection.execute(update(results).where(*standing).values(retracted_at=row["ordered_at"]))
    of_job = select(jobs.c.study_instance_uid).where(jobs.c.job_id == row["job_id"])
    uid = connection.execute(of_job).scalar_one()
    strike_empty(connection, uid)
    touch(connection, uid)
    _insert(connection, retractions, row)
    for result in card.results:
        _insert(connection, results, result)


def _undelivered(connection: Connection) -> Sequence[Row]:
    """Return the Results with no Delivery, oldest first, each with where its Job was to be delivered."""
    is_ordered = exists().where(deliveries.c.sop_instance_uid == results.c.sop_instance_uid)
    statement = (
        select(results, jobs.c.deliver_to)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(~is_ordered, ~jobs.c.is_shadow)
        .order_by(results.c.created_at, results.c.sop_instance_uid)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def _restore_deliveries(connection: Connection, row: Row, evidence: Evidence, tally: Tally, *, now: datetime) -> None:
    for destination in row["deliver_to"]:
        if evidence.take(destination, row):
            _add_delivery(connection, row, destination, DeliveryState.SENT, now=now)
            tally.sent += 1
        elif row["retracted_at"] is not None:
            _add_delivery(connection, row, destination, DeliveryState.REFUSED, now=now)
        elif not row["is_substitute"]:
            _add_delivery(connection, row, destination, DeliveryState.PENDING, now=now)
            tally.pending += 1


def _add_delivery(connection: Connection, row: Row, destination: str, state: DeliveryState, *, now: datetime) -> None:
    same = ("study_instance_uid", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "path")
    values: dict[str, Any] = {name: row[name] for name in same}
    match state:
        case DeliveryState.REFUSED:
            reason = RETRACTED, "the Result was taken back"
        case DeliveryState.SENT:
            reason = "restored", PROVEN
        case _:
            reason = "restored", UNPROVEN
    values |= {"destination": destination, "state": state.value, "job_id": row.get("job_id")}
    values |= {"reason_code": reason[0], "reason_text": reason[1]}
    add_delivery(connection, values, now=now)


def _insert(connection: Connection, table: Table, row: Row) -> None:
    """Insert what `table` has columns for; a card may be older than the schema, or younger."""
    connection.execute(insert(table).values({name: value for name, value in row.items() if name in table.c}))
    if table is results:
        enter_result(connection, row)


def _exists(connection: Connection, table: Table, **key: object) -> bool:
    found = select(table).filter_by(**key).limit(1)
    return connection.execute(found).first() is not None
