"""A ledger in which something of everything has happened, for the tests of what tells of it."""

from dataclasses import dataclass, replace

from node.domain.alarm import AlarmKind
from node.domain.fetch import FetchOrder, FetchReason
from node.domain.job import Job
from node.domain.result import DeliveryState, Result, ResultKind
from node.domain.uids import StudyUID
from node.ledger.alarms import AlarmLedger
from node.ledger.fetches import FetchLedger
from tests.ledgers import Books, at, make_decision, make_facts, make_order, make_outcome, make_result

# What no page, log or text may hold where it does not belong, and what a spreadsheet would compute.
PATIENT = '=HYPERLINK("http://x")^<script>'
PATIENTS = ("Canary^Yellow", "Müller^Jürgen", PATIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Populated:
    """What is in the ledger.

    Attributes
    ----------
    studies
        Their UIDs, in the order in which they came; the Job of each is in another state.
    """

    studies: tuple[str, ...]
    completed: Job
    canceled: Job
    waiting: Job


def populate(books: Books) -> Populated:
    """Let Studies come, be routed, answered, delivered, refused and canceled; returns what there is then."""
    studies = tuple(f"1.2.826.{number}" for number in range(1, 6))
    for second, study in enumerate(studies):
        books.instances.record_instance(
            make_facts(
                study=study,
                received_at=at(second),
                PatientName=PATIENTS[second % len(PATIENTS)],
                PatientID=f"P{second}",
                AccessionNumber=f"A{second}",
                StudyDate="20250114",
                StudyDescription="Thorax",
            )
        )
    jobs = [_order(books, study, second) for second, study in enumerate(studies[:3], start=10)]
    completed, canceled, waiting = jobs
    claimed = books.claim(completed, now=at(20))
    books.jobs.finish_job(claimed, make_outcome(*_results(claimed)), now=at(21))
    _deliver(books)
    books.interventions.cancel_job(canceled.job_id, ordered_by="test", reason="no need", now=at(30))
    books.settle(study=StudyUID(studies[3]), now=at(31))
    fetch = FetchOrder(source="pacs", study_instance_uid=StudyUID(studies[0]), reason=FetchReason.POLL)
    FetchLedger(books.engine).enqueue([fetch], now=at(35))
    alarms = AlarmLedger(books.engine)
    alarms.raise_alarm(AlarmKind.NO_WORKER, "", "no worker has a heartbeat", now=at(40))
    alarms.raise_alarm(AlarmKind.SOURCE_SILENT, "CT1", "nothing came from CT1", now=at(41))
    alarms.heal_alarm(alarms.standing_alarms()[0].alarm_id, now=at(42))
    return Populated(
        studies=studies, completed=books.find(completed), canceled=books.find(canceled), waiting=books.find(waiting)
    )


def _order(books: Books, study: str, second: int) -> Job:
    uid = StudyUID(study)
    books.settle(study=uid, now=at(second))
    facts = books.studies.study_facts(uid)
    order = make_order(study=study, deliver_to=("pacs", "archive"))
    decision = replace(make_decision(), study_instance_uid=uid, inputs=order.inputs)
    books.studies.record_routing(facts, decisions=[decision], orders=[order], forwards=(), now=at(second))
    return books.only_job(study=uid)


def _results(job: Job) -> list[Result]:
    return [make_result(job, kind=ResultKind.SEG, number=1), make_result(job, kind=ResultKind.SR, number=2)]


def _deliver(books: Books) -> None:
    first, second = books.view.list_deliveries(destination="pacs", state=DeliveryState.PENDING, limit=9)
    books.deliveries.record_sent(first, now=at(22), reason_code=None, reason_text=None)
    books.deliveries.record_refused(second, now=at(23), reason_code="destination-refused", reason_text="Cxxx")
