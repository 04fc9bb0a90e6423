"""What dispatch and workers ask of the ledger: ring, claim under a fence, beat, finish, fail, give back."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from node.domain.finding import Presence, count_presence
from node.domain.job import Job, JobID, JobOrder, JobState, Priority
from node.domain.result import Result
from node.domain.study import InstanceFacts
from node.domain.uids import SeriesUID, StudyUID
from node.domain.work import TURN
from node.errors import LeaseLost
from node.ledger.engine import Desk
from node.ledger.priors import without_waiting
from node.ledger.results import keep_result
from node.ledger.retractions import retract_superseded
from node.ledger.rows import to_instance, to_job, to_result
from node.ledger.schema import instances, jobs, results
from node.ledger.switches import end_where_off, order_at_end
from node.ledger.transitions import canceled, scheduled_again, tell

SCHEDULED = jobs.c.state == JobState.SCHEDULED.value
# So many of the newest Jobs tell how long a Pipeline takes.
USUAL_OF = 20
IN_PROGRESS = jobs.c.state == JobState.IN_PROGRESS.value


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a Job may start, and the pause between.

    Attributes
    ----------
    pause_s
        Before the second start; doubled for each further one.
    """

    max_attempts: int
    pause_s: float

    def next_start(self, attempts: int, now: datetime) -> datetime | None:
        """Return when a Job may start again after `attempts` starts; None when it may not."""
        if attempts >= self.max_attempts:
            return None
        return now + timedelta(seconds=self.pause_s * 2 ** max(attempts - 1, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """A Job that waits for a worker to hear of it.

    Attributes
    ----------
    accepted_at
        Since when it waits.
    rung_at
        When the broker took its message; None where that is used up, or there was none. Before `accepted_at`: the Job
        has become more urgent since.
    """

    job_id: JobID
    pipeline: str
    priority: Priority
    accepted_at: datetime
    rung_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What a worker hands in when a Job is done.

    Attributes
    ----------
    notes
        Sentences of the report: what was not read, what limits the answer.
    seconds
        As `node.domain.work.sum_stages` takes them.
    threshold
        The certainty (0..1) from which a finding counts as present; None where none does.
    rejects_predecessor
        True when the Results that these supersede are to be taken back where they were delivered.
    layout
        How the networks were laid out, in words; empty where nothing was calibrated.
    """

    findings: Sequence[Mapping[str, Any]]
    seconds: Mapping[str, float]
    model_sha256: str
    results: Sequence[Result]
    notes: Sequence[str] = ()
    threshold: float | None = None
    rejects_predecessor: bool = False
    layout: str = ""


class JobLedger(Desk):
    """Jobs on their way from SCHEDULED to COMPLETED or CANCELED."""

    def bells_to_ring(self, now: datetime, *, rung_before: datetime, limit: int = 1000) -> tuple[Bell, ...]:
        """Return Jobs that may start and were not rung since `rung_before`; urgent first, then the oldest."""
        statement = (
            select(jobs.c.job_id, jobs.c.pipeline, jobs.c.priority, jobs.c.accepted_at, jobs.c.enqueued_at)
            .where(
                SCHEDULED,
                jobs.c.not_before <= now,
                or_(jobs.c.enqueued_at.is_(None), jobs.c.enqueued_at < rung_before),
            )
            .order_by(jobs.c.priority, jobs.c.accepted_at)
            .limit(limit)
        )
        with self.reading() as connection:
            found = connection.execute(statement)
            return tuple(
                Bell(
                    job_id=JobID(row.job_id),
                    pipeline=row.pipeline,
                    priority=Priority(row.priority),
                    accepted_at=row.accepted_at,
                    rung_at=row.enqueued_at,
                )
                for row in found
            )

    def usual_seconds(self, pipelines: Collection[str]) -> Mapping[str, float]:
        """Return how long each Pipeline took of late for one Job, seconds; it is absent where it has not run."""
        usual = {}
        with self.reading() as connection:
            for pipeline in pipelines:
                newest = (
                    select(jobs.c.seconds)
                    .where(jobs.c.pipeline == pipeline, jobs.c.state == JobState.COMPLETED.value)
                    .order_by(jobs.c.accepted_at.desc())
                    .limit(USUAL_OF)
                )
                # Not what it waited for others: it would seem to be long because they are.
                spent = [
                    sum(seconds for part, seconds in stages.items() if not part.endswith(TURN))
                    for stages in connection.execute(newest).scalars()
                ]
                if spent:
                    usual[pipeline] = median(spent)
        return usual

    def record_rung(self, job_ids: Sequence[JobID], now: datetime) -> None:
        """Commit that the broker has the messages of these Jobs at `now`.

        A Job whose message was used up meanwhile waits for a later time; it is rung again then.
        """
        due = (SCHEDULED, jobs.c.not_before <= now)
        with self.writing() as connection:
            connection.execute(update(jobs).where(jobs.c.job_id.in_(job_ids), *due).values(enqueued_at=now))

    def next_job_event_at(self) -> datetime | None:
        """Return when the next Job becomes due or the next lease runs out; None when nothing waits."""
        due = jobs.c.not_before.type
        waiting = select(func.min(jobs.c.not_before, type_=due)).where(SCHEDULED, jobs.c.enqueued_at.is_(None))
        leased = select(func.min(jobs.c.lease_expires_at, type_=due)).where(IN_PROGRESS)
        with self.reading() as connection:
            times = [connection.execute(statement).scalar_one() for statement in (waiting, leased)]
        return min((at for at in times if at is not None), default=None)

    def reap_expired(self, now: datetime, policy: RetryPolicy) -> tuple[JobID, ...]:
        """Take Jobs from workers that gave no sign until their lease ran out; returns them."""
        with self.writing() as connection:
            rows = connection.execute(select(jobs).where(IN_PROGRESS, jobs.c.lease_expires_at <= now)).mappings()
            expired = [to_job(row) for row in rows]
            for job in expired:
                text = f"worker {job.lease_owner} gave no sign until its lease ran out"
                _end_attempt(connection, job, policy, now=now, reason=("worker-lost", text))
            return tuple(job.job_id for job in expired)

    def claim_job(self, job_id: JobID, *, owner: str, lease_s: float, now: datetime) -> Job | None:
        """Make `owner` the only worker that may write to this Job; None when it is not to be had.

        One whose Pipeline is off is CANCELED.
        """
        with self.writing() as connection:
            row = connection.execute(
                update(jobs)
                .where(jobs.c.job_id == job_id, SCHEDULED, jobs.c.not_before <= now)
                .values(
                    state=JobState.IN_PROGRESS.value,
                    attempts=jobs.c.attempts + 1,
                    fence=jobs.c.fence + 1,
                    lease_owner=owner,
                    lease_expires_at=now + timedelta(seconds=lease_s),
                    enqueued_at=None,
                    # It reads what counts now.
                    outdated_at=None,
                    **without_waiting(),
                )
                .returning(jobs)
            ).mappings()
            claimed = [to_job(one) for one in row]
            if not claimed:
                # The message came too early, perhaps by this worker's clock only; it is used up, so another must ring.
                _forget_rung(connection, job_id)
                return None
            job = claimed[0]
            if end_where_off(connection, job, now=now):
                return None
            text = f"{job.order.pipeline} started, attempt {job.attempts}"
            tell(connection, job, now=now, kind="job-started", text=text)
            return job

    def next_scheduled(self, now: datetime) -> JobID | None:
        """Return the Job that should start next, for a worker that works without a broker."""
        found = self.bells_to_ring(now, rung_before=now + timedelta(days=1), limit=1)
        return found[0].job_id if found else None

    def renew_lease(self, job: Job, *, lease_s: float, now: datetime) -> None:
        """Give a sign of life.

        Raises
        ------
        LeaseLost
            If the Job was taken from this worker, canceled, or superseded.
        """
        with self.writing() as connection:
            changed = connection.execute(
                update(jobs).where(*_held(job)).values(lease_expires_at=now + timedelta(seconds=lease_s))
            )
            _require_held(changed.rowcount, job)

    def finish_job(
        self, job: Job, outcome: JobOutcome, *, now: datetime, shelve: Callable[[JobOrder], None] | None = None
    ) -> None:
        """Commit findings, Results, their Deliveries and COMPLETED in one transaction.

        Parameters
        ----------
        shelve
            Called in the transaction, with the order of the Job as it stands at its end, before anything is committed;
            what it raises undoes all. It is not called for a worker whose Job this is no longer.

        Raises
        ------
        LeaseLost
            If the Job is no longer this worker's; nothing is written.
        """
        with self.writing() as connection:
            changed = connection.execute(
                update(jobs)
                .where(*_held(job))
                .values(
                    state=JobState.COMPLETED.value,
                    findings=list(outcome.findings),
                    notes=list(outcome.notes),
                    threshold=outcome.threshold,
                    seconds=dict(outcome.seconds),
                    model_sha256=outcome.model_sha256,
                    reason_code=None,
                    reason_text=None,
                    lease_expires_at=None,
                    finished_at=now,
                )
            )
            _require_held(changed.rowcount, job)
            order = order_at_end(connection, job)
            if shelve is not None:
                shelve(order)
            for result in outcome.results:
                keep_result(connection, result, order, now=now)
            if outcome.rejects_predecessor and job.supersedes is not None and not order.is_shadow:
                retract_superseded(connection, job.supersedes, now=now)
            said = ", in shadow: they are not delivered" if order.is_shadow else ""
            said += f"; networks: {outcome.layout}" if outcome.layout else ""
            seen = count_presence(outcome.findings, Presence.PRESENT)
            text = f"findings: {seen}, Results: {len(outcome.results)}{said}"
            tell(connection, job, now=now, kind="job-completed", text=text)

    def refuse_job(self, job: Job, *, reason_code: str, reason_text: str, now: datetime) -> None:
        """Commit CANCELED for a Job that can never succeed on this content.

        Raises
        ------
        LeaseLost
            If the Job is no longer this worker's.
        """
        with self.writing() as connection:
            changed = connection.execute(
                update(jobs).where(*_held(job)).values(**canceled(reason_code, reason_text, now))
            )
            _require_held(changed.rowcount, job)
            tell(connection, job, now=now, kind="job-canceled", text=f"{reason_code}: {reason_text}")

    def fail_attempt(self, job: Job, policy: RetryPolicy, *, reason: tuple[str, str], now: datetime) -> None:
        """Commit a failed attempt: SCHEDULED again after a pause, or CANCELED when the attempts are used up.

        Raises
        ------
        LeaseLost
            If the Job is no longer this worker's.
        """
        with self.writing() as connection:
            _end_attempt(connection, job, policy, now=now, reason=reason)

    def give_back(self, job: Job, *, reason: tuple[str, str], now: datetime, pause_s: float = 0.0) -> None:
        """Commit SCHEDULED for a Job that its worker may not or cannot finish; the attempt does not count.

        Parameters
        ----------
        pause_s
            Before it may start again.

        Raises
        ------
        LeaseLost
            If the Job is no longer this worker's.
        """
        values = scheduled_again(reason, now + timedelta(seconds=pause_s))
        with self.writing() as connection:
            changed = connection.execute(
                update(jobs).where(*_held(job)).values(fence=jobs.c.fence + 1, attempts=jobs.c.attempts - 1, **values)
            )
            _require_held(changed.rowcount, job)
            code, text = reason
            # What was told the last time, too, is not told again.
            if code != job.reason_code:
                tell(connection, job, now=now, kind="job-given-back", text=f"{code}: {text}")

    def held_by(self, owner: str) -> tuple[Job, ...]:
        """Return the Jobs in the hands of every worker whose name begins with `owner`."""
        statement = select(jobs).where(IN_PROGRESS, jobs.c.lease_owner.startswith(owner, autoescape=True))
        with self.reading() as connection:
            return tuple(to_job(row) for row in connection.execute(statement).mappings())

    def forget_rung(self, job_id: JobID) -> None:
        """Commit that the message of a waiting Job is used up, so that it is rung again."""
        with self.writing() as connection:
            _forget_rung(connection, job_id)

    def input_instances(self, job: Job) -> Mapping[str, tuple[InstanceFacts, ...]]:
        """Return role to the Instances of its Series, as the ledger knows them now."""
        found: dict[str, tuple[InstanceFacts, ...]] = {}
        with self.reading() as connection:
            for role, uid in job.order.inputs.items():
                rows = connection.execute(select(instances).where(*_of_series(job.order.study_of(role), uid)))
                found[role] = tuple(to_instance(row) for row in rows.mappings())
        return found

    def results_of(self, job_id: JobID) -> tuple[Result, ...]:
        """Return the Results of a COMPLETED Job, oldest first."""
        with self.reading() as connection:
            rows = connection.execute(
                select(results).where(results.c.job_id == job_id).order_by(results.c.created_at)
            ).mappings()
            return tuple(to_result(row) for row in rows)


def _of_series(study: StudyUID, series: SeriesUID) -> tuple[Any, ...]:
    return instances.c.study_instance_uid == study, instances.c.series_instance_uid == series


def _held(job: Job) -> tuple[Any, ...]:
    return jobs.c.job_id == job.job_id, jobs.c.fence == job.fence, IN_PROGRESS


def _require_held(rowcount: int, job: Job) -> None:
    if rowcount == 0:
        raise LeaseLost(f"job {job.job_id}: fence {job.fence} is no longer the current one; nothing was written")


def _forget_rung(connection: Connection, job_id: JobID) -> None:
    connection.execute(update(jobs).where(jobs.c.job_id == job_id, SCHEDULED).values(enqueued_at=None))


def _end_attempt(
    connection: Connection, job: Job, policy: RetryPolicy, *, now: datetime, reason: tuple[str, str]
) -> None:
    code, text = reason
    again = policy.next_start(job.attempts, now)
    if again is None:
        values = canceled(code, f"{text}; {job.attempts} attempts are used up", now)
        kind = "job-canceled"
    else:
        values, kind = scheduled_again(reason, again), "job-attempt-failed"
    changed = connection.execute(update(jobs).where(*_held(job)).values(fence=jobs.c.fence + 1, **values))
    _require_held(changed.rowcount, job)
    tell(connection, job, now=now, kind=kind, text=f"{code}: {values['reason_text']}")
