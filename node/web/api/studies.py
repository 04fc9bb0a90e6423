"""Studies: listed and searched, told from the first Instance to the last Delivery, asked anew, given up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from node.audit.events import StudySubject, study_reprocessed
from node.domain.completeness import REFUSED, Told
from node.domain.decision import Decision, Outcome
from node.domain.imaging_order import KeptOrder, OrderOrigin, OrderState
from node.domain.job import Job, JobState
from node.domain.result import DeliveryState
from node.domain.retention import PurgeOrder
from node.domain.study import SeriesState
from node.domain.uids import StudyUID
from node.ledger.fates import tell_study
from node.ledger.interventions import Interventions
from node.ledger.listings import Listings, StudyFilter, StudyLine
from node.ledger.matching import Condition, read_condition
from node.ledger.views import StudyStory
from node.rules.explain import refusal_of
from node.site import build_gatekeeper
from node.version import product_version
from node.web.api.conduct import LINE, Deleter, Operator, Reader, StudyPath, new_router
from node.web.api.contract import told
from node.web.api.deliveries import DeliveryResource, to_delivery_resource
from node.web.api.events import EventResource, to_event_resource
from node.web.api.jobs import JobResource, ReasonResource, to_job_resource
from node.web.api.paging import Instant, Page, read_instant
from node.web.api.results import ResultResource, to_result_resource
from node.web.api.sheet import Taking, sheet_response, walk, wants_sheet
from node.web.rights import Right
from node.web.services import Services

ACCEPTED = 202
COLUMNS = (
    "study_instance_uid", "state", "patient_name", "patient_id", "accession_number", "study_date", "study_description",
    "modalities", "instances", "first_instance_at", "changed_at", "jobs", "deliveries",
)  # fmt: skip
# What is told of a Study beside its UID, and by which keyword the catalogue has it.
TOLD = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
}
# * and ? stand for what is not known, at most three of them *.
PATTERN = r"^([^*\x00-\x1f\x7f-\x9f]*\*){0,3}[^*\x00-\x1f\x7f-\x9f]*$"
Searched = Annotated[
    str | None, Query(description="* and ? stand for what is not known.", min_length=1, max_length=64, pattern=PATTERN)
]
Resource = TypeVar("Resource", "SeriesResource", "ClauseResource", "ExpectationResource")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInShort:
    """One Job of a Study in a list.

    Attributes
    ----------
    findings
        How many were seen; what was looked for in vain, or could not be decided, is none. Null where they were given up
        here with the Study.
    undetermined
        How many labels could not be decided; null as `findings`.
    outdated_at
        See `JobResource`.
    """

    job_id: str
    pipeline: str
    state: JobState
    reason_code: str | None
    findings: int | None
    undetermined: int | None
    outdated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInShort:
    """One Study in a list.

    Attributes
    ----------
    patient_name
        As its Instances say it (0010,0010); empty where they say nothing, or none is kept any more.
    study_date
        YYYYMMDD (0008,0020).
    instances
        Received and kept.
    deliveries
        State to number.
    """

    study_instance_uid: str
    state: SeriesState
    reason: str
    first_instance_at: datetime
    changed_at: datetime
    patient_name: str
    patient_id: str
    accession_number: str
    study_date: str
    study_description: str
    modalities: tuple[str, ...]
    instances: int
    jobs: tuple[JobInShort, ...]
    deliveries: Mapping[DeliveryState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """Studies, that which changed last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one. A page may be short, or empty, and have a next one.
    """

    items: tuple[StudyInShort, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesResource:
    """One Series of a Study.

    Attributes
    ----------
    reason
        Why it counts as complete.
    """

    series_instance_uid: str
    state: str
    reason: str
    instances: int
    modality: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationResource:
    """What somebody said of how much of a Study there is.

    Attributes
    ----------
    series_instance_uid
        Empty for what is about the Study as a whole.
    told
        How it was told: C-FIND, QIDO-RS, MPPS, or an Instance Availability Notification.
    source
        Name of the peer that was asked, or AE title that told by itself.
    expected
        Instances; null where no number was said.
    held
        Instances that were here then.
    is_final
        Whether it was said of a Procedure Step that is over.
    seen_at
        When it was said last, or asked for in vain.
    failure
        Code of the error for which the last question had no answer; empty for none.
    """

    series_instance_uid: str
    told: Told
    source: str
    expected: int | None
    held: int
    is_final: bool
    seen_at: datetime
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResource:
    """What a RIS or HIS asked for.

    Attributes
    ----------
    in_words
        The same, for people.
    priority
        Empty where it was not said.
    procedure_codes
        Each behind its Coding Scheme Designator.
    """

    order_id: int
    state: OrderState
    origin: OrderOrigin
    in_words: str
    priority: str
    accession_number: str
    placer_order_number: str
    filler_order_number: str
    procedure_codes: tuple[str, ...]
    procedure_text: str
    requested_by: str
    requesting_service: str
    scheduled_at: datetime | None
    received_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseResource:
    """One condition of a rule, as it was asked.

    Attributes
    ----------
    found
        What the Study says of it; identifying values only as present or absent.
    """

    text: str
    outcome: Outcome
    found: str
    series_instance_uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionResource:
    """What one rule concluded on a Study.

    Attributes
    ----------
    clause
        The clause that decided.
    found
        What the Study says of it; identifying values only as present or absent.
    inputs
        Role to Series Instance UID.
    trace
        Every clause that was asked, in order.
    """

    rule: str
    outcome: Outcome
    clause: str
    found: str
    reason: str
    inputs: Mapping[str, str]
    trace: tuple[ClauseResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOfStudy(JobResource):
    """A Job with its Results."""

    results: tuple[ResultResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResource:
    """One Study from its first Instance to its last Delivery; what report.json tells, and more.

    Attributes
    ----------
    radnode
        Version of the node that tells it.
    in_words
        What became of it so far, for people.
    expectations
        What is known of how much of it there is.
    orders
        What RIS and HIS asked for.
    refusal
        Why nothing ran; present exactly where jobs is empty and the rules were asked.
    """

    radnode: str
    study_instance_uid: str
    state: SeriesState
    reason: str
    in_words: str
    first_instance_at: datetime
    series: tuple[SeriesResource, ...]
    expectations: tuple[ExpectationResource, ...]
    orders: tuple[OrderResource, ...]
    decisions: tuple[DecisionResource, ...]
    jobs: tuple[JobOfStudy, ...]
    refusal: ReasonResource | None
    deliveries: tuple[DeliveryResource, ...]
    events: tuple[EventResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacles:
    """Whether a Study may go.

    Attributes
    ----------
    kept_by
        What keeps it, in words; empty where it may go.
    """

    study_instance_uid: str
    may_go: bool
    kept_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeResource:
    """A Study that goes; its files go within a minute, as soon as a node runs."""

    purge_id: str
    study_instance_uid: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """Which Studies are asked for."""

    state: Annotated[SeriesState | None, Query(description="Only in this state.")] = None
    modality: Annotated[
        str | None, Query(description="With a Series of this Modality.", max_length=16, pattern=LINE)
    ] = None
    pipeline: Annotated[str | None, Query(description="With a Job on this Pipeline.", max_length=64, pattern=LINE)] = (
        None
    )
    since: Instant = None
    until: Instant = None
    patient_id: Searched = None
    patient_name: Searched = None
    accession_number: Searched = None

    def as_filter(self) -> StudyFilter:
        """Return the same for the ledger."""
        return StudyFilter(
            state=self.state,
            modality=self.modality,
            pipeline=self.pipeline,
            since=read_instant(self.since, name="since"),
            until=read_instant(self.until, name="until"),
            patient=dict(self._conditions()),
        )

    def _conditions(self) -> Sequence[tuple[str, Condition]]:
        names = ("patient_id", "patient_name", "accession_number")
        asked = [(TOLD[name], value) for name in names if (value := getattr(self, name)) is not None]
        found = [(keyword, read_condition(keyword, [value])) for keyword, value in asked]
        return [(keyword, condition) for keyword, condition in found if condition is not None]


def router(services: Services) -> APIRouter:
    """Return what programs ask of Studies, and order."""
    routes = new_router("studies")
    _add_lists(routes, services)
    _add_orders(routes, services)
    return routes


def _add_lists(routes: APIRouter, services: Services) -> None:
    listings = Listings(services.engine)

    @routes.get("/studies", response_model=StudyPage, **told(Right.READ, 406, sheet=True))
    def list_studies(
        request: Request, reader: Reader, page: Page, query: Annotated[StudyQuery, Depends()]
    ) -> StudyPage | Response:
        """List Studies, that which changed last first.

        `since` and `until` are about the last change: who asks for what changed since the last time misses nothing.
        """
        asked = page.asked_for(datetime, str)
        wanted = query.as_filter()
        services.witnessing.searched(request, reader, tuple(wanted.patient))
        read = partial(listings.studies, wanted)
        if wants_sheet(request):
            taking = Taking(witnessing=services.witnessing, request=request, visitor=reader, name="studies")
            return sheet_response(COLUMNS, map(_cells, walk(read, asked, limit=page.limit)), taking)
        found = read(asked)
        items = tuple(map(_in_short, found.rows))
        return StudyPage(items=items, next=page.point_to_next(found))

    @routes.get("/studies/{study_instance_uid}", **told(Right.READ, 404))
    def get_study(request: Request, reader: Reader, study_instance_uid: StudyPath) -> StudyResource:
        """Tell of one Study: Series, Decisions, Jobs, Results, Deliveries, time line."""
        story = services.view.study_story(StudyUID(study_instance_uid))
        services.witnessing.saw(request, reader, study_instance_uid)
        return _to_resource(story)


def _add_orders(routes: APIRouter, services: Services) -> None:
    gate = build_gatekeeper(services.settings, services.engine)

    @routes.post("/studies/{study_instance_uid}/reprocess", **told(Right.OPERATE, 404, 409))
    def reprocess_study(operator: Operator, study_instance_uid: StudyPath) -> StudyResource:
        """Ask every rule again, with the models installed now; what another model answered is replaced."""
        uid = StudyUID(study_instance_uid)
        Interventions(services.engine).reprocess(uid, ordered_by=operator.name, now=services.clock())
        subject = StudySubject(study_instance_uid=uid, patient_id=services.view.patient_id(uid))
        services.record(study_reprocessed(subject, account=operator.name))
        return _to_resource(services.view.study_story(uid))

    @routes.get("/studies/{study_instance_uid}/obstacles", **told(Right.DELETE, 404))
    def get_obstacles(
        request: Request,
        deleter: Deleter,
        study_instance_uid: StudyPath,
        *,
        anyway: Annotated[bool, Query(description="As DELETE has it.")] = False,
    ) -> Obstacles:
        """Tell what keeps a Study; nothing is removed."""
        order = PurgeOrder(
            study_instance_uid=StudyUID(study_instance_uid), ordered_by=deleter.name, reason="", is_forced=anyway
        )
        kept_by = gate.obstacles(order, services.clock())
        services.witnessing.saw(request, deleter, study_instance_uid)
        return Obstacles(study_instance_uid=study_instance_uid, may_go=not kept_by, kept_by=kept_by)

    @routes.delete("/studies/{study_instance_uid}", status_code=ACCEPTED, **told(Right.DELETE, 404, 409))
    def purge_study(
        deleter: Deleter,
        study_instance_uid: StudyPath,
        reason: Annotated[
            str, Query(description="Why; no patient's name.", min_length=1, max_length=200, pattern=LINE)
        ],
        *,
        anyway: Annotated[
            bool, Query(description="Also what nobody else may have; never what comes, waits or runs.")
        ] = False,
    ) -> PurgeResource:
        """Remove a Study and its Results from the node; what Destinations hold is not touched.

        Who ordered it, and why, is in its time line and in the audit trail.
        """
        order = PurgeOrder(
            study_instance_uid=StudyUID(study_instance_uid), ordered_by=deleter.name, reason=reason, is_forced=anyway
        )
        purge = gate.order(order, services.clock())
        return PurgeResource(
            purge_id=purge.purge_id,
            study_instance_uid=study_instance_uid,
            files=sum(purge.sop_classes.values()),
            size_bytes=purge.size_bytes,
        )


def _in_short(line: StudyLine) -> StudyInShort:
    kept = ("study_instance_uid", "state", "reason", "first_instance_at", "changed_at", "modalities", "instances")
    known: dict[str, Any] = {name: str(line.attributes.get(keyword) or "") for name, keyword in TOLD.items()}
    known.update({name: getattr(line, name) for name in kept})
    return StudyInShort(jobs=tuple(map(_job_in_short, line.jobs)), deliveries=line.deliveries, **known)


def _job_in_short(job: Job) -> JobInShort:
    return JobInShort(
        job_id=job.job_id,
        pipeline=job.order.pipeline,
        state=job.state,
        reason_code=job.reason_code,
        findings=job.seen,
        undetermined=job.undetermined,
        outdated_at=job.outdated_at,
    )


def _cells(line: StudyLine) -> Sequence[object]:
    told_study = _in_short(line)
    known = {
        "state": line.state.value,
        "modalities": " ".join(line.modalities),
        "first_instance_at": line.first_instance_at.isoformat(),
        "changed_at": line.changed_at.isoformat(),
        "jobs": "; ".join(f"{job.pipeline} {job.state.value}" for job in told_study.jobs),
        "deliveries": "; ".join(f"{count} {state.value}" for state, count in line.deliveries.items()),
    }
    return [known[name] if name in known else getattr(told_study, name) for name in COLUMNS]


def _to_resource(story: StudyStory) -> StudyResource:
    results: dict[str, list[ResultResource]] = defaultdict(list)
    for result in story.results:
        results[result.job_id].append(to_result_resource(result))
    refusal = None if story.jobs else _refusal_of(story)
    return StudyResource(
        radnode=product_version(),
        study_instance_uid=story.study_instance_uid,
        state=SeriesState(story.state),
        reason=story.reason,
        in_words=tell_study(story),
        first_instance_at=story.first_instance_at,
        series=tuple(_copy(SeriesResource, one) for one in story.series),
        expectations=tuple(_copy(ExpectationResource, one) for one in story.statements),
        orders=tuple(map(_to_order_resource, story.orders)),
        decisions=tuple(map(to_decision_resource, story.decisions)),
        jobs=tuple(
            JobOfStudy(**_fields(to_job_resource(job)), results=tuple(results[job.job_id])) for job in story.jobs
        ),
        refusal=None if refusal is None else ReasonResource(**refusal),
        deliveries=tuple(map(to_delivery_resource, story.deliveries)),
        events=tuple(map(to_event_resource, story.events)),
    )


def _to_order_resource(order: KeptOrder) -> OrderResource:
    same = {member.name for member in fields(OrderResource)} - {"in_words", "priority"}
    urgency = "" if order.priority is None else order.priority.word
    return OrderResource(**{name: getattr(order, name) for name in same}, in_words=order.words, priority=urgency)


def _refusal_of(story: StudyStory) -> Mapping[str, str] | None:
    if story.reason.startswith(REFUSED):
        return {"code": "study-incomplete", "text": story.reason.removeprefix(REFUSED)}
    return refusal_of(story.decisions) if story.decisions else None


def to_decision_resource(decision: Decision) -> DecisionResource:
    """Return what is told of a Decision."""
    kept = [name for name in DecisionResource.__slots__ if name != "trace"]
    return DecisionResource(
        trace=tuple(_copy(ClauseResource, clause) for clause in decision.trace),
        **{name: getattr(decision, name) for name in kept},
    )


def _fields(resource: JobResource) -> dict[str, Any]:
    return {name: getattr(resource, name) for name in JobResource.__slots__}


def _copy(kind: type[Resource], told_of: object) -> Resource:
    """Return a resource whose members are attributes of what it tells of."""
    return kind(**{member.name: getattr(told_of, member.name) for member in fields(kind)})
