"""What a person orders on the page of a Study: try again, cancel, send again, reprocess, take back."""

import logging
import subprocess
from collections import Counter
from threading import Thread
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.audit.events import StudySubject, results_retracted, study_reprocessed
from node.domain.job import Job, JobID
from node.domain.result import Result, ResultKind
from node.domain.retraction import REJECTION_TITLES, RejectionReason, Retraction, RetractionOrder
from node.domain.uids import StudyUID
from node.errors import NotFound, RequestMalformed, WrongState
from node.ledger.deliveries import DeliveryLedger
from node.ledger.interventions import Interventions
from node.ledger.retractions import RetractionLedger
from node.site import installed_model
from node.web.console.form import Form, posted
from node.web.console.page import Pages, go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services
from node.workforce import spawn_worker

logger = logging.getLogger(__name__)

MAX_COMMENT = 500
JOB = "/studies/{study}/jobs/{job}"


def router(services: Services) -> APIRouter:
    """Return the routes of orders; each is a form, and leads back to the page of the Study."""
    routes, clerk, pages = APIRouter(), Clerk(services), Pages(services)
    may_operate = posted(Right.OPERATE)

    @routes.post(f"{JOB}/retry")
    def retry(study: str, job: str, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.retry(clerk.job_of(study, job), form.visitor.name)
        return go_to(f"/studies/{study}", say="job-retried", at="jobs")

    @routes.post(f"{JOB}/cancel")
    def cancel(study: str, job: str, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.cancel(clerk.job_of(study, job), form.visitor.name)
        return go_to(f"/studies/{study}", say="job-canceled", at="jobs")

    @routes.post("/studies/{study}/deliveries/retry")
    def send_again(study: str, form: Annotated[Form, Depends(may_operate)]) -> Response:
        count = clerk.send_again(StudyUID(study), form.text("delivery"), form.visitor.name)
        return go_to(f"/studies/{study}", say="deliveries-due" if count else "deliveries-none", at="deliveries")

    @routes.post("/studies/{study}/reprocess")
    def reprocess(study: str, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.reprocess(StudyUID(study), form.visitor.name)
        return go_to(f"/studies/{study}", say="study-reprocessed", at="jobs")

    @routes.get(f"{JOB}/retract")
    def ask_retract(
        request: Request, study: str, job: str, visitor: Annotated[Visitor, Depends(authorize(Right.OPERATE))]
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
            reasons=[(reason.value, title.meaning) for reason, title in REJECTION_TITLES.items()],
        )

    @routes.post(f"{JOB}/retract")
    def retract(study: str, job: str, form: Annotated[Form, Depends(may_operate)]) -> Response:
        clerk.retract(clerk.job_of(study, job), read_retraction(form))
        return go_to(f"/studies/{study}", say="results-retracted", at="deliveries")

    return routes


def read_retraction(form: Form) -> RetractionOrder:
    """Return the order that a form gives.

    Raises
    ------
    RequestMalformed
        If it names no reason that a rejection note could have, or its comment is too long.
    """
    try:
        reason = RejectionReason(form.text("reason"))
    except ValueError as exc:
        raise RequestMalformed(f"a reason is one of {', '.join(RejectionReason)}") from exc
    comment = form.text("comment")
    if len(comment) > MAX_COMMENT:
        raise RequestMalformed(f"a comment has at most {MAX_COMMENT} characters, this one {len(comment)}")
    struck = tuple(dict.fromkeys(form.texts("strike")))
    return RetractionOrder(reason=reason, comment=comment, struck=struck, ordered_by=form.visitor.name)


class Clerk:
    """Carries out orders, and writes down who gave them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._interventions = Interventions(services.engine)
        self._deliveries = DeliveryLedger(services.engine)
        self._retractions = RetractionLedger(services.engine)

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

    def send_again(self, study: StudyUID, delivery: str, account: str) -> int:
        """Make one Delivery due again, or with an empty `delivery` all of a Study; returns how many."""
        if delivery and not (delivery.isascii() and delivery.isdigit()):
            raise RequestMalformed("a Delivery has a number")
        delivery_id, now = int(delivery) if delivery else None, self._services.clock()
        return self._deliveries.retry_of_study(study, delivery_id=delivery_id, ordered_by=account, now=now)

    def reprocess(self, study: StudyUID, account: str) -> None:
        """Let the rules be asked again; raises as `Interventions.reprocess` does."""
        self._interventions.reprocess(study, ordered_by=account, now=self._services.clock())
        self._services.record(study_reprocessed(self._subject(study), account=account))

    def retract(self, job: Job, order: RetractionOrder) -> None:
        """Take the Results of a Job back; what tells others so is written by a process for which nobody waits.

        Raises
        ------
        NotFound
            If a struck finding is not among the Job's.
        WrongState
            If nothing stands.
        """
        first = self.standing(job)[0]
        now = self._services.clock()
        retraction = self._retractions.order_retraction(first.sop_instance_uid, order, now=now)
        self._audit(job, retraction)
        worker = spawn_worker(self._services.settings, ("retract",))
        Thread(target=_await, args=(worker, job.job_id), name="retract", daemon=True).start()

    def _audit(self, job: Job, retraction: Retraction) -> None:
        sop_classes = Counter(result.sop_class_uid for result in self._retractions.retracted_results(retraction))
        subject, order = self._subject(job.order.study_instance_uid), retraction.order
        title = REJECTION_TITLES[order.reason]
        self._services.record(results_retracted(subject, sop_classes, account=order.ordered_by, title=title))

    def _subject(self, study: StudyUID) -> StudySubject:
        return StudySubject(study_instance_uid=study, patient_id=self._services.view.patient_id(study))


def _await(worker: "subprocess.Popen[bytes]", job_id: JobID) -> None:
    """Wait for a process, and tell the operator where it fails; the order stays, and is carried out by the next one."""
    code = worker.wait()
    if code:
        logger.error("retraction not written", extra={"job_id": job_id, "exit_code": code})
