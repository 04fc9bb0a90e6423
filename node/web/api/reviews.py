"""Reviews: what radiologists say of Findings, listed and given."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Request, Response

from node.domain.job import JobID
from node.domain.review import MAX_AXIS_MM, MAX_COMMENT, Instead, Review, ReviewOrder, Verdict
from node.feedback import COLUMNS, to_cells
from node.ledger.reviews import ReviewLedger
from node.web.api.conduct import LINE, JobPath, new_router
from node.web.api.contract import told
from node.web.api.paging import MAX_SERIAL, Page
from node.web.api.sheet import Taking, sheet_response, walk, wants_sheet
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Reviewer = Annotated[Visitor, Depends(authorize(Right.REVIEW))]
Axis = Annotated[float | None, Body(gt=0, le=MAX_AXIS_MM)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewResource:
    """What one radiologist said of one Finding.

    Attributes
    ----------
    number
        Place of the Finding in the answer of the Job, from 1.
    label
        What the model called it.
    instead
        What it is instead of what the model says; empty where that is not corrected.
    long_axis_mm, short_axis_mm
        As they should be, mm; null where they are not corrected.
    is_current
        Whether it is the newest on its Finding: that one counts.
    """

    review_id: int
    reviewed_at: datetime
    reviewer: str
    job_id: str
    number: int
    label: str
    pipeline: str
    model: str
    model_version: str
    verdict: Verdict
    instead: Instead
    long_axis_mm: float | None
    short_axis_mm: float | None
    comment: str
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPage:
    """Reviews, that which was given last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[ReviewResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictOrder:
    """What is said of a Finding.

    Attributes
    ----------
    instead
        What it is instead of what the model says; for a correction only.
    long_axis_mm, short_axis_mm
        As they should be, mm; for a correction only.
    comment
        A sentence; no patient's name.
    """

    verdict: Verdict
    instead: Instead = Instead.SAME
    long_axis_mm: Axis = None
    short_axis_mm: Axis = None
    comment: Annotated[str, Body(max_length=MAX_COMMENT, pattern=LINE)] = ""


def router(services: Services) -> APIRouter:
    """Return what programs ask of reviews, and give."""
    routes, ledger = new_router("reviews"), ReviewLedger(services.engine)

    @routes.get("/reviews", response_model=ReviewPage, **told(Right.REVIEW, 406, sheet=True))
    def list_reviews(request: Request, reviewer: Reviewer, page: Page) -> ReviewPage | Response:
        """List every verdict that was ever given, the last first."""
        asked = page.asked_for(int)
        if wants_sheet(request):
            taking = Taking(witnessing=services.witnessing, request=request, visitor=reviewer, name="reviews")
            return sheet_response(COLUMNS, map(to_cells, walk(ledger.page_reviews, asked, limit=page.limit)), taking)
        services.witnessing.searched(request, reviewer, ())
        found = ledger.page_reviews(asked)
        items = tuple(map(_to_resource, found.rows))
        return ReviewPage(items=items, next=page.point_to_next(found))

    @routes.post("/jobs/{job_id}/findings/{number}/review", **told(Right.REVIEW, 404, 409))
    def review_finding(
        request: Request,
        reviewer: Reviewer,
        job_id: JobPath,
        number: Annotated[int, Path(description="Place of the Finding in the answer, from 1.", ge=1, le=MAX_SERIAL)],
        order: VerdictOrder,
    ) -> ReviewResource:
        """Say what a Finding is; what was said of it before stays as history."""
        job = JobID(job_id)
        given = {name: getattr(order, name) for name in VerdictOrder.__slots__}
        wanted = ReviewOrder(job_id=job, number=number, reviewer=reviewer.name, **given)
        ledger.record_review(wanted, now=services.clock())
        services.witnessing.saw(request, reviewer, services.view.find_job(job).order.study_instance_uid)
        return _to_resource(ledger.reviews_of([job])[job, number][0])

    return routes


def _to_resource(review: Review) -> ReviewResource:
    of_order = ("reviewer", "job_id", "number", "verdict", "instead", "long_axis_mm", "short_axis_mm", "comment")
    kept = [name for name in ReviewResource.__slots__ if name not in of_order]
    values = {name: getattr(review, name) for name in kept} | {name: getattr(review.order, name) for name in of_order}
    return ReviewResource(**values)
