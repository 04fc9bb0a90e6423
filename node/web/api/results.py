"""Results: listed, told, taken back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request

from node.domain.result import Result, ResultKind
from node.domain.retraction import MAX_COMMENT, RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID, StudyUID
from node.ledger.listings import Listings, ResultLine
from node.web.api.conduct import LINE, UID, ObjectPath, Operator, Reader, new_router
from node.web.api.contract import told
from node.web.api.deliveries import DeliveryResource, to_delivery_resource
from node.web.api.paging import Page
from node.web.places import DICOM_WEB
from node.web.rights import Right
from node.web.services import Services

ACCEPTED = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultResource:
    """One DICOM object that a Job wrote.

    Attributes
    ----------
    path
        Where it can be retrieved (WADO-RS); not any more where it was taken back or purged.
    is_substitute
        Whether it goes only where SEG or SR is not taken.
    retracted_at
        When a person took it back.
    purged_at
        When its file was given up.
    """

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    job_id: str
    transfer_syntax_uid: str
    size_bytes: int
    sha256: str
    path: str
    is_substitute: bool
    retracted_at: datetime | None
    purged_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultStory:
    """One Result, who wrote it, and its way to each Destination."""

    result: ResultResource
    pipeline: str
    created_at: datetime
    deliveries: tuple[DeliveryResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPage:
    """Results, that which was written last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[ResultStory, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractOrder:
    """Why the Results of a Job are taken back.

    Attributes
    ----------
    reason
        It becomes the title of the rejection note (IHE IOCM).
    struck
        Labels of findings to leave out of a corrected report; none: nothing takes the place of the old Results.
    comment
        A sentence for the rejection note.
    """

    reason: RejectionReason
    struck: Annotated[tuple[Annotated[str, Body(max_length=64, pattern=LINE)], ...], Body(max_length=100)] = ()
    comment: Annotated[str, Body(max_length=MAX_COMMENT, pattern=LINE)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractionResource:
    """An order to take back the Results of a Job.

    Attributes
    ----------
    struck
        Labels of findings that a corrected report leaves out.
    """

    retraction_id: str
    job_id: str
    reason: RejectionReason
    struck: tuple[str, ...]
    ordered_by: str
    ordered_at: datetime


def router(services: Services) -> APIRouter:
    """Return what programs ask of Results, and order."""
    routes = new_router("results")
    listings = Listings(services.engine)

    @routes.get("/results", **told(Right.READ))
    def list_results(
        request: Request,
        reader: Reader,
        page: Page,
        study: Annotated[str | None, Query(description="Only of this Study.", max_length=64, pattern=UID)] = None,
    ) -> ResultPage:
        """List Results, that which was written last first, with their way to each Destination."""
        of_study = None if study is None else StudyUID(study)
        found = listings.results(study=of_study, asked=page.asked_for(datetime, str))
        services.witnessing.saw_each(request, reader, (line.result.study_instance_uid for line in found.rows))
        items = tuple(map(_to_story, found.rows))
        return ResultPage(items=items, next=page.point_to_next(found))

    @routes.get("/results/{sop_instance_uid}", **told(Right.READ, 404))
    def get_result(request: Request, reader: Reader, sop_instance_uid: ObjectPath) -> ResultStory:
        """Tell of one Result."""
        line = services.view.find_result(InstanceUID(sop_instance_uid))
        services.witnessing.saw(request, reader, line.result.study_instance_uid)
        return _to_story(line)

    @routes.post("/results/{sop_instance_uid}/retract", status_code=ACCEPTED, **told(Right.OPERATE, 404))
    def retract_result(operator: Operator, sop_instance_uid: ObjectPath, order: RetractOrder) -> RetractionResource:
        """Take back all Results of the Job that wrote this one.

        What has not left stays; what has left is rejected by a note (IHE IOCM), and, where findings are struck,
        followed by a corrected report. Note and report are written a moment later.
        """
        ordered = services.retractor.retract(
            InstanceUID(sop_instance_uid),
            RetractionOrder(
                reason=order.reason,
                comment=order.comment,
                struck=tuple(dict.fromkeys(order.struck)),
                ordered_by=operator.name,
            ),
        )
        return RetractionResource(
            retraction_id=ordered.retraction_id,
            job_id=ordered.job_id,
            reason=ordered.order.reason,
            struck=ordered.order.struck,
            ordered_by=ordered.order.ordered_by,
            ordered_at=ordered.ordered_at,
        )

    return routes


def to_result_resource(result: Result) -> ResultResource:
    """Return what is told of a Result."""
    place = f"studies/{result.study_instance_uid}/series/{result.series_instance_uid}"
    path = f"{DICOM_WEB}/{place}/instances/{result.sop_instance_uid}"
    kept = [name for name in ResultResource.__slots__ if name != "path"]
    return ResultResource(path=path, **{name: getattr(result, name) for name in kept})


def _to_story(line: ResultLine) -> ResultStory:
    return ResultStory(
        result=to_result_resource(line.result),
        pipeline=line.pipeline,
        created_at=line.created_at,
        deliveries=tuple(map(to_delivery_resource, line.deliveries)),
    )
