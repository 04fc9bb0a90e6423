"""How an answer stands: what a message about it tells, read anew each time that one is sent."""

from collections.abc import Mapping, Sequence
from itertools import chain

from sqlalchemy import Connection, RowMapping, select

from node.domain.answer import Answer, AnswerState, ToldFinding
from node.domain.finding import Finding
from node.domain.job import Job, JobState
from node.domain.result import Result, ResultKind
from node.domain.retraction import RejectionReason
from node.domain.study import SeriesState, StudyFacts
from node.errors import NotFound
from node.ledger.engine import Desk, Engine
from node.ledger.placement import WITH_FATE
from node.ledger.rows import to_job, to_result
from node.ledger.schema import jobs, results, retractions
from node.ledger.steering import has_urged
from node.ledger.studies import StudyLedger

# Of all that a Job writes, what stands for its answer, and for the news that this was taken back.
TELLING = frozenset({ResultKind.SR.value, ResultKind.REJECTION_NOTE.value})


class AnswerLedger(Desk):
    """Answers as they stand."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._studies = StudyLedger(engine)

    def read_answer(self, sop_instance_uid: str) -> Answer | None:
        """Return the answer for which an object stands; None for an object that stands for none, such as a SEG.

        That is the answer of its Pipeline on its Study as it is now, whether this object or a later one gave it.

        Raises
        ------
        NotFound
            If the Study has no Instance here any more, or what was found was given up with it.
        """
        with self.reading() as connection:
            asked = connection.execute(
                select(jobs.c.study_instance_uid, jobs.c.pipeline)
                .join(results, results.c.job_id == jobs.c.job_id)
                .where(results.c.sop_instance_uid == sop_instance_uid, results.c.kind.in_(TELLING))
            ).first()
            given = () if asked is None else _answering(connection, asked.study_instance_uid, asked.pipeline)
        if not given:
            return None
        study = self._studies.study_facts(to_job(given[-1]).order.study_instance_uid)
        with self.reading() as connection:
            return _tell(connection, study, given)


def _answering(connection: Connection, study_instance_uid: str, pipeline: str) -> Sequence[RowMapping]:
    """Return the Jobs that answered this question on whatever the Study held, the last one last."""
    statement = WITH_FATE.where(
        jobs.c.study_instance_uid == study_instance_uid,
        jobs.c.pipeline == pipeline,
        jobs.c.state == JobState.COMPLETED.value,
        ~jobs.c.is_shadow,
    ).order_by(jobs.c.finished_at, jobs.c.accepted_at)
    return connection.execute(statement).mappings().all()


def _tell(connection: Connection, study: StudyFacts, given: Sequence[RowMapping]) -> Answer:
    answered = [to_job(row) for row in given]
    job = answered[-1]
    written = [
        to_result(row)
        for row in connection.execute(select(results).where(results.c.job_id == job.job_id)).mappings()
        if row["kind"] != ResultKind.REJECTION_NOTE.value
    ]
    taken_back = connection.execute(
        select(retractions).where(retractions.c.job_id == job.job_id).order_by(retractions.c.ordered_at)
    )
    orders = taken_back.mappings().all()
    stand = tuple(one for one in written if one.retracted_at is None and not one.is_substitute)
    state = _judge(stand, orders, is_first=len(answered) == 1)
    if state.stands and job.is_given_up:
        raise NotFound(f"job {job.job_id}: its findings were given up here with the Study; see who was told before")
    struck = frozenset(chain.from_iterable(row["struck"] for row in orders))
    places = _places(answered)
    current = len(job.findings) if state.stands else 0
    kept = {place for place, told in places.items() if place <= current and told.finding.label not in struck}
    return Answer(
        study=study,
        job=job,
        state=state,
        results=stand,
        findings=tuple(told for place, told in places.items() if place in kept),
        withdrawn=tuple(told for place, told in places.items() if place not in kept),
        is_urged=has_urged(connection, study.study_instance_uid, job.order.pipeline),
        is_heard=given[-1]["heard_at"] is not None and study.state is not SeriesState.SETTLED,
        since=max((job.finished_at or job.accepted_at, *(row["done_at"] or row["ordered_at"] for row in orders))),
    )


def _judge(stand: Sequence[Result], orders: Sequence[RowMapping], *, is_first: bool) -> AnswerState:
    if stand:
        return AnswerState.FIRST if is_first and not orders else AnswerState.CORRECTED
    if orders and orders[-1]["reason"] == RejectionReason.WRONG_WORKLIST_ENTRY.value:
        return AnswerState.MISPLACED
    return AnswerState.TAKEN_BACK


def _places(answered: Sequence[Job]) -> Mapping[int, ToldFinding]:
    """Return what stands last in each place that was ever told."""
    found: dict[int, ToldFinding] = {}
    for job in answered:
        for place, entry in enumerate(job.findings, start=1):
            found[place] = ToldFinding(place=place, finding=Finding.from_json(entry))
    return dict(sorted(found.items()))
