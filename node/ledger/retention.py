"""What retention asks of the ledger: which Studies may go, and which files are going."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from node.domain.job import LIVE_STATES
from node.domain.result import DeliveryState
from node.domain.retention import Candidate, KeepUntil, Proof, Purge, PurgeOrder
from node.domain.study import SeriesState
from node.domain.uids import StudyUID
from node.errors import NotFound, WrongState
from node.ledger.catalogue import STANDS, enter_result, strike_empty
from node.ledger.deliveries import RETRACTED
from node.ledger.engine import Desk
from node.ledger.placement import is_replaced
from node.ledger.priors import UNDER_WAY, forget_searches
from node.ledger.reviews import forget_comments
from node.ledger.rows import add_alarm, add_event
from node.ledger.schema import (
    confirmations,
    decisions,
    deliveries,
    expectations,
    instances,
    jobs,
    notices,
    prior_searches,
    priors,
    purges,
    receptions,
    results,
    retractions,
    series,
    studies,
)

ARRIVED = (DeliveryState.SENT.value, DeliveryState.COMMITTED.value)
LOST = DeliveryState.LOST.value
AT_REST = (SeriesState.ROUTED.value, SeriesState.PURGED.value)
PURGED = "purged"
# Sentence and condition of what keeps a Study; each condition is about the row of `studies` beside it.
Obstacles = Sequence[tuple[str, ColumnElement[bool]]]

_OF_STUDY = deliveries.c.study_instance_uid == studies.c.study_instance_uid
_OF_RESULTS = results.c.study_instance_uid == studies.c.study_instance_uid
_IS_REFUSED = deliveries.c.state == DeliveryState.REFUSED.value
_IS_ORDERED = exists().where(
    deliveries.c.study_instance_uid == results.c.study_instance_uid,
    deliveries.c.sop_instance_uid == results.c.sop_instance_uid,
)


class RetentionLedger(Desk):
    """Studies on their way out."""

    def candidates(
        self, proof: Proof, *, before: datetime, results_before: datetime, limit: int
    ) -> tuple[Candidate, ...]:
        """Return Studies that may go and to which nothing happened since `before`; those that came first, first.

        Their Results may go with them, or after them, when nothing happened since `results_before` either.
        """
        may_take_results = _rests_since(results_before)
        has_instances = studies.c.state == SeriesState.ROUTED.value
        statement = (
            select(
                studies.c.study_instance_uid,
                may_take_results.label("with_results"),
                _size(instances).label("instance_bytes"),
                _size(results, results.c.purged_at.is_(None)).label("result_bytes"),
            )
            .where(
                or_(has_instances, may_take_results),
                _rests_since(before),
                *(not_(condition) for _, condition in _sayings(proof)),
            )
            .order_by(studies.c.changed_at)
            .limit(limit)
        )
        with self.reading() as connection:
            return tuple(
                Candidate(
                    study_instance_uid=StudyUID(row.study_instance_uid),
                    with_results=bool(row.with_results),
                    size_bytes=int(row.instance_bytes + (row.result_bytes if row.with_results else 0)),
                )
                for row in connection.execute(statement)
            )

    def obstacles(self, study_instance_uid: StudyUID, proof: Proof, *, is_forced: bool = False) -> tuple[str, ...]:
        """Return in words what keeps a Study; nothing when it may go.

        Parameters
        ----------
        is_forced
            Whether a person wants it to go, proven or not.

        Raises
        ------
        NotFound
            If the Study is unknown.
        """
        with self.reading() as connection:
            return _obstacles(connection, study_instance_uid, _sayings(proof, is_forced=is_forced))

    def begin_purge(self, order: PurgeOrder, proof: Proof, *, now: datetime) -> Purge:
        """Commit that a Study goes: its Instances have no rows from then on, its files follow.

        Raises
        ------
        NotFound
            If the Study is unknown.
        WrongState
            If something keeps it; nothing is written.
        """
        uid = order.study_instance_uid
        with self.writing() as connection:
            kept_by = _obstacles(connection, uid, _sayings(proof, is_forced=order.is_forced))
            if kept_by:
                raise WrongState(f"study {uid} is kept: {'; '.join(kept_by)}")
            purge = _describe(connection, order, now=now)
            connection.execute(insert(purges).values(**{**asdict(purge), "sop_classes": dict(purge.sop_classes)}))
            for table in (receptions, instances, series, expectations, notices):
                connection.execute(delete(table).where(table.c.study_instance_uid == uid))
            forget_searches(connection, uid)
            _stop_deliveries(connection, order, now=now)
            if order.with_results:
                _give_up_results(connection, uid, now=now)
            strike_empty(connection, uid)
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == uid)
                .values(state=SeriesState.PURGED.value, reason=order.reason, changed_at=now)
            )
            what = "the Study goes" if order.with_results else "the Study goes, its Results stay"
            text = f"{what}, by {order.ordered_by}: {order.reason}"
            add_event(connection, at=now, kind="purge-ordered", text=text, study_instance_uid=uid)
            return purge

    def pending_purges(self) -> tuple[Purge, ...]:
        """Return the Studies whose files are going, oldest order first."""
        statement = select(purges).order_by(purges.c.began_at, purges.c.purge_id)
        with self.reading() as connection:
            return tuple(Purge(**row) for row in connection.execute(statement).mappings())

    def has_instances(self, study_instance_uid: StudyUID) -> bool:
        """Return whether any Instance of the Study has a row."""
        found = exists().where(instances.c.study_instance_uid == study_instance_uid)
        with self.reading() as connection:
            return bool(connection.execute(select(found)).scalar_one())

    def finish_purge(self, purge: Purge, *, now: datetime) -> None:
        """Commit that the files are gone, and with them what the ledger still told of the patient.

        What stays: which questions were answered, which Results were written and where they went, and the time line.
        So the same Study sent again is a story of its own, and is not answered a second time.
        """
        uid = purge.study_instance_uid
        with self.writing() as connection:
            if not _close(connection, purge):
                return
            if purge.with_results:
                _forget_questions(connection, uid)
            connection.execute(delete(decisions).where(decisions.c.study_instance_uid == uid))
            is_forward = (deliveries.c.study_instance_uid == uid) & deliveries.c.job_id.is_(None)
            connection.execute(delete(deliveries).where(is_forward))
            text = f"{sum(purge.sop_classes.values())} files, {purge.size_bytes} bytes"
            add_event(connection, at=now, kind="study-purged", text=text, study_instance_uid=uid)

    def undo_purge(self, purge: Purge, *, now: datetime) -> None:
        """Commit that the files are back: the Study came again before they were gone."""
        with self.writing() as connection:
            if not _close(connection, purge):
                return
            taken = results.c.study_instance_uid == purge.study_instance_uid, results.c.purged_at == purge.began_at
            back = connection.execute(select(results).where(*taken)).mappings().all()
            connection.execute(update(results).where(*taken).values(purged_at=None))
            for row in back:
                enter_result(connection, {**row, "purged_at": None})
            add_event(
                connection,
                at=now,
                kind="purge-undone",
                text="the Study came again before it was gone; it stays",
                study_instance_uid=purge.study_instance_uid,
            )

    def result_paths(self) -> tuple[str, ...]:
        """Return the path of every Result that is kept, relative to the store."""
        with self.reading() as connection:
            kept = select(results.c.path).where(results.c.purged_at.is_(None))
            return tuple(connection.execute(kept).scalars())

    def count_obstacles(self, proof: Proof) -> Mapping[str, int]:
        """Return in words what keeps Studies, and how many; a Study may be kept by several things."""
        sayings = _sayings(proof)
        is_here = studies.c.state != SeriesState.PURGED.value
        with self.reading() as connection:
            counted = {
                saying: int(
                    connection.execute(select(func.count()).select_from(studies).where(is_here, condition)).scalar_one()
                )
                for saying, condition in sayings
            }
        return {saying: count for saying, count in counted.items() if count}

    def record_event(self, *, kind: str, text: str, now: datetime, is_alarm: bool = False) -> None:
        """Commit a line for whoever looks, or that a person must act on."""
        add = add_alarm if is_alarm else add_event
        with self.writing() as connection:
            add(connection, at=now, kind=kind, text=text)


def _sayings(proof: Proof, *, is_forced: bool = False) -> Obstacles:
    return _always() if is_forced else (*_always(), *_until(proof))


def _always() -> Obstacles:
    """Return what keeps a Study whoever orders what."""
    return (
        ("it is not routed yet", studies.c.state.not_in(AT_REST)),
        (
            "a Job of it waits or runs; `radnode jobs cancel` ends it",
            exists().where(jobs.c.study_instance_uid == studies.c.study_instance_uid, jobs.c.state.in_(LIVE_STATES)),
        ),
        (
            "a Job of a later Study reads it as prior, or waits for it",
            or_(
                exists().where(
                    jobs.c.prior_study_instance_uid == studies.c.study_instance_uid,
                    func.coalesce(jobs.c.state, "").in_(LIVE_STATES),
                ),
                exists().where(
                    priors.c.study_instance_uid == studies.c.study_instance_uid,
                    prior_searches.c.search_id == priors.c.search_id,
                    func.coalesce(prior_searches.c.state, "").in_(UNDER_WAY),
                ),
            ),
        ),
        (
            "its files are going already",
            exists().where(purges.c.study_instance_uid == studies.c.study_instance_uid),
        ),
        (
            "nothing is left of it",
            and_(
                studies.c.state == SeriesState.PURGED.value,
                ~exists().where(_OF_RESULTS, results.c.purged_at.is_(None)),
            ),
        ),
    )


def _until(proof: Proof) -> Obstacles:
    """Return what keeps a Study until it is proven that nobody misses it."""
    sayings = [
        (
            "Destinations do not know yet that Results were taken back",
            exists().where(
                jobs.c.study_instance_uid == studies.c.study_instance_uid,
                retractions.c.job_id == jobs.c.job_id,
                retractions.c.done_at.is_(None),
            ),
        ),
        (
            "a Delivery of it is on its way",
            exists().where(_OF_STUDY, deliveries.c.state.not_in((*ARRIVED, LOST, DeliveryState.REFUSED.value))),
        ),
    ]
    if proof.keep_until is KeepUntil.FINISHED:
        return sayings
    sayings += [
        (
            "a Delivery of it was refused; `radnode deliveries dismiss` takes note of that",
            exists().where(
                _OF_STUDY,
                _IS_REFUSED,
                deliveries.c.seen_at.is_(None),
                deliveries.c.reason_code.is_distinct_from(RETRACTED),
                ~is_replaced(ARRIVED),
            ),
        ),
        (
            "a Destination lost what it took; it is sent again, or `radnode deliveries dismiss` takes note of that",
            exists().where(_OF_STUDY, deliveries.c.state == LOST, deliveries.c.seen_at.is_(None)),
        ),
        ("nobody else was sent one of its Results", exists().where(_kept_results(), ~_IS_ORDERED)),
    ]
    if proof.keep_until is KeepUntil.COMMITTED and proof.confirming:
        # As a bare column, SQLite would look through all of a Destination for each Study: 6 s for 10,000 Studies.
        destination = func.coalesce(deliveries.c.destination, "")
        unconfirmed = (
            deliveries.c.state == DeliveryState.SENT.value,
            deliveries.c.seen_at.is_(None),
            destination.in_(sorted(proof.confirming)),
            # What is asked about no more has no row; it was sent, and that is all the proof there is.
            confirmations.c.delivery_id == deliveries.c.delivery_id,
        )
        sayings.append(("a Destination has not confirmed yet what it holds", exists().where(_OF_STUDY, *unconfirmed)))
    return sayings


def _kept_results() -> ColumnElement[bool]:
    """Return the condition of a Result that stands for the Study beside it, and whose file is there.

    One in shadow does not: nobody else is ever sent it.
    """
    return and_(_OF_RESULTS, STANDS, results.c.is_substitute.is_(False))


def _rests_since(before: datetime) -> ColumnElement[bool]:
    """Return the condition that nothing happened to the Study beside it after `before`."""
    of_jobs = jobs.c.study_instance_uid == studies.c.study_instance_uid
    return and_(
        studies.c.changed_at <= before,
        ~exists().where(of_jobs, jobs.c.finished_at > before),
        ~exists().where(_OF_STUDY, deliveries.c.changed_at > before),
    )


def _size(table: Table, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    """Return the size of what the Study beside it has in `table`, bytes."""
    of_study = table.c.study_instance_uid == studies.c.study_instance_uid
    return select(func.coalesce(func.sum(table.c.size_bytes), 0)).where(of_study, *conditions).scalar_subquery()


def _obstacles(connection: Connection, uid: StudyUID, sayings: Obstacles) -> tuple[str, ...]:
    _require_known(connection, uid)
    asked = [condition.label(f"obstacle_{number}") for number, (_, condition) in enumerate(sayings)]
    found = connection.execute(select(*asked).where(studies.c.study_instance_uid == uid)).one()
    return tuple(saying for (saying, _), holds in zip(sayings, found, strict=True) if holds)


def _require_known(connection: Connection, uid: StudyUID) -> None:
    known = select(exists().where(studies.c.study_instance_uid == uid))
    if not connection.execute(known).scalar_one():
        raise NotFound(f"study {uid} is not in the ledger; see `radnode studies list`")


def _describe(connection: Connection, order: PurgeOrder, *, now: datetime) -> Purge:
    uid = order.study_instance_uid
    patient_id = func.min(instances.c.attributes["PatientID"].as_string())
    of_study = instances.c.study_instance_uid == uid
    counted: Counter[str] = Counter()
    size_bytes = 0
    going = [(instances, of_study)]
    if order.with_results:
        going.append((results, (results.c.study_instance_uid == uid) & results.c.purged_at.is_(None)))
    for table, condition in going:
        grouped = select(table.c.sop_class_uid, func.count(), func.sum(table.c.size_bytes)).where(condition)
        for sop_class_uid, count, total in connection.execute(grouped.group_by(table.c.sop_class_uid)):
            counted[sop_class_uid] += count
            size_bytes += int(total)
    return Purge(
        purge_id=str(uuid.uuid4()),
        study_instance_uid=uid,
        began_at=now,
        with_results=order.with_results,
        size_bytes=size_bytes,
        ordered_by=order.ordered_by,
        reason=order.reason,
        patient_id=connection.execute(select(func.coalesce(patient_id, "")).where(of_study)).scalar_one(),
        sop_classes=dict(counted),
    )


def _stop_deliveries(connection: Connection, order: PurgeOrder, *, now: datetime) -> None:
    """Refuse what has not left yet: its files go."""
    goes = [deliveries.c.study_instance_uid == order.study_instance_uid]
    if not order.with_results:
        goes.append(deliveries.c.job_id.is_(None))
    over = (*ARRIVED, DeliveryState.REFUSED.value)
    values = {
        "state": DeliveryState.REFUSED.value,
        "reason_code": PURGED,
        "reason_text": "the Study was purged before it left",
        "changed_at": now,
        "seen_at": now,
    }
    connection.execute(update(deliveries).where(*goes, deliveries.c.state.not_in(over)).values(values))


def _give_up_results(connection: Connection, uid: StudyUID, *, now: datetime) -> None:
    """Mark every Result of the Study; what was still to be told of them never will be."""
    of_study = results.c.study_instance_uid == uid, results.c.purged_at.is_(None)
    connection.execute(update(results).where(*of_study).values(purged_at=now))
    pending = exists().where(jobs.c.study_instance_uid == uid, retractions.c.job_id == jobs.c.job_id)
    connection.execute(
        update(retractions).where(pending, retractions.c.done_at.is_(None)).values(done_at=now, reason_code=PURGED)
    )


def _forget_questions(connection: Connection, uid: StudyUID) -> None:
    """Delete Jobs without an answer, and empty the answers of the others, comments, and what is known of Results."""
    forget_comments(connection, uid)
    of_study = jobs.c.study_instance_uid == uid
    is_over = jobs.c.state.not_in(LIVE_STATES)
    has_answer = exists().where(results.c.job_id == jobs.c.job_id)
    was_retracted = exists().where(retractions.c.job_id == jobs.c.job_id)
    connection.execute(delete(jobs).where(of_study, is_over, ~has_answer, ~was_retracted))
    connection.execute(update(jobs).where(of_study, is_over).values(findings=[], notes=[]))
    is_gone = results.c.study_instance_uid == uid, results.c.purged_at.is_not(None)
    connection.execute(update(results).where(*is_gone).values(attributes={}))


def _close(connection: Connection, purge: Purge) -> bool:
    """Return whether the purge was still under way; from now on it is not."""
    closed = connection.execute(delete(purges).where(purges.c.purge_id == purge.purge_id))
    return bool(closed.rowcount)
