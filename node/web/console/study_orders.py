"""What a person orders on the page of a Study: try again, cancel, send again, reprocess, take back."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.audit.events import StudySubject, study_reprocessed
from node.domain.job import Job, JobID
from node.domain.result import Result, ResultKind
from node.domain.retraction import MAX_COMMENT, REJECTION_TITLES, RejectionReason, RetractionOrder
from node.domain.uids import StudyUID
from node.errors import NotFound, RequestMalformed, WrongState
from node.ledger.deliveries import DeliveryLedger
from node.ledger.interventions import Interventions
from node.site import installed_model
from node.web.api.conduct import JobPath, StudyPath
from node.web.console.form import Form, posted
from node.web.console.page import Pages, go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

JOB = "/studies/{study}/jobs/{job}"


def router(services: Services) -> APIRouter:
    """Return the routes of orders; each is a form, and leads back to the page of the Study."""
    routes, clerk, pages = APIRouter(), Clerk(services), Pages(services)
    may_operate = posted(Right.OPERATE)

    @routes.post(f"{JOB}/retry")
    def retry(study: StudyPath, job: JobPath, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.retry(clerk.job_of(study, job), form.visitor.name)
        return go_to(f"/studies/{study}", say="job-retried", at="jobs")

    @routes.post(f"{JOB}/cancel")
    def cancel(study: StudyPath, job: JobPath, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.cancel(clerk.job_of(study, job), form.visitor.name)
        return go_to(f"/studies/{study}", say="job-canceled", at="jobs")

    @routes.post("/studies/{study}/deliveries/retry")
    def send_again(study: StudyPath, form: Annotated[Form, Depends(may_operate)]) -> Response:
        count = clerk.send_again(StudyUID(study), form.serial("delivery"), form.visitor.name)
        return go_to(f"/studies/{study}", say="deliveries-due" if count else "deliveries-none", at="deliveries")

    @routes.post("/studies/{study}/reprocess")
    def reprocess(study: StudyPath, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.reprocess(StudyUID(study), form.visitor.name)
        return go_to(f"/studies/{study}", say="study-reprocessed", at="jobs")

    @routes.get(f"{JOB}/retract")
    def ask_retract(
        request: Request, study: StudyPath, job: JobPath, visitor: Annotated[Visitor, Depends(authorize(Right.OPERATE))]
    ) -> Response:
        found = clerk.job_of(study, job)
        standing = clerk.standing(found)
        services.witnessing.saw(request, visitor, study)
        return pages.render(
            request,
            visitor,
            "study_retract.html",
            study=study,
            job=found,
            results=standing,
            longest=MAX_COMMENT,
            reasons=[(reason.value, title.meaning) for reason, title in REJECTION_TITLES.items()],
        )

    @routes.post(f"{JOB}/retract")
    def retract(study: StudyPath, job: JobPath, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.retract(clerk.job_of(study, job), read_retraction(form))
        return go_to(f"/studies/{study}", say="results-retracted", at="deliveries")

    return routes


def read_retraction(form: Form) -> RetractionOrder:
    """Return the order that a form gives.

    Raises
    ------
    RequestMalformed
        If it names no reason that a rejection note could have.
    """
    try:
        reason = RejectionReason(form.text("reason"))
    except ValueError as exc:
        raise RequestMalformed(f"a reason is one of {', '.join(RejectionReason)}") from exc
    struck = tuple(dict.fromkeys(form.texts("strike")))
    return RetractionOrder(reason=reason, comment=form.text("comment"), struck=struck, ordered_by=form.visitor.name)


class Clerk:
    """Carries out orders, and writes down who gave them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._interventions = Interventions(services.engine)
        self._deliveries = DeliveryLedger(services.engine)

    def job_of(self, study: str, job: str) -> Job:
        """Return a Job of a Study.

        Raises
        ------
        NotFound
            If there is none.
        """
        found = self._services.view.find_job(JobID(job))
        if found.order.study_instance_uid != study:
            raise NotFound(f"job {job} is not of study {study}; see `radnode jobs show {job}`")
        return found

    def standing(self, job: Job) -> tuple[Result, ...]:
        """Return the Results of a Job that can be taken back.

        Raises
        ------
        WrongState
            If there are none.
        """
        story = self._services.view.study_story(job.order.study_instance_uid)
        found = tuple(
            result
            for result in story.results
            if result.job_id == job.job_id
            and result.kind is not ResultKind.REJECTION_NOTE
            and result.retracted_at is None
            and result.purged_at is None
        )
        if not found:
            raise WrongState(f"job {job.job_id} has no Result that stands; there is nothing to take back")
        return found

    def retry(self, job: Job, account: str) -> None:
        """Let a Job start anew with the model that is installed now; raises as `Interventions.retry_job` does."""
        installed = installed_model(self._services.settings, job.order.pipeline)
        now = self._services.clock()
        self._interventions.retry_job(job.job_id, ordered_by=account, installed=installed, now=now)

    def cancel(self, job: Job, account: str) -> None:
        """Cancel a Job; raises as `Interventions.cancel_job` does."""
        self._interventions.cancel_job(job.job_id, ordered_by=account, now=self._services.clock())

    def send_again(self, study: StudyUID, delivery_id: int | None, account: str) -> int:
        """Make one Delivery due again, or with None all of a Study; returns how many."""
        now = self._services.clock()
        return self._deliveries.retry_of_study(study, delivery_id=delivery_id, ordered_by=account, now=now)

    def reprocess(self, study: StudyUID, account: str) -> None:
        """Let the rules be asked again; raises as `Interventions.reprocess` does."""
        self._interventions.reprocess(study, ordered_by=account, now=self._services.clock())
        self._services.record(study_reprocessed(self._subject(study), account=account))

    def retract(self, job: Job, order: RetractionOrder) -> None:
        """Take the Results of a Job back; raises as `standing` and `Retractor.order` do."""
        self._services.retractor.retract(self.standing(job)[0].sop_instance_uid, order)

    def _subject(self, study: StudyUID) -> StudySubject:
        return StudySubject(study_instance_uid=study, patient_id=self._services.view.patient_id(study))
