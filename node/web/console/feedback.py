"""Radiologists' feedback over HTTP: a verdict on a finding, and all of them as a table."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from node.domain.job import JobID
from node.domain.review import Instead, Review, ReviewOrder, Verdict
from node.domain.uids import StudyUID
from node.errors import NotFound, RequestMalformed
from node.ledger.reviews import ReviewLedger
from node.web.api.sheet import sheet_response
from node.web.console.form import Form, posted
from node.web.console.page import go_to
from node.web.rights import Right, authorize
from node.web.services import Services

COLUMNS = (
    "reviewed_at", "reviewer", "pipeline", "model", "model_version", "job", "finding", "label", "verdict", "counts",
    "long_axis_mm", "short_axis_mm", "instead", "comment",
)  # fmt: skip


def router(services: Services) -> APIRouter:
    """Return the routes of verdicts."""
    routes, ledger = APIRouter(), ReviewLedger(services.engine)

    @routes.post("/studies/{study}/jobs/{job}/findings/{number}/review")
    def review(study: str, job: str, number: int, form: Annotated[Form, Depends(posted(Right.REVIEW))]) -> Response:
        order = read_order(JobID(job), number, form)
        if services.view.find_job(order.job_id).order.study_instance_uid != StudyUID(study):
            raise NotFound(f"job {job} is not of study {study}; see `radnode jobs show {job}`")
        ledger.record_review(order, now=services.clock())
        return go_to(f"/studies/{study}", say="finding-reviewed", at=f"finding-{job}-{number}")

    @routes.get("/feedback.csv", dependencies=[Depends(authorize(Right.REVIEW))])
    def feedback() -> Response:
        return sheet_response(COLUMNS, map(to_cells, ledger.list_reviews()), name="radnode-feedback")

    return routes


def read_order(job_id: JobID, number: int, form: Form) -> ReviewOrder:
    """Return the verdict that a form gives.

    Raises
    ------
    RequestMalformed
        If it gives none, or what it corrects cannot be understood.
    """
    try:
        verdict, instead = Verdict(form.text("verdict")), Instead(form.text("instead"))
    except ValueError as exc:
        words = ", ".join(Verdict)
        raise RequestMalformed(f"a verdict is one of {words}, and what it is instead is of the list") from exc
    return ReviewOrder(
        job_id=job_id,
        number=number,
        verdict=verdict,
        reviewer=form.visitor.name,
        long_axis_mm=form.number("long_axis_mm"),
        short_axis_mm=form.number("short_axis_mm"),
        instead=instead,
        comment=form.text("comment"),
    )


def to_cells(review: Review) -> tuple[object, ...]:
    """Return a verdict as a row of the table."""
    order = review.order
    return (
        review.reviewed_at.isoformat(timespec="seconds"), order.reviewer, review.pipeline, review.model,
        review.model_version, order.job_id, order.number, review.label, order.verdict.value,
        "yes" if review.is_current else "no", order.long_axis_mm, order.short_axis_mm, order.instead.value,
        order.comment,
    )  # fmt: skip
