"""What assembly and routing ask of the ledger: open Series, settled Studies, recorded Decisions."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, exists, func, insert, select, update

from node.domain.completeness import REFUSED, OpenSeries
from node.domain.decision import Decision
from node.domain.forward import Forward
from node.domain.job import LIVE_STATES, JobID, JobOrder, JobState
from node.domain.result import DeliveryState
from node.domain.series_summary import summarize_study
from node.domain.steering import Steering
from node.domain.study import SeriesState, StudyFacts
from node.domain.uids import SeriesUID, StudyUID
from node.errors import NotFound
from node.ledger.engine import Desk, Engine
from node.ledger.imaging_orders import add_orders
from node.ledger.orders import add_delivery
from node.ledger.outdated import clear_outdated, read_again
from node.ledger.prior_marks import REPROCESSED
from node.ledger.priors import add_priors, await_priors, release_job, stir_wanting, take_over, waiting_values
from node.ledger.rows import add_alarm, add_event, from_clause, from_order, to_instance
from node.ledger.schema import decisions, events, instances, jobs, receptions, results, series, studies
from node.ledger.steering import add_answers, has_unheard, hear_answers, steer
from node.ledger.switches import are_outdated, find_predecessor, revive_job
from node.ledger.transitions import canceled

ROUTED = "study-routed"


class StudyLedger(Desk):
    """Series and Studies on their way from OPEN to ROUTED.

    Parameters
    ----------
    rejects_superseded
        Whether Results that others replace are taken back where they were delivered, when an answer leaves the shadow.
    """

    def __init__(self, engine: Engine, *, rejects_superseded: bool = False) -> None:
        super().__init__(engine)
        self._rejects_superseded = rejects_superseded

    def open_series(self) -> tuple[OpenSeries, ...]:
        """Return every Series in state OPEN, with who brings it and what is here."""
        with self.reading() as connection:
            return read_open_series(connection)

    def settle_series(self, seen: OpenSeries, *, reason: str, now: datetime) -> bool:
        """Move a Series to SETTLED unless an Instance came since it was `seen`; its Study follows when all have.

        Returns
        -------
        bool
            True when the Study settled with it.
        """
        uid = seen.study_instance_uid
        with self.writing() as connection:
            changed = connection.execute(
                update(series)
                .where(
                    series.c.study_instance_uid == uid,
                    series.c.series_instance_uid == seen.series_instance_uid,
                    series.c.state == SeriesState.OPEN.value,
                    series.c.last_instance_at == seen.last_instance_at,
                )
                .values(state=SeriesState.SETTLED.value, reason=reason)
            )
            if changed.rowcount == 0 or _has_open_series(connection, uid):
                return False
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == uid)
                .values(state=SeriesState.SETTLED.value, reason=reason, changed_at=now)
            )
            add_event(connection, at=now, kind="study-settled", text=reason, study_instance_uid=uid)
            return True

    def tell_waiting(self, study_instance_uid: StudyUID, *, text: str) -> None:
        """Commit what an open Study waits for."""
        with self.writing() as connection:
            connection.execute(
                update(studies)
                .where(
                    studies.c.study_instance_uid == study_instance_uid,
                    studies.c.state == SeriesState.OPEN.value,
                )
                .values(reason=text)
            )

    def refuse_study(self, study_instance_uid: StudyUID, *, reason: str, now: datetime) -> bool:
        """Commit that no rule is asked of a Study that stayed incomplete, with an alarm; a further Instance reopens it.

        Returns
        -------
        bool
            False: it is not open any more.
        """
        uid, text = study_instance_uid, f"{REFUSED}{reason}"
        with self.writing() as connection:
            changed = connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == uid, studies.c.state == SeriesState.OPEN.value)
                .values(state=SeriesState.ROUTED.value, reason=text, changed_at=now)
            )
            if changed.rowcount == 0:
                return False
            connection.execute(
                update(series)
                .where(series.c.study_instance_uid == uid, series.c.state != SeriesState.ROUTED.value)
                .values(state=SeriesState.ROUTED.value, reason=text)
            )
            add_alarm(connection, at=now, kind="study-refused", text=reason, study_instance_uid=uid)
            return True

    def settled_studies(self, limit: int) -> tuple[StudyUID, ...]:
        """Return Studies in state SETTLED, the longest waiting first."""
        statement = (
            select(studies.c.study_instance_uid)
            .where(studies.c.state == SeriesState.SETTLED.value)
            .order_by(studies.c.changed_at)
            .limit(limit)
        )
        with self.reading() as connection:
            return tuple(StudyUID(uid) for uid in connection.execute(statement).scalars())

    def study_facts(self, study_instance_uid: StudyUID) -> StudyFacts:
        """Return the Study with all its Series.

        Raises
        ------
        NotFound
            If the Study is unknown.
        """
        with self.reading() as connection:
            row = connection.execute(
                select(studies.c.state, studies.c.revision).where(studies.c.study_instance_uid == study_instance_uid)
            ).one_or_none()
            if row is None:
                raise NotFound(f"study {study_instance_uid} is not in the ledger; see `radnode studies list`")
            found = connection.execute(select(instances).where(instances.c.study_instance_uid == study_instance_uid))
            facts = [to_instance(row) for row in found.mappings()]
            if not facts:
                raise NotFound(f"study {study_instance_uid} has no Instance here any more; send it again")
            states = connection.execute(
                select(series.c.series_instance_uid, series.c.state).where(
                    series.c.study_instance_uid == study_instance_uid
                )
            )
            by_series = {SeriesUID(uid): SeriesState(word) for uid, word in states}
            study = summarize_study(
                study_instance_uid,
                facts,
                state=SeriesState(row.state),
                series_states=by_series,
                revision=row.revision,
            )
            return add_orders(connection, add_answers(connection, add_priors(connection, study)))

    def hear_answers(self, pipelines: frozenset[str], *, now: datetime) -> int:
        """Note the answers that came; Studies that one of `pipelines` answered are SETTLED again, for routing to ask.

        Returns
        -------
        int
            How many Studies these are.
        """
        with self.reading() as connection:
            if not has_unheard(connection):
                return 0
        with self.writing() as connection:
            return hear_answers(connection, pipelines, now=now)

    def record_routing(
        self,
        study: StudyFacts,
        *,
        decisions: Sequence[Decision],
        orders: Sequence[JobOrder],
        forwards: Sequence[Forward],
        steerings: Sequence[Steering] = (),
        now: datetime,
    ) -> bool:
        """Commit what the rules concluded, in one transaction; nothing when the Study changed since `study` was read.

        Neither is anything written when a Pipeline was switched off, or into shadow, since `orders` were made.

        An order whose question already has a Job is dropped. Earlier Jobs of the same Pipeline on other content of the
        Study are superseded: unfinished ones are CANCELED, the last completed one is named as predecessor. Where a
        person had the Study reprocessed, and the Job has read an earlier version of an Instance, the order asks for the
        versions that count now, which is another question.

        Returns
        -------
        bool
            False: nothing was written, and the Study is to be looked at anew.
        """
        uid = study.study_instance_uid
        with self.writing() as connection:
            if are_outdated(connection, orders):
                return False
            moved = connection.execute(
                update(studies)
                .where(
                    studies.c.study_instance_uid == uid,
                    studies.c.state == SeriesState.SETTLED.value,
                    studies.c.revision == study.revision,
                )
                .values(state=SeriesState.ROUTED.value, changed_at=now)
            )
            if moved.rowcount == 0:
                return False
            _add_decisions(connection, decisions, revision=study.revision, now=now)
            for order in orders:
                add_job(connection, order, rejects_superseded=self._rejects_superseded, now=now)
            for forward in forwards:
                _add_forward(connection, uid, forward, now=now)
            steer(connection, study, steerings, now=now)
            stir_wanting(connection, uid, now=now)
            connection.execute(
                update(series).where(series.c.study_instance_uid == uid).values(state=SeriesState.ROUTED.value)
            )
            text = f"rules asked: {len(decisions)}; {_tell_wanted(orders, forwards)}"
            add_event(connection, at=now, kind=ROUTED, text=text, study_instance_uid=uid)
            return True


def read_open_series(connection: Connection) -> tuple[OpenSeries, ...]:
    """Return every Series in state OPEN, with who brings it and what is here, in the caller's transaction."""
    still_open = func.count(receptions.c.association_id) - func.count(receptions.c.ended_at)
    of_series = (
        instances.c.study_instance_uid == series.c.study_instance_uid,
        instances.c.series_instance_uid == series.c.series_instance_uid,
    )
    source = select(instances.c.calling_aet).where(*of_series).limit(1).scalar_subquery()
    held = select(func.count()).select_from(instances).where(*of_series).scalar_subquery()
    statement = (
        select(
            series.c.study_instance_uid,
            series.c.series_instance_uid,
            series.c.last_instance_at,
            func.coalesce(source, "").label("source"),
            held.label("held"),
            still_open.label("open_associations"),
            func.max(receptions.c.ended_at, type_=receptions.c.ended_at.type).label("last_association_end"),
        )
        .join(
            receptions,
            (series.c.study_instance_uid == receptions.c.study_instance_uid)
            & (series.c.series_instance_uid == receptions.c.series_instance_uid),
        )
        .where(series.c.state == SeriesState.OPEN.value)
        .group_by(series.c.study_instance_uid, series.c.series_instance_uid, series.c.last_instance_at)
    )
    return tuple(OpenSeries(**row) for row in connection.execute(statement).mappings())


