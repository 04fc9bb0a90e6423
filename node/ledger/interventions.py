"""What becomes of Jobs by other hands than a worker's: a person's orders, and a model that was replaced."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from node.domain.job import LIVE_STATES, Job, JobID, JobState
from node.domain.model_version import ModelVersion
from node.domain.study import SeriesState
from node.domain.switch import Mode
from node.domain.uids import StudyUID
from node.errors import NotFound, WrongState
from node.ledger.engine import Desk
from node.ledger.placement import WITH_FATE
from node.ledger.prior_marks import REPROCESSED
from node.ledger.rows import add_event, to_job
from node.ledger.schema import jobs, studies
from node.ledger.switches import mode_of
from node.ledger.transitions import canceled, scheduled_again, tell

SUPERSEDED = "superseded"
# Raises where a Job is not what whoever gives the order takes it for.
Require = Callable[[Job], None]


class Interventions(Desk):
    """Jobs that are canceled, tried again, or asked of another model."""

    def cancel_job(
        self, job_id: JobID, *, ordered_by: str, reason: str = "", now: datetime, require: Require | None = None
    ) -> None:
        """Commit CANCELED for a Job that waits or runs; a worker that runs it may no longer write.

        Parameters
        ----------
        require
            Called with the Job in the transaction; what it raises undoes the order.

        Raises
        ------
        NotFound
            If the Job is unknown.
        WrongState
            If it has ended.
        """
        with self.writing() as connection:
            job = _find(connection, job_id, require)
            if job.state not in LIVE_STATES:
                raise WrongState(
                    f"job {job_id} is {job.state.value}; only a Job that waits or runs is canceled. "
                    "`radnode results retract` takes back what was answered"
                )
            text = f"canceled by {ordered_by}" + (f": {reason}" if reason else "")
            _move(connection, job, canceled("canceled-by-hand", text, now))
            tell(connection, job, now=now, kind="job-canceled", text=f"canceled-by-hand: {text}")

    def retry_job(
        self,
        job_id: JobID,
        *,
        ordered_by: str,
        installed: ModelVersion | None = None,
        now: datetime,
        require: Require | None = None,
    ) -> None:
        """Commit SCHEDULED for a Job that is not COMPLETED, with all its attempts, to start at once.

        A Job that runs is taken from its worker. It is in shadow where its Pipeline is now.

        Parameters
        ----------
        installed
            The model that answers now; None: the one that the Job was ordered on.
        require
            Called with the Job in the transaction; what it raises undoes the order.

        Raises
        ------
        NotFound
            If the Job is unknown.
        WrongState
            If it is COMPLETED, another Job has taken its place, or its Pipeline is switched off.
        """
        with self.writing() as connection:
            job = _find(connection, job_id, require)
            if job.state is JobState.COMPLETED or job.reason_code == SUPERSEDED:
                what = "COMPLETED; its answer stands" if job.state is JobState.COMPLETED else "superseded"
                raise WrongState(f"job {job_id} is {what}; see `radnode studies show {job.order.study_instance_uid}`")
            mode = mode_of(connection, job.order.pipeline)
            if mode is Mode.OFF:
                raise WrongState(
                    f"job {job_id}: pipeline {job.order.pipeline} is switched off; see `radnode pipelines list`"
                )
            model = installed or _model_of(job)
            twin = _find_twin(connection, job, model)
            if twin is not None:
                raise WrongState(f"job {job_id}: job {twin} asks the same of {model}; see `radnode jobs show {twin}`")
            in_shadow = mode is Mode.SHADOW
            _move(connection, job, {**scheduled_again(None, now), **_asking(model), "is_shadow": in_shadow})
            text = f"tried again by {ordered_by}" + ("" if model == _model_of(job) else f", asking {model}")
            text += ", in shadow" * in_shadow
            tell(connection, job, now=now, kind="job-scheduled", text=text)

    def reprocess(self, study_instance_uid: StudyUID, *, ordered_by: str, now: datetime) -> None:
        """Commit SETTLED for a Study that was ROUTED: routing asks every rule again, with the models it has then.

        A question that was put to the same model before keeps its answer; where model or version differ, or an Instance
        that was read came again with other content, there is a new Job, and its Results take the place of the old ones.

        Raises
        ------
        NotFound
            If the Study is unknown.
        WrongState
            If it is in no state in which its rules were asked.
        """
        this = studies.c.study_instance_uid == study_instance_uid
        routed, settled = SeriesState.ROUTED.value, SeriesState.SETTLED.value
        with self.writing() as connection:
            state = connection.execute(select(studies.c.state).where(this)).scalar_one_or_none()
            if state is None:
                raise NotFound(f"study {study_instance_uid} is not in the ledger; see `radnode studies list`")
            if state != routed:
                why = {
                    SeriesState.PURGED.value: "its Instances are not kept any more; send it again",
                    settled: "its rules are asked in a moment anyway",
                }.get(state, "its rules are asked when it is complete")
                raise WrongState(f"study {study_instance_uid} is {state}: {why}")
            # Decisions are about one revision: the new ones take the place of the old ones.
            values = {"state": settled, "revision": studies.c.revision + 1, "changed_at": now}
            connection.execute(update(studies).where(this).values(values))
            text = f"{ordered_by} lets the rules be asked again"
            add_event(connection, at=now, kind=REPROCESSED, text=text, study_instance_uid=study_instance_uid)

    def adopt_models(self, installed: Mapping[str, ModelVersion], *, now: datetime) -> tuple[JobID, ...]:
        """Ask waiting Jobs of the models that are installed, where they were ordered on others; returns those Jobs.

        Parameters
        ----------
        installed
            Name of a Pipeline to the model that it has now.
        """
        others = [
            and_(
                jobs.c.pipeline == name,
                or_(jobs.c.model != model.name, jobs.c.model_version != model.version),
            )
            for name, model in installed.items()
        ]
        if not others:
            return ()
        outdated = select(jobs).where(jobs.c.state == JobState.SCHEDULED.value, or_(*others))
        with self.reading() as connection:
            # Most of the time there is none, and whoever writes has to wait for a turn.
            if connection.execute(outdated.limit(1)).first() is None:
                return ()
        with self.writing() as connection:
            found = [to_job(row) for row in connection.execute(outdated).mappings()]
            for job in found:
                _adopt_model(connection, job, installed[job.order.pipeline], now=now)
            return tuple(job.job_id for job in found)


def _adopt_model(connection: Connection, job: Job, model: ModelVersion, *, now: datetime) -> None:
    twin = _find_twin(connection, job, model)
    if twin is not None:
        text = f"job {twin} asks the same of {model}, which is installed now"
        _move(connection, job, canceled(SUPERSEDED, text, now))
        tell(connection, job, now=now, kind="job-canceled", text=f"{SUPERSEDED}: {text}")
        return
    _move(connection, job, {**scheduled_again(None, now), **_asking(model)})
    text = f"ordered on {_model_of(job)}; {model} is installed now and will answer"
    tell(connection, job, now=now, kind="job-reordered", text=text)


def _find(connection: Connection, job_id: JobID, require: Require | None = None) -> Job:
    row = connection.execute(WITH_FATE.where(jobs.c.job_id == job_id)).mappings().first()
    if row is None:
        raise NotFound(f"job {job_id} is not in the ledger; see `radnode jobs list`")
    job = to_job(row)
    if require is not None:
        require(job)
    return job


def _move(connection: Connection, job: Job, values: Mapping[str, Any]) -> None:
    # The new fence shuts out whoever still works on it.
    connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(fence=jobs.c.fence + 1, **values))


def _asking(model: ModelVersion) -> Mapping[str, Any]:
    return {"model": model.name, "model_version": model.version, "attempts": 0}


def _model_of(job: Job) -> ModelVersion:
    return ModelVersion(name=job.order.model, version=job.order.model_version)


def _find_twin(connection: Connection, job: Job, model: ModelVersion) -> JobID | None:
    """Return the other Job that asks the question of `job` of `model`."""
    found = connection.execute(
        select(jobs.c.job_id).where(
            jobs.c.job_id != job.job_id,
            jobs.c.study_instance_uid == job.order.study_instance_uid,
            jobs.c.pipeline == job.order.pipeline,
            jobs.c.model == model.name,
            jobs.c.model_version == model.version,
            jobs.c.content == job.order.content,
        )
    ).scalar_one_or_none()
    return None if found is None else JobID(found)
