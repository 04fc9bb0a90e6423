"""Jobs: listed, told, tried again, canceled."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response

from node.domain.job import Job, JobID, JobState
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.fhir.diagnostic_report import build_bundle
from node.ledger.fates import GIVEN_UP, tell_job
from node.ledger.interventions import Interventions, Require
from node.ledger.jobs import JobLedger
from node.ledger.listings import JobFilter, Listings
from node.ledger.studies import StudyLedger
from node.site import installed_model
from node.web.api.conduct import LINE, UID, JobPath, Operator, Reader, new_router, require_match, tag_of
from node.web.api.contract import told
from node.web.api.events import EventResource, to_event_resource
from node.web.api.paging import Instant, Page, read_instant
from node.web.api.sheet import Taking, sheet_response, walk, wants_sheet
from node.web.rights import Right
from node.web.services import Services

COLUMNS = (
    "job_id", "study_instance_uid", "pipeline", "model", "model_version", "state", "priority", "accepted_at",
    "finished_at", "attempts", "findings", "reason_code", "in_words",
    "undetermined", "outdated_at",
)  # fmt: skip
FHIR_JSON = "application/fhir+json"
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="`ETag` of the thing as it was looked at; 412 where it has changed since."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonResource:
    """Why something ended, or did not begin.

    Attributes
    ----------
    code
        Stable; see docs/errors.md.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringModel:
    """The model that answers, or answered.

    Attributes
    ----------
    weights_sha256
        Of the weights that answered; null where none did.
    """

    name: str
    version: str
    weights_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResource:
    """One Pipeline on the Series that it needs of one Study.

    Attributes
    ----------
    state
        PS3.4 CC.1.1.
    in_words
        What became of it so far, for people.
    priority
        stat, high, routine or low.
    inputs
        Role to Series Instance UID.
    reason
        Why it was CANCELED, or why the last attempt failed.
    seconds, stages
        By stage, and by the parts of each stage, which add up to it; an answer of an earlier version has no parts.
    findings
        What the model saw, in DICOM patient coordinates (LPS) and mm; see docs/report.schema.json. Null where it was
        given up here with the Study: then nobody knows here any more whether there were any.
    notes
        What was not read, what limits the answer.
    supersedes
        The Job whose answer this one replaces.
    outdated_at
        When an Instance that it has read came again and said something else; null while it read what counts.
    is_shadow
        Whether the answer is kept and shown, and goes nowhere.
    fhir
        Where the answer can be had as FHIR Bundle; null where there is none.
    """

    job_id: str
    study_instance_uid: str
    pipeline: str
    model: AnsweringModel
    state: JobState
    in_words: str
    priority: str
    rule: str
    inputs: Mapping[str, str]
    deliver_to: tuple[str, ...]
    is_shadow: bool
    accepted_at: datetime
    finished_at: datetime | None
    attempts: int
    worker: str | None
    reason: ReasonResource | None
    seconds: Mapping[str, float]
    stages: Mapping[str, Mapping[str, float]]
    findings: tuple[Mapping[str, Any], ...] | None
    notes: tuple[str, ...]
    supersedes: str | None
    outdated_at: datetime | None
    fhir: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Jobs, that which was accepted last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[JobResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """What happened, in its order."""

    items: tuple[EventResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Why a Job is canceled.

    Attributes
    ----------
    reason
        For whoever asks later; no patient's name.
    """

    reason: Annotated[str, Body(max_length=200, pattern=LINE)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which Jobs are asked for."""

    state: Annotated[JobState | None, Query(description="Only in this state.")] = None
    pipeline: Annotated[str | None, Query(description="Only on this Pipeline.", max_length=64, pattern=LINE)] = None
    study: Annotated[str | None, Query(description="Only of this Study.", max_length=64, pattern=UID)] = None
    since: Instant = None
    until: Instant = None

    def as_filter(self) -> JobFilter:
        """Return the same for the ledger."""
        return JobFilter(
            state=self.state,
            pipeline=self.pipeline,
            study=None if self.study is None else StudyUID(self.study),
            since=read_instant(self.since, name="since"),
            until=read_instant(self.until, name="until"),
        )


def router(services: Services) -> APIRouter:
    """Return what programs ask of Jobs, and order."""
    routes, jobs = new_router("jobs"), _Jobs(services)
    _add_views(routes, services, jobs)
    _add_orders(routes, services, jobs)
    return routes


def _add_views(routes: APIRouter, services: Services, jobs: "_Jobs") -> None:
    @routes.get("/jobs", response_model=JobPage, **told(Right.READ, 406, sheet=True))
    def list_jobs(
        request: Request, reader: Reader, page: Page, query: Annotated[JobQuery, Depends()]
    ) -> JobPage | Response:
        """List Jobs, that which was accepted last first."""
        asked = page.asked_for(datetime, str)
        services.witnessing.searched(request, reader, () if query.study is None else ("StudyInstanceUID",))
        read = partial(jobs.listings.jobs, query.as_filter())
        if wants_sheet(request):
            taking = Taking(witnessing=services.witnessing, request=request, visitor=reader, name="jobs")
            return sheet_response(COLUMNS, map(_cells, walk(read, asked, limit=page.limit)), taking)
        found = read(asked)
        services.witnessing.saw_each(request, reader, (job.order.study_instance_uid for job in found.rows))
        items = tuple(map(to_job_resource, found.rows))
        return JobPage(items=items, next=page.point_to_next(found))

    @routes.get("/jobs/{job_id}", **told(Right.READ, 404))
    def get_job(request: Request, response: Response, reader: Reader, job_id: JobPath) -> JobResource:
        """Tell of one Job."""
        job = to_job_resource(services.view.find_job(JobID(job_id)))
        services.witnessing.saw(request, reader, job.study_instance_uid)
        response.headers["ETag"] = tag_of(job)
        return job

    @routes.get("/jobs/{job_id}/events", **told(Right.READ, 404))
    def list_job_events(request: Request, reader: Reader, job_id: JobPath) -> TimeLine:
        """Tell what happened to one Job, and to its Results on their way."""
        job = services.view.find_job(JobID(job_id))
        services.witnessing.saw(request, reader, job.order.study_instance_uid)
        told_events = services.view.job_events(job)
        return TimeLine(items=tuple(map(to_event_resource, told_events)))

    @routes.get("/jobs/{job_id}/fhir", response_class=Response, **told(Right.READ, 404, media_type=FHIR_JSON))
    def get_job_as_fhir(request: Request, reader: Reader, job_id: JobPath) -> Response:
        """Tell the answer of one Job as FHIR R4 Bundle."""
        job = services.view.find_job(JobID(job_id))
        bundle = jobs.write_fhir(job)
        services.witnessing.saw(request, reader, job.order.study_instance_uid)
        return Response(bundle, media_type=FHIR_JSON)


def _add_orders(routes: APIRouter, services: Services, jobs: "_Jobs") -> None:
    @routes.post("/jobs/{job_id}/retry", **told(Right.OPERATE, 404, 409, 412))
    def retry_job(request: Request, operator: Operator, job_id: JobPath, if_match: IfMatch = None) -> JobResource:
        """Start a Job anew that was canceled, waits or hangs, with all its attempts and the model installed now."""
        job = jobs.retry(JobID(job_id), operator.name, _require(if_match))
        services.witnessing.saw(request, operator, job.study_instance_uid)
        return job

    @routes.post("/jobs/{job_id}/cancel", **told(Right.OPERATE, 404, 409, 412))
    def cancel_job(
        request: Request,
        operator: Operator,
        job_id: JobPath,
        order: CancelOrder | None = None,
        if_match: IfMatch = None,
    ) -> JobResource:
        """Cancel a Job that waits or runs; what a worker still answers is dropped."""
        job = jobs.cancel(JobID(job_id), operator.name, order or CancelOrder(), _require(if_match))
        services.witnessing.saw(request, operator, job.study_instance_uid)
        return job


class _Jobs:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._interventions = Interventions(services.engine)
        self.listings = Listings(services.engine)

    def retry(self, job_id: JobID, name: str, require: Require) -> JobResource:
        """Return the Job after it is scheduled again."""
        pipeline = self._services.view.find_job(job_id).order.pipeline
        installed = installed_model(self._services.settings, pipeline)
        now = self._services.clock()
        self._interventions.retry_job(job_id, ordered_by=name, installed=installed, now=now, require=require)
        return to_job_resource(self._services.view.find_job(job_id))

    def cancel(self, job_id: JobID, name: str, order: CancelOrder, require: Require) -> JobResource:
        """Return the Job after it is canceled."""
        now = self._services.clock()
        self._interventions.cancel_job(job_id, ordered_by=name, reason=order.reason, now=now, require=require)
        return to_job_resource(self._services.view.find_job(job_id))

    def write_fhir(self, job: Job) -> bytes:
        """Return the Bundle of an answer."""
        if job.state is not JobState.COMPLETED:
            raise NotFound(f"job {job.job_id} is {job.state.value}; only a COMPLETED one has an answer")
        if job.is_given_up:
            raise NotFound(f"job {job.job_id}: {GIVEN_UP}")
        study = StudyLedger(self._services.engine).study_facts(job.order.study_instance_uid)
        standing = [
            result
            for result in JobLedger(self._services.engine).results_of(job.job_id)
            if not result.is_substitute and result.retracted_at is None
        ]
        return json.dumps(build_bundle(study, job, standing), ensure_ascii=False).encode("utf-8", "replace")


def to_job_resource(job: Job) -> JobResource:
    """Return what is told of a Job; the same as long as nobody could see a difference."""
    order = job.order
    kept = ("accepted_at", "finished_at", "attempts", "seconds", "stages", "notes", "supersedes", "outdated_at")
    has_answer = job.state is JobState.COMPLETED and not job.is_given_up
    reason = None if job.reason_code is None else ReasonResource(code=job.reason_code, text=job.reason_text or "")
    return JobResource(
        job_id=job.job_id,
        study_instance_uid=order.study_instance_uid,
        pipeline=order.pipeline,
        model=AnsweringModel(name=order.model, version=order.model_version, weights_sha256=job.model_sha256),
        state=job.state,
        in_words=tell_job(job),
        priority=order.priority.word,
        rule=order.rule,
        inputs=order.inputs,
        deliver_to=order.deliver_to,
        is_shadow=order.is_shadow,
        worker=job.lease_owner,
        reason=reason,
        findings=None if job.is_given_up else job.findings,
        fhir=f"/api/v1/jobs/{job.job_id}/fhir" if has_answer else None,
        **{name: getattr(job, name) for name in kept},
    )


def _require(if_match: str | None) -> Require:
    def require(job: Job) -> None:
        require_match(if_match, tag_of(to_job_resource(job)))

    return require


def _cells(job: Job) -> Sequence[object]:
    told_job = to_job_resource(job)
    known = {
        "model": job.order.model,
        "model_version": job.order.model_version,
        "accepted_at": job.accepted_at.isoformat(),
        "finished_at": None if job.finished_at is None else job.finished_at.isoformat(),
        "findings": job.seen,
        "undetermined": job.undetermined,
        "outdated_at": None if job.outdated_at is None else job.outdated_at.isoformat(),
        "reason_code": job.reason_code,
        "state": job.state.value,
    }
    return [known[name] if name in known else getattr(told_job, name) for name in COLUMNS]