def _tell_wanted(orders: Sequence[JobOrder], forwards: Sequence[Forward]) -> str:
    wanted = [order.pipeline for order in orders]
    wanted += [f"forwarded to {name}" for name in dict.fromkeys(forward.destination for forward in forwards)]
    return ", ".join(wanted) or "nothing follows"


def _has_open_series(connection: Connection, study_instance_uid: StudyUID) -> bool:
    statement = select(
        exists().where(series.c.study_instance_uid == study_instance_uid, series.c.state == SeriesState.OPEN.value)
    )
    return bool(connection.execute(statement).scalar_one())


def _add_decisions(connection: Connection, found: Sequence[Decision], *, revision: int, now: datetime) -> None:
    for decision in found:
        connection.execute(
            insert(decisions).values(
                study_instance_uid=decision.study_instance_uid,
                revision=revision,
                rule=decision.rule,
                outcome=decision.outcome.value,
                clause=decision.clause,
                found=decision.found,
                reason=decision.reason,
                inputs=dict(decision.inputs),
                trace=[from_clause(clause) for clause in decision.trace],
                decided_at=now,
            )
        )


def add_job(
    connection: Connection, order: JobOrder, *, rejects_superseded: bool, now: datetime, is_wished: bool = False
) -> JobID:
    """Order a Job in the caller's transaction, unless its question was put before; return the Job that answers it.

    Parameters
    ----------
    is_wished
        A person asks for this very answer: one of an earlier version of the Instances will not do. So it is, too, where
        the Study is reprocessed.
    """
    until = await_priors(connection, order, now=now)
    known = _find_known(connection, order)
    if known is not None:
        is_wished = is_wished or _is_reprocessed(connection, order.study_instance_uid)
        anew = read_again(connection, known, order, is_wished=is_wished)
        if anew is not None:
            order, known = anew, _find_known(connection, anew)
            if known is not None:
                clear_outdated(connection, known)
    if known is not None:
        if until is None and release_job(connection, known, order, now=now):
            return known
        if not revive_job(connection, known, order, rejects_superseded=rejects_superseded, now=now):
            _tell_known(connection, order, known, now=now)
        return known
    taken = take_over(connection, order, until, now=now)
    if taken is not None:
        return taken
    predecessor = find_predecessor(connection, order)
    _supersede(connection, order, now=now)
    job_id, where = JobID(str(uuid.uuid4())), "in shadow, " * order.is_shadow
    values = {**_job_values(order, now), **waiting_values(order, until)}
    connection.execute(insert(jobs).values(job_id=job_id, supersedes=predecessor, **values))
    add_event(
        connection,
        at=now,
        kind="job-scheduled",
        text=f"{order.pipeline} by rule {order.rule!r}, {where}priority {order.priority.word}",
        study_instance_uid=order.study_instance_uid,
        job_id=job_id,
    )
    return job_id


