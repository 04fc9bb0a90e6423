"""Answers in a real ledger, as workers hand them in and persons take them back; and the order that they belong to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from node.domain.answer import Answer, AnswerState, ToldFinding
from node.domain.codes import LEFT, LUNG, NODULE, PNEUMONIA
from node.domain.finding import Finding, Presence
from node.domain.imaging_order import ImagingOrder, OrderOrigin
from node.domain.job import Job, JobID, JobState, Priority
from node.domain.result import Result, ResultKind
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.domain.steering import Steering
from node.domain.uids import InstanceUID, SeriesUID
from node.ledger.imaging_orders import OrderLedger, Told
from node.ledger.retractions import RetractionLedger
from tests.ledgers import NOON, STUDY, Books, at, make_facts, make_order, make_outcome, make_result
from tests.studies import make_series, make_study

RIS = "ris"
PATIENT = {
    "PatientID": "47|11",
    "PatientName": "M\u00fcller^J\u00fcrg^A^Dr=\u5c71\u7530^\u592a\u90ce",
    "PatientBirthDate": "19620331",
    "PatientSex": "M",
    "AccessionNumber": "A&1",
    "StudyDate": "20250114",
    "StudyTime": "115900.12",
}
SIZES = {"long_axis_mm": 8.4, "volume_mm3": 214.0, "mean_hu": -20.5}
NODULE_1 = Finding(label="Nodule 1", code=NODULE, confidence=0.97, measurements=SIZES, site=LUNG, laterality=LEFT)
NODULE_2 = Finding(label="Nodule 2", code=NODULE)
NO_PNEUMONIA = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.ABSENT, confidence=0.03)
SEG, SR, PICTURE, NOTE = ResultKind.SEG, ResultKind.SR, ResultKind.SC, ResultKind.REJECTION_NOTE
ORDER = ImagingOrder(
    identity="HL7|placer|RIS|PL1",
    origin=OrderOrigin.HL7,
    placer_order_number="PL1",
    filler_order_number="FI1",
    accession_number="A&1",
    patient_id="47|11",
    patient_id_issuer="HOSP",
    procedure_codes=("LN:24627-2",),
    priority=Priority.HIGH,
)


def finished_job(*findings: Finding, **changes: Any) -> Job:
    """Return a COMPLETED Job that found these."""
    order = make_order(deliver_to=())
    made = Job(
        job_id=JobID("job"),
        order=replace(order, inputs={"ct": SeriesUID("1.2.3.1")}),
        state=JobState.COMPLETED,
        accepted_at=NOON,
        attempts=1,
        fence=1,
        lease_owner=None,
        lease_expires_at=None,
        not_before=NOON,
        reason_code=None,
        reason_text=None,
        findings=tuple(finding.as_json() for finding in findings),
        notes=("FLAIR alone was read.",),
        threshold=0.5,
        seconds={},
        stages={},
        model_sha256="abc",
        supersedes=None,
        finished_at=at(9),
    )
    return replace(made, **changes)


def make_answer(*findings: Finding, **changes: Any) -> Answer:
    """Return the first answer to a Study of one Series that was ordered."""
    attributes = changes.pop("attributes", PATIENT)
    study = make_study(make_series(1, count=3, Modality="CT"), **attributes)
    made = Answer(
        study=replace(study, orders=changes.pop("orders", (ORDER,))),
        job=finished_job(*findings, notes=("Line 1.\nLine 2 | more.",)),
        state=AnswerState.FIRST,
        results=(),
        findings=tuple(ToldFinding(place=place, finding=one) for place, one in enumerate(findings, start=1)),
        withdrawn=(),
        is_urged=False,
        is_heard=True,
        since=at(9),
    )
    return replace(made, **changes)


def taken_back() -> Answer:
    """Return an answer of two findings that does not stand any more."""
    gone = tuple(ToldFinding(place=place, finding=one) for place, one in enumerate((NODULE_1, NODULE_2), start=1))
    return make_answer(state=AnswerState.TAKEN_BACK, withdrawn=gone)


def take_order(books: Books, order: ImagingOrder = ORDER) -> None:
    """Keep what a RIS ordered."""
    OrderLedger(books.engine).record(Told(orders=(order,), digest="1"), now=at(0))


def results(job: Job, kinds: Sequence[ResultKind], *, first: int) -> list[Result]:
    """Return one Result of each kind, numbered from `first`."""
    return [make_result(job, kind=kind, number=number) for number, kind in enumerate(kinds, start=first)]


def answer(
    books: Books,
    *findings: Finding,
    numbers: tuple[int, ...] = (1,),
    destinations: tuple[str, ...] = (RIS,),
    is_heard: bool = True,
    **attributes: Any,
) -> Job:
    """Return a Job on Instances `numbers` that was answered with SEG and SR; its results are numbered from 10 times."""
    for number in numbers:
        books.instances.record_instance(make_facts(number, **(attributes or PATIENT)))
    order = make_order(numbers=numbers, deliver_to=destinations)
    books.route(order)
    waiting = [job for job in books.view.study_story(STUDY).jobs if job.finished_at is None]
    job = books.claim(waiting[-1])
    outcome = make_outcome(*results(job, (SEG, SR), first=10 * len(numbers)))
    told = [finding.as_json() for finding in findings]
    books.jobs.finish_job(job, replace(outcome, findings=told), now=at(len(numbers)))
    if is_heard:
        books.studies.hear_answers(frozenset(), now=at(len(numbers)))
    return books.find(job)


def urge(books: Books) -> None:
    """Let a rule raise the Study because of what was found."""
    steering = Steering(rule="large", pipeline="lung_nodules", priority=Priority.STAT, deliver_to=())
    books.studies.hear_answers(frozenset({"lung_nodules"}), now=at(5))
    facts = books.studies.study_facts(STUDY)
    assert books.studies.record_routing(facts, decisions=(), orders=(), forwards=(), steerings=(steering,), now=at(6))


def take_back(
    books: Books, sop_instance_uid: str, *struck: str, reason: RejectionReason = RejectionReason.QUALITY
) -> Retraction:
    """Order that an answer is taken back, and hand in the rejection note, which is 2.25.90."""
    ledger = RetractionLedger(books.engine)
    order = RetractionOrder(reason=reason, comment="", struck=struck, ordered_by="reader")
    retraction = ledger.order_retraction(InstanceUID(sop_instance_uid), order, now=at(20))
    note = make_result(ledger.find_job(retraction), kind=NOTE, number=90)
    ledger.record_note(retraction, note, now=at(21))
    return retraction


def correct(books: Books, retraction: Retraction) -> None:
    """Hand in the corrected SR, which is 2.25.91."""
    ledger = RetractionLedger(books.engine)
    corrected = results(ledger.find_job(retraction), (SR,), first=91)
    ledger.finish_retraction(retraction, corrected, now=at(25))
