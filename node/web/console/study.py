"""The page of a Study: what the AI saw, why it ran or did not, where Results are, how long each stage took."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from node.domain.capability import name_kind
from node.domain.decision import Outcome
from node.domain.job import Job, JobState
from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.domain.review import Instead
from node.domain.study import Attributes
from node.domain.uids import InstanceUID, StudyUID
from node.errors import Misconfigured, NotFound
from node.ledger.closeups import CloseupLedger
from node.ledger.fates import GIVEN_UP, SUPERSEDED, tell_delivery, tell_job, tell_outdated, tell_study
from node.ledger.retractions import RetractionLedger
from node.ledger.reviews import ReviewLedger
from node.ledger.views import Event, StudyStory
from node.rules.rule import Rule
from node.site import find_models, read_rules
from node.viewer.address import viewer_url
from node.web.api.conduct import ObjectPath, StudyPath
from node.web.console.answers import FindingLine, list_findings, read_findings, tell_answer
from node.web.console.page import Pages
from node.web.console.slices import Outlines, Stack, describe, picture_url, stack_of, stack_under
from node.web.console.timeline import draw_time_line, settled_before
from node.web.console.why import Why, explain
from node.web.payload import is_known, not_modified, tag_of
from node.web.places import DICOM_WEB
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services
from node.wording import calendar_date, patient_age, person_name, sentence

ENDED = frozenset({JobState.COMPLETED, JobState.CANCELED})
# Deliveries that a person may have sent again.
FAILED = frozenset({DeliveryState.PENDING, DeliveryState.REFUSED, DeliveryState.LOST})
TIME_DIGITS = 4
CHIPS = {DeliveryState.PENDING: "waiting", DeliveryState.LOST: "warning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one Job found, as the page shows it.

    Attributes
    ----------
    outdated
        That it is of an earlier version of an Instance, in words; empty where it is not.
    stack
        Slices that can be scrolled through; None where there is only the summary picture, or nothing.
    outlines_url, picture_url
        Where the script gets slices and outlines; the summary picture. Empty where there is none.
    """

    job: Job
    outdated: str
    headline: str
    findings: tuple[FindingLine, ...]
    results: tuple[Result, ...]
    stack: Stack | None
    outlines_url: str
    slice_url: str
    picture_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One Job with its history."""

    job: Job
    words: str
    events: tuple[Event, ...]
    can_retry: bool
    can_cancel: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLine:
    """One Delivery in words."""

    delivery: Delivery
    kind: str
    chip: str
    words: str
    can_retry: bool


def router(services: Services) -> APIRouter:
    """Return the page of a Study, and what its script asks for."""
    routes, pages = APIRouter(), Pages(services)
    scribe, outlines = Scribe(services), Outlines(services.pixels)
    read = authorize(Right.READ)

    @routes.get("/studies/{study}")
    def page(request: Request, study: StudyPath, visitor: Annotated[Visitor, Depends(read)]) -> Response:
        values = scribe.describe(StudyUID(study))
        services.witnessing.saw(request, visitor, study)
        return pages.render(request, visitor, "study.html", **values)

    @routes.get("/studies/{study}/outlines/{instance}")
    def outlines_of(
        request: Request, study: StudyPath, instance: ObjectPath, visitor: Annotated[Visitor, Depends(read)]
    ) -> Response:
        line = services.view.find_result(InstanceUID(instance))
        result = line.result
        is_there = result.study_instance_uid == study and result.retracted_at is None and result.purged_at is None
        if result.kind is not ResultKind.SEG or not is_there:
            raise NotFound(f"result {instance} is no SEG that stands in study {study}")
        services.witnessing.saw(request, visitor, study)
        tag = tag_of(result.sha256, "outlines")
        if is_known(request, tag):
            return not_modified(tag)
        job = services.view.find_job(result.job_id)
        told = outlines.read(result, str(services.store.path(result.path)))
        stack = stack_under(CloseupLedger(services.engine), job, told)
        content = describe(study, stack, told, _numbers(job))
        return JSONResponse(content, headers={"ETag": tag, "Cache-Control": "private, no-cache"})

    return routes


class Scribe:
    """Gathers what the page of a Study says."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._closeups = CloseupLedger(services.engine)
        self._reviews = ReviewLedger(services.engine)
        self._retractions = RetractionLedger(services.engine)
        # Settings are frozen; to look into every model takes as long as the rest of the page.
        self._rules = cache(self._read_rules)

    def describe(self, uid: StudyUID) -> Mapping[str, Any]:
        """Return the values of the template.

        Raises
        ------
        NotFound
            If the Study is unknown.
        """
        story = self._services.view.study_story(uid)
        counted, shadows = _apart(story.jobs)
        shown = _last_answers(counted)
        main = _main_job(counted, shown)
        answers = [*self._answers(story, shown), *self._answers(story, _last_answers(shadows))]
        arrival = self._closeups.arrival_of(uid, before=settled_before(story, main))
        whys = explain(story.decisions, partial(_clauses_of, self._rules()))
        return {
            "story": story,
            "viewer_url": viewer_url(uid),
            "head": _head(self._closeups.attributes_of(uid), story),
            "priority": min((job.order.priority for job in counted), default=None),
            "nothing": _why_nothing(story, whys),
            "timeline": draw_time_line(story, arrival, main, now=self._services.clock()),
            "answers": answers,
            "answers_state": _state_of(answers),
            "whys": whys,
            "outcomes": {outcome.value: sum(w.decision.outcome is outcome for w in whys) for outcome in Outcome},
            "jobs": [_job_line(job, story) for job in reversed(story.jobs)],
            "deliveries": [_delivery_line(one, story) for one in story.deliveries],
            "instead": [one.value for one in Instead if one is not Instead.SAME],
            "retractable": [job for job in counted if _standing(job, story)],
        }

    def _answers(self, story: StudyStory, shown: Sequence[Job]) -> list[Answer]:
        reviews = self._reviews.reviews_of([job.job_id for job in shown])
        return [
            self._answer(job, story, {number: given for (of, number), given in reviews.items() if of == job.job_id})
            for job in shown
        ]

    def _answer(self, job: Job, story: StudyStory, reviews: Mapping[int, Any]) -> Answer:
        uid, findings = story.study_instance_uid, read_findings(job)
        standing, struck = _standing(job, story), self._retractions.struck_labels(job.job_id)
        by_kind = {result.kind: result for result in standing}
        seg, picture = by_kind.get(ResultKind.SEG), by_kind.get(ResultKind.SC)
        stack = stack_of(self._closeups, job) if seg is not None else None
        return Answer(
            job=job,
            outdated=tell_outdated(job),
            headline=_headline(job, struck),
            findings=list_findings(findings, reviews, struck=struck),
            results=standing,
            stack=stack,
            outlines_url=f"/studies/{uid}/outlines/{seg.sop_instance_uid}" if seg is not None and stack else "",
            slice_url=picture_url(uid, stack, stack.first) if stack else "",
            picture_url=_rendered(picture) if picture is not None else "",
        )

    def _read_rules(self) -> Mapping[str, Rule]:
        settings = self._services.settings
        try:
            return {rule.name: rule for rule in read_rules(settings, find_models(settings))}
        except Misconfigured:
            # The node would not start like this; what it decided before is told all the same.
            return {}