def _find_known(connection: Connection, order: JobOrder) -> JobID | None:
    """Return the Job that asks the same."""
    same_question = (
        jobs.c.study_instance_uid == order.study_instance_uid,
        jobs.c.pipeline == order.pipeline,
        jobs.c.model == order.model,
        jobs.c.model_version == order.model_version,
        jobs.c.content == order.content,
    )
    known = connection.execute(select(jobs.c.job_id).where(*same_question)).scalar_one_or_none()
    return None if known is None else JobID(known)


def _tell_known(connection: Connection, order: JobOrder, job_id: JobID, *, now: datetime) -> None:
    """Say why the same is not asked again: of a Study that was purged and came again, or that a person has reprocessed.

    Otherwise nobody wonders: each late Instance asks every rule again.
    """
    state, taken_back_at, purged_at = connection.execute(
        select(jobs.c.state, func.max(results.c.retracted_at), func.max(results.c.purged_at))
        .join_from(jobs, results, results.c.job_id == jobs.c.job_id, isouter=True)
        .where(jobs.c.job_id == job_id)
        .group_by(jobs.c.state)
    ).one()
    if purged_at is not None:
        told = f"answered this before; the Results were given up on {purged_at:%Y-%m-%d}"
    elif not _is_reprocessed(connection, order.study_instance_uid):
        return
    elif taken_back_at is not None:
        told = "answered this before with the same model, and was taken back; that stands"
    elif state == JobState.COMPLETED.value:
        told = "answered this before with the same model; the answer stands"
    else:
        told = f"was asked this before with the same model, and is {state}"
    text, uid = f"{order.pipeline} {told}", order.study_instance_uid
    add_event(connection, at=now, kind="job-known", text=text, study_instance_uid=uid, job_id=job_id)


