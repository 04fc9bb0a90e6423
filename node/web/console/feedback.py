"""Radiologists' feedback over HTTP: a verdict on a finding, and all of them as a table."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.domain.job import JobID
from node.domain.review import Instead, ReviewOrder, Verdict
from node.domain.uids import StudyUID
from node.errors import NotFound, RequestMalformed
from node.feedback import COLUMNS, to_cells
from node.ledger.reviews import ReviewLedger
from node.web.api.conduct import JobPath, StudyPath
from node.web.api.sheet import Taking, sheet_response
from node.web.console.form import Form, posted
from node.web.console.page import go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services


def router(services: Services) -> APIRouter:
    """Return the routes of verdicts."""
    routes, ledger = APIRouter(), ReviewLedger(services.engine)

    @routes.post("/studies/{study}/jobs/{job}/findings/{number}/review")
    def review(
        study: StudyPath, job: JobPath, number: int, form: Annotated[Form, Depends(posted(Right.REVIEW))]
    ) -> Response:
        order = read_order(JobID(job), number, form)
        if services.view.find_job(order.job_id).order.study_instance_uid != StudyUID(study):
            raise NotFound(f"job {job} is not of study {study}; see `radnode jobs show {job}`")
        ledger.record_review(order, now=services.clock())
        return go_to(f"/studies/{study}", say="finding-reviewed", at=f"finding-{job}-{number}")

    @routes.get("/feedback.csv")
    def feedback(request: Request, visitor: Annotated[Visitor, Depends(authorize(Right.REVIEW))]) -> Response:
        taking = Taking(witnessing=services.witnessing, request=request, visitor=visitor, name="radnode-feedback")
        return sheet_response(COLUMNS, map(to_cells, ledger.list_reviews()), taking)

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
