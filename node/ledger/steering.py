"""Answers that rules are asked about again, and what follows from them: urgency, and further Destinations."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, case, exists, literal, null, select, update

from node.domain.finding import Finding
from node.domain.job import JobID, JobState, Priority, is_content
from node.domain.result import ResultKind
from node.domain.steering import Answered, Steering
from node.domain.study import SeriesState, StudyFacts
from node.domain.uids import StudyUID
from node.ledger.catalogue import STANDS
from node.ledger.orders import add_delivery
from node.ledger.results import delivery_values
from node.ledger.rows import add_event, to_job, to_result
from node.ledger.schema import EPOCH, events, jobs, results, studies

HEARD_AT_ONCE = 500
ANSWER_HEARD = "answer-heard"
STUDY_STEERED = "study-steered"
RAISED = "priority "
COMPLETED = jobs.c.state == JobState.COMPLETED.value
IS_NOTE = results.c.kind == ResultKind.REJECTION_NOTE.value


def has_unheard(connection: Connection) -> bool:
    """Return whether an answer came that was not heard of yet."""
    return bool(connection.execute(select(exists().where(COMPLETED, jobs.c.heard_at.is_(None)))).scalar_one())


def hear_answers(connection: Connection, pipelines: Collection[str], *, now: datetime) -> int:
    """Note the answers that came since; Studies that rules ask about again are SETTLED, in the caller's transaction.

    Returns
    -------
    int
        How many Studies are asked about again.
    """
    unheard = select(jobs.c.job_id).where(COMPLETED, jobs.c.heard_at.is_(None)).limit(HEARD_AT_ONCE)
    heard = connection.execute(
        update(jobs)
        .where(jobs.c.job_id.in_(unheard.scalar_subquery()))
        .values(heard_at=now)
        .returning(jobs.c.study_instance_uid, jobs.c.pipeline, jobs.c.is_shadow)
    ).all()
    stirred = {row.study_instance_uid for row in heard if row.pipeline in pipelines and not row.is_shadow}
    # One that is open, or settled, is asked anyway; one that was purged holds nothing that could be.
    settled = connection.execute(
        update(studies)
        .where(studies.c.study_instance_uid.in_(stirred), studies.c.state == SeriesState.ROUTED.value)
        .values(state=SeriesState.SETTLED.value, revision=studies.c.revision + 1, changed_at=now)
        .returning(studies.c.study_instance_uid)
    )
    uids = settled.scalars().all()
    for uid in uids:
        text = "an answer came that rules ask for"
        add_event(connection, at=now, kind=ANSWER_HEARD, text=text, study_instance_uid=StudyUID(uid))
    return len(uids)


def add_answers(connection: Connection, study: StudyFacts) -> StudyFacts:
    """Return the Study with what Pipelines concluded of what it holds now, the oldest first.

    Neither what is in shadow counts, nor what was taken back, nor what is of an earlier version of an Instance.
    """
    earlier = (series for sought in study.priors for prior in sought.studies for series in prior.series)
    held = {
        series.series_instance_uid: tuple(zip(series.sop_instance_uids, series.says, strict=True))
        for series in (*study.series, *earlier)
    }
    stand = exists().where(results.c.job_id == jobs.c.job_id, STANDS)
    found = connection.execute(
        select(jobs)
        .where(
            jobs.c.study_instance_uid == study.study_instance_uid,
            COMPLETED,
            ~jobs.c.is_shadow,
            jobs.c.outdated_at.is_(None),
            stand,
        )
        .order_by(jobs.c.finished_at)
    )
    answered = tuple(
        Answered(
            job_id=job.job_id,
            pipeline=job.order.pipeline,
            findings=tuple(Finding.from_json(entry) for entry in job.findings),
        )
        for job in (to_job(row) for row in found.mappings())
        if is_content(job.order.content, {role: held.get(uid, ()) for role, uid in job.order.inputs.items()})
    )
    return replace(study, answered=answered)


def steer(connection: Connection, study: StudyFacts, wanted: Sequence[Steering], *, now: datetime) -> None:
    """Do what rules want because of the answers in `study`, once, in the caller's transaction."""
    for one in wanted:
        answered = [answer.job_id for answer in study.answered if answer.pipeline == one.pipeline]
        raised = raise_priority(connection, study.study_instance_uid, one.priority, answered)
        added = [name for name in one.deliver_to if _deliver(connection, answered, name, now=now)]
        said = [f"{RAISED}{one.priority.word}"] * raised + [f"its Results go to {name}, too" for name in added]
        if said:
            text = f"rule {one.rule!r}, {_cause(one.pipeline)}{', '.join(said)}"
            add_event(connection, at=now, kind=STUDY_STEERED, text=text, study_instance_uid=study.study_instance_uid)


def has_urged(connection: Connection, study_instance_uid: StudyUID, pipeline: str) -> bool:
    """Return whether a rule has ever raised a Study because of what a Pipeline found in it."""
    told = exists().where(
        events.c.study_instance_uid == study_instance_uid,
        events.c.kind == STUDY_STEERED,
        events.c.text.contains(f"{_cause(pipeline)}{RAISED}", autoescape=True),
    )
    return bool(connection.execute(select(told)).scalar_one())


def _cause(pipeline: str) -> str:
    return f"by what {pipeline} found: "


def raise_priority(
    connection: Connection, study_instance_uid: StudyUID, priority: Priority, answered: Sequence[JobID]
) -> bool:
    """Raise what waits of a Study, and the Jobs that answered, unless it is more urgent; return whether any was.

    Parameters
    ----------
    priority
        ROUTINE and LOW raise nothing.
    """
    if priority >= Priority.ROUTINE:
        return False
    less_urgent = (
        jobs.c.study_instance_uid == study_instance_uid,
        jobs.c.priority > int(priority),
        ~jobs.c.is_shadow,
    )
    raised = update(jobs).where(*less_urgent).values(priority=int(priority))
    # They are rung again: the message that the broker has lies among less urgent ones.
    rung = case((jobs.c.enqueued_at.is_(None), null()), else_=literal(EPOCH, jobs.c.enqueued_at.type))
    waiting = raised.where(jobs.c.state == JobState.SCHEDULED.value).values(enqueued_at=rung)
    moved = [connection.execute(one).rowcount for one in (raised.where(jobs.c.job_id.in_(answered)), waiting)]
    return any(moved)


def _deliver(connection: Connection, answered: Sequence[JobID], destination: str, *, now: datetime) -> bool:
    """Order the Results of answers for one more Destination; False where it gets them already."""
    found = connection.execute(select(jobs).where(jobs.c.job_id.in_(answered))).mappings().all()
    added = [job for job in (to_job(row) for row in found) if destination not in job.order.deliver_to]
    for job in added:
        recipients = [*job.order.deliver_to, destination]
        connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(deliver_to=recipients))
        sent = select(results).where(results.c.job_id == job.job_id, STANDS, ~IS_NOTE, ~results.c.is_substitute)
        for row in connection.execute(sent).mappings().all():
            add_delivery(connection, delivery_values(to_result(row), destination), now=now)
    return bool(added)