def _is_reprocessed(connection: Connection, study_instance_uid: StudyUID) -> bool:
    """Return whether the rules are asked because a person wants it."""
    asked = (events.c.study_instance_uid == study_instance_uid, events.c.kind.in_([REPROCESSED, ROUTED]))
    newest = select(events.c.kind).where(*asked).order_by(events.c.event_id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none() == REPROCESSED


def _supersede(connection: Connection, order: JobOrder, *, now: datetime) -> None:
    """End every Job of this Pipeline on earlier content of the Study that waits or runs, and tell it."""
    text = "the Study changed while the Job was waiting or running; a new Job reads the new content"
    ended = connection.execute(
        update(jobs)
        .where(
            jobs.c.study_instance_uid == order.study_instance_uid,
            jobs.c.pipeline == order.pipeline,
            jobs.c.state.in_(LIVE_STATES),
        )
        .values(**canceled("superseded", text, now), fence=jobs.c.fence + 1)
        .returning(jobs.c.job_id)
    )
    for job_id in ended.scalars().all():
        add_event(
            connection,
            at=now,
            kind="job-canceled",
            text=f"superseded: {text}",
            study_instance_uid=order.study_instance_uid,
            job_id=JobID(job_id),
        )


def _job_values(order: JobOrder, now: datetime) -> Mapping[str, object]:
    return {
        **from_order(order),
        "state": JobState.SCHEDULED.value,
        "accepted_at": now,
        "not_before": now,
    }


def _add_forward(connection: Connection, study_instance_uid: StudyUID, forward: Forward, *, now: datetime) -> None:
    found = connection.execute(
        select(instances).where(
            instances.c.study_instance_uid == study_instance_uid,
            instances.c.series_instance_uid.in_(forward.series_instance_uids),
        )
    )
    for row in found.mappings():
        facts = to_instance(row)
        add_delivery(
            connection,
            {
                "destination": forward.destination,
                "study_instance_uid": study_instance_uid,
                "sop_instance_uid": facts.sop_instance_uid,
                "sop_class_uid": facts.sop_class_uid,
                "transfer_syntax_uid": facts.transfer_syntax_uid,
                "path": facts.path,
                "job_id": None,
                "state": DeliveryState.PENDING.value,
            },
            now=now,
        )