def _clauses_of(rules: Mapping[str, Rule], name: str) -> Sequence[str]:
    return [part.text for part in rules[name].when.parts] if name in rules else ()


def _numbers(job: Job) -> Mapping[int, int]:
    """Return Segment Number to number of the finding."""
    return {
        int(entry["segment_number"]): number
        for number, entry in enumerate(job.findings, start=1)
        if entry["segment_number"] is not None
    }


def _apart(jobs: Sequence[Job]) -> tuple[Sequence[Job], Sequence[Job]]:
    """Return the Jobs that speak for a Study, and those in shadow: their answers are shown, and count for nothing."""
    return [job for job in jobs if not job.order.is_shadow], [job for job in jobs if job.order.is_shadow]


def _last_answers(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return the last Job of each Pipeline that has answered, of Jobs in the order in which they were accepted."""
    return list({job.order.pipeline: job for job in jobs if job.state is JobState.COMPLETED}.values())


def _main_job(counted: Sequence[Job], shown: Sequence[Job]) -> Job | None:
    """Return the Job whose way the time line shows: one that runs, else the last that answered, else the last."""
    live = [job for job in counted if job.state not in ENDED]
    return next(iter((*live, *reversed(shown), *reversed(counted))), None)


def _state_of(answers: Sequence[Answer]) -> str:
    """Return what is another one as soon as an answer comes, goes, or is another: a page that is open shows a bar."""
    told = [
        (
            one.job.job_id,
            one.job.order.is_shadow,
            one.headline,
            one.outdated,
            [result.sop_instance_uid for result in one.results],
        )
        for one in answers
    ]
    return sha256(json.dumps(told).encode()).hexdigest()[:16]


def _standing(job: Job, story: StudyStory) -> tuple[Result, ...]:
    """Return the Results of a Job that nobody took back, SEG first."""
    order = [ResultKind.SEG, ResultKind.SR, ResultKind.SC]
    found = [
        one
        for one in story.results
        if one.job_id == job.job_id
        and one.kind is not ResultKind.REJECTION_NOTE
        and one.retracted_at is None
        and one.purged_at is None
    ]
    return tuple(sorted(found, key=lambda one: order.index(one.kind) if one.kind in order else len(order)))


def _headline(job: Job, struck: frozenset[str]) -> str:
    """Return in one line what the answer of a Job says; nothing is said of what was given up, or taken back."""
    if job.is_given_up:
        return sentence(GIVEN_UP)
    kept = [entry for entry in job.findings if entry["label"] not in struck]
    return "Its findings were taken back" if job.findings and not kept else tell_answer(kept)


def _rendered(result: Result) -> str:
    return (
        f"{DICOM_WEB}/studies/{result.study_instance_uid}/series/{result.series_instance_uid}"
        f"/instances/{result.sop_instance_uid}/rendered"
    )


def _head(attributes: Attributes, story: StudyStory) -> Mapping[str, Any]:
    """Return who and what the Study is about; its patient is not known any more once it is given up."""
    time = str(attributes.get("StudyTime", ""))
    clock = f" {time[:2]}:{time[2:4]}" if len(time) >= TIME_DIGITS else ""
    sent, birth, day = (str(attributes.get(key, "")) for key in ("PatientAge", "PatientBirthDate", "StudyDate"))
    age = patient_age(sent, birth=birth, study=day)
    facts = (
        ("", ", ".join(part for part in (str(attributes.get("PatientSex", "")), age) if part)),
        ("", str(attributes.get("StudyDescription", ""))),
        ("", f"{calendar_date(day)}{clock}".strip()),
        ("Accession", str(attributes.get("AccessionNumber", ""))),
        ("Modality", ", ".join(sorted({one.modality for one in story.series if one.modality}))),
    )
    patient_id = str(attributes.get("PatientID", "")) or "absent"
    return {
        "name": person_name(str(attributes.get("PatientName", ""))) if attributes else "Patient not kept any more",
        "facts": [("ID", patient_id)] * bool(attributes) + [(label, value) for label, value in facts if value],
    }


def _why_nothing(story: StudyStory, whys: Sequence[Why]) -> str:
    """Return why there is no result; empty where there is one, or one is to come."""
    counted, shadows = _apart(story.jobs)
    if any(job.state is not JobState.CANCELED for job in counted):
        return ""
    if shadows and not counted:
        names = ", ".join(sorted({job.order.pipeline for job in shadows}))
        return f"Only in shadow: {names}. What it answers is kept and shown here, and goes nowhere."
    reasons = [tell_study(replace(story, jobs=tuple(counted)))]
    if counted:
        reasons += [tell_job(job) for job in counted]
    elif whys and whys[0].decision.outcome is not Outcome.MATCH:
        nearest = max(whys, key=lambda why: sum(len(series.rows) for series in why.series))
        reasons.append(f"Nearest is the rule “{nearest.decision.rule}”: {nearest.decision.reason}")
    first, *rest = reasons
    return ". ".join([first[:1].upper() + first[1:], *(one.rstrip(".") for one in rest)]) + "."


def _job_line(job: Job, story: StudyStory) -> JobLine:
    is_over = job.state is JobState.COMPLETED or job.reason_code == SUPERSEDED
    return JobLine(
        job=job,
        words=tell_job(job),
        events=tuple(event for event in story.events if event.job_id == job.job_id),
        can_retry=not is_over,
        can_cancel=job.state not in ENDED,
    )


def _delivery_line(delivery: Delivery, story: StudyStory) -> DeliveryLine:
    known = {result.sop_instance_uid: result for result in story.results}
    result = known.get(delivery.sop_instance_uid)
    is_gone = result is not None and (result.retracted_at is not None or result.purged_at is not None)
    words = tell_delivery(delivery)
    if result is not None and result.is_substitute:
        words = f"{words}; it goes because SEG or SR is not taken"
    return DeliveryLine(
        delivery=delivery,
        kind=result.kind.value if result is not None else name_kind(delivery.sop_class_uid),
        chip=CHIPS.get(delivery.state, delivery.state.value.lower()),
        words=words,
        can_retry=delivery.state in FAILED and not is_gone,
    )
