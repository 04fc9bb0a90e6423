"""What the restoration of a ledger that is lost, or older than the store, asks: no answer is asked for again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, exists, func, insert, select, update

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.cards import Card, CardName, Row
from node.ledger.catalogue import enter_result
from node.ledger.deliveries import RETRACTED
from node.ledger.engine import Desk
from node.ledger.orders import add_delivery
from node.ledger.placement import touch
from node.ledger.retractions import withdraw
from node.ledger.rows import add_alarm, add_event
from node.ledger.schema import deliveries, events, instances, jobs, results, retractions, studies, workitems

PROVEN = "the audit trail says that it was sent; the ledger that knew more was lost"
UNPROVEN = "nothing proves that it was sent; the ledger that knew was lost"


# One question, as the key of `jobs` has it.
QUESTION = ("study_instance_uid", "pipeline", "model", "model_version", "content")
# So many Jobs are looked up at a time; databases take no list without an end.
LOOKED_UP = 500


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
        if not self.covers(destination, row, count):
            return False
        self.spend(destination, row, count)
        return True

    def covers(self, destination: str, row: Row, count: int = 1) -> bool:
        """Return what `take` would; nothing is taken."""
        return self._left.get(_key_of(destination, row), 0) >= count

    def spend(self, destination: str, row: Row, count: int) -> None:
        """Leave out what is known to the ledger already."""
        key = _key_of(destination, row)
        if key in self._left:
            self._left[key] -= count


def _key_of(destination: str, row: Row) -> tuple[str, str, str]:
    return destination, str(row["study_instance_uid"]), str(row["sop_class_uid"])


@dataclass(slots=True)
class Tally:
    """What was restored.

    Attributes
    ----------
    sent, pending
        Deliveries of Results of which it is proven that they were sent, and of which it is not.
    forwarded
        Deliveries of received Instances that were sent.
    set_aside
        Jobs whose question another Job has answered, too, of which the ledger knows.
    is_older
        Whether a ledger that was not lost did not know what it should have.
    """

    jobs: int = 0
    retractions: int = 0
    results: int = 0
    sent: int = 0
    pending: int = 0
    forwarded: int = 0
    set_aside: list[str] = field(default_factory=list)
    is_older: bool = False


class RestorationLedger(Desk):
    """A ledger on its way to what another one knew."""

    def is_blank(self) -> bool:
        """Return whether no Study was ever recorded."""
        with self.reading() as connection:
            return not _exists(connection, studies)

    def find_unknown(self, names: Collection[CardName]) -> frozenset[CardName]:
        """Return of which of these cards the ledger does not know, though it could.

        The cards must have been listed before: a worker writes one after its claim, and commits at once.
        """
        with self.reading() as connection:
            return frozenset((*_unknown_jobs(connection, names), *_unknown_retractions(connection, names)))

    def restore_answers(
        self, cards: Sequence[Card], evidence: Evidence, *, now: datetime, is_lost: bool = True
    ) -> Tally:
        """Commit what cards say, all of it in one transaction; what is known already stays.

        A Result of which nothing proves that it was sent is ordered again: it goes out with the same UID and bytes.
        Of two answers to one question the one counts that is known, or of which was heard last.

        Parameters
        ----------
        is_lost
            False where the ledger should have known: an alarm says that it was older than the store.
        """
        with self.writing() as connection:
            intake = _CardIntake(connection, now=now)
            for card in _in_order(cards):
                intake.take_answer(card)
            for card in sorted(
                (card for card in cards if card.retraction), key=lambda one: one.retraction["ordered_at"]
            ):
                intake.take_retraction(card)
            _spend_known(connection, evidence)
            for row in _undelivered(connection):
                if row["sop_instance_uid"] in intake.entered:
                    _restore_deliveries(connection, row, evidence, intake.tally, now=now)
            intake.tally.is_older = intake.is_older and not is_lost
            if intake.tally.is_older:
                _tell_older(connection, intake.tally, now=now)
        return intake.tally

    def restore_forwards(self, destinations: Iterable[str], evidence: Evidence, *, now: datetime) -> int:
        """Commit which received Instances were forwarded, so that no rule sends them again; returns how many.

        Where not all Instances of a Study and SOP Class are proven to have gone, none counts.
        """
        count = 0
        with self.writing() as connection:
            for name in destinations:
                for rows in _unsent_groups(connection, name, evidence):
                    if evidence.take(name, rows[0], len(rows)):
                        for row in rows:
                            _add_delivery(connection, row, name, DeliveryState.SENT, now=now)
                        count += len(rows)
        return count


class _CardIntake:
    """Enters what cards say, in one transaction.

    Attributes
    ----------
    entered
        Results that the ledger did not know.
    is_older
        Whether a card proved that the ledger is older than the store.
    """

    def __init__(self, connection: Connection, *, now: datetime) -> None:
        self.tally = Tally()
        self.entered: set[str] = set()
        self.is_older = False
        self._connection = connection
        self._now = now

    def take_answer(self, card: Card) -> None:
        """Enter the answer of a Job, unless it is known, or its question has another one."""
        known = _find(self._connection, job_id=card.job["job_id"])
        if known is not None:
            if _is_news(known, card.job["fence"]) and _complete(self._connection, known, card):
                self.is_older |= card.job["fence"] > known["fence"]
                self._enter_results(card)
            return
        rival = _find(self._connection, **{name: card.job[name] for name in QUESTION})
        if rival is not None and rival["state"] == JobState.COMPLETED.value:
            self._set_aside(card, rival)
            return
        if rival is not None:
            _rename(self._connection, rival["job_id"], card.job["job_id"])
            _complete(self._connection, rival, card)
        else:
            _require_study(self._connection, card, now=self._now)
            _insert(self._connection, jobs, card.job)
        self.is_older = True
        self._enter_results(card)

    def take_retraction(self, card: Card) -> None:
        """Take back what the Job of the card wrote; what that was may be lost with its card."""
        row = card.retraction
        job = _find(self._connection, job_id=row["job_id"])
        if job is None or _exists(self._connection, retractions, retraction_id=row["retraction_id"]):
            return
        uid = job["study_instance_uid"]
        withdraw(self._connection, row["job_id"], uid, ordered_at=row["ordered_at"], now=self._now)
        touch(self._connection, uid)
        _insert(self._connection, retractions, row)
        self._insert_results(card)
        self.is_older = True
        self.tally.retractions += 1
        self._tell(job, "retraction-restored", f"Results were taken back {_on(row['ordered_at'])}, {row['reason']}")

    def _enter_results(self, card: Card) -> None:
        self._insert_results(card)
        self.tally.jobs += 1
        self._tell(card.job, "job-restored", f"{card.job['pipeline']} answered {_on(card.job['finished_at'])}")

    def _insert_results(self, card: Card) -> None:
        for row in card.results:
            if not _exists(self._connection, results, sop_instance_uid=row["sop_instance_uid"]):
                _insert(self._connection, results, row)
                self.entered.add(row["sop_instance_uid"])
                self.tally.results += 1

    def _tell(self, job: Row | RowMapping, kind: str, text: str) -> None:
        add_event(
            self._connection,
            at=self._now,
            kind=kind,
            text=f"{text}; the ledger did not know, its card in the store says so",
            study_instance_uid=job["study_instance_uid"],
            job_id=job["job_id"],
        )

    def _set_aside(self, card: Card, rival: RowMapping) -> None:
        self.tally.set_aside.append(card.job["job_id"])
        add_alarm(
            self._connection,
            at=self._now,
            kind="answered-twice",
            text=f"{card.job['pipeline']} has two answers to one question: Job {rival['job_id']} of "
            f"{rival['finished_at']:%Y-%m-%d %H:%M} UTC counts, that of Job {card.job['job_id']} of "
            f"{card.job['finished_at']:%Y-%m-%d %H:%M} UTC was set aside; look at what Destinations hold",
            study_instance_uid=rival["study_instance_uid"],
            job_id=rival["job_id"],
        )


def _in_order(cards: Sequence[Card]) -> list[Card]:
    """Return the cards of Jobs, oldest first; last come those whose question has another answer, heard of later."""
    heard_at: defaultdict[str, list[datetime]] = defaultdict(list)
    for card in cards:
        if card.job:
            heard_at[card.job["job_id"]].append(card.job["finished_at"])
        else:
            heard_at[card.retraction["job_id"]].append(card.retraction["ordered_at"])
    answered = sorted((card for card in cards if card.job), key=lambda card: max(heard_at[card.job["job_id"]]))
    counting = {tuple(card.job[name] for name in QUESTION): card.job["job_id"] for card in answered}

    def place(card: Card) -> tuple[bool, datetime]:
        counts = counting[tuple(card.job[name] for name in QUESTION)] == card.job["job_id"]
        return not counts, card.job["finished_at"]

    return sorted(answered, key=place)


def _unknown_jobs(connection: Connection, names: Collection[CardName]) -> Iterable[CardName]:
    of_jobs = [name for name in names if name.fence is not None]
    columns = jobs.c.job_id, jobs.c.state, jobs.c.fence
    for start in range(0, len(of_jobs), LOOKED_UP):
        some = of_jobs[start : start + LOOKED_UP]
        found = select(*columns).where(jobs.c.job_id.in_([name.job_id for name in some]))
        known = {row["job_id"]: row for row in connection.execute(found).mappings()}
        for name in some:
            row = known.get(name.job_id)
            if row is None or (name.fence is not None and _is_news(row, name.fence)):
                yield name


def _unknown_retractions(connection: Connection, names: Collection[CardName]) -> Iterable[CardName]:
    answered = {name.job_id for name in names if name.fence is not None}
    of_retractions = [name for name in names if name.retraction_id]
    for start in range(0, len(of_retractions), LOOKED_UP):
        some = of_retractions[start : start + LOOKED_UP]
        ids = retractions.c.retraction_id.in_([name.retraction_id for name in some])
        known = set(connection.execute(select(retractions.c.retraction_id).where(ids)).scalars())
        for name in some:
            # Without the card of its Job there is nothing that it could take back.
            if name.retraction_id not in known and name.job_id in answered:
                yield name


def _is_news(row: RowMapping, fence: int) -> bool:
    """Return whether a card of this fence says more of a Job than its row.

    Each claim raises the fence, and is committed before there is a card: a higher one comes from a later ledger. A card
    is written while COMPLETED is being committed; a Job that still runs under its fence was cut off in between, or a
    copy of the ledger was made while it ran.
    """
    if row["state"] == JobState.COMPLETED.value:
        return False
    is_cut_off = fence == row["fence"] and row["state"] == JobState.IN_PROGRESS.value
    return bool(fence > row["fence"] or is_cut_off)


def _complete(connection: Connection, known: RowMapping, card: Card) -> bool:
    """Return whether the Job was as it is `known` until now, and is answered from now on."""
    nobody = {"lease_owner": None, "lease_expires_at": None, "enqueued_at": None}
    nothing = {"reason_code": None, "reason_text": None, "outdated_at": None}
    values = {name: value for name, value in card.job.items() if name in jobs.c} | nobody | nothing
    same = jobs.c.job_id == card.job["job_id"], jobs.c.fence == known["fence"], jobs.c.state == known["state"]
    touch(connection, card.job["study_instance_uid"])
    return bool(connection.execute(update(jobs).where(*same).values(values)).rowcount)


def _rename(connection: Connection, before: str, job_id: str) -> None:
    """Give a Job that has not answered the id of the one that has."""
    connection.execute(update(jobs).where(jobs.c.job_id == before).values(job_id=job_id))
    for table in (events, workitems):
        connection.execute(update(table).where(table.c.job_id == before).values(job_id=job_id))


def _require_study(connection: Connection, card: Card, *, now: datetime) -> None:
    uid = card.job["study_instance_uid"]
    if not _exists(connection, studies, study_instance_uid=uid):
        # Until its Instances are adopted, if they are still there.
        times = {"first_instance_at": card.job["accepted_at"], "changed_at": now}
        values = {"state": SeriesState.PURGED.value, "reason": "restored", "revision": 1}
        connection.execute(insert(studies).values(study_instance_uid=uid, **values, **times))


def _tell_older(connection: Connection, tally: Tally, *, now: datetime) -> None:
    add_alarm(
        connection,
        at=now,
        kind="ledger-was-older",
        text=f"the ledger was older than the store; taken in from cards: {tally.jobs} answers, {tally.retractions} "
        "retractions; Events, reviews, switches and accounts of the time between are gone",
    )


def _spend_known(connection: Connection, evidence: Evidence) -> None:
    """Leave out what Deliveries speak of that are known, and what may have gone after a copy of them was made."""
    columns = deliveries.c.destination, deliveries.c.study_instance_uid, deliveries.c.sop_class_uid
    wanted = deliveries.c.state != DeliveryState.REFUSED.value
    counted = select(*columns, func.count().label("count")).where(wanted).group_by(*columns)
    for row in connection.execute(counted).mappings():
        evidence.spend(row["destination"], dict(row), row["count"])


def _unsent_groups(connection: Connection, destination: str, evidence: Evidence) -> list[list[dict[str, Any]]]:
    """Return the Instances of which no Delivery there is known and one may be proven, by Study and SOP Class."""
    is_known = exists().where(
        deliveries.c.destination == destination, deliveries.c.sop_instance_uid == instances.c.sop_instance_uid
    )
    key = instances.c.study_instance_uid, instances.c.sop_class_uid
    columns = *key, instances.c.sop_instance_uid, instances.c.transfer_syntax_uid, instances.c.path
    found = map(dict, connection.execute(select(*columns).where(~is_known).order_by(*key)).mappings())
    wanted = [row for row in found if evidence.covers(destination, row)]
    groups = groupby(wanted, key=lambda row: (row["study_instance_uid"], row["sop_class_uid"]))
    return [list(group) for _, group in groups]


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


def _find(connection: Connection, **key: object) -> RowMapping | None:
    return connection.execute(select(jobs).filter_by(**key)).mappings().first()


def _on(at: datetime) -> str:
    return f"on {at:%Y-%m-%d}"
