"""How long stages took, read once from the time lines; and the counters that processes share."""

from dataclasses import replace

from node.domain.uids import StudyUID
from node.ledger.jobs import RetryPolicy
from node.ledger.stages import BOUNDS_S, StageLedger
from node.ledger.tallies import TallyLedger, TallyName
from tests.ledgers import STUDY, Books, at, make_facts, make_order, make_outcome, make_result


def live(books: Books, study: StudyUID = STUDY) -> None:
    """Bring one Study from its first Instance to the PACS."""
    books.instances.record_instance(make_facts(study=study))
    books.settle(study=study, now=at(4))
    facts = books.studies.study_facts(study)
    order = make_order(study=study)
    books.studies.record_routing(facts, decisions=(), orders=[order], forwards=(), now=at(5))
    job = books.claim(books.only_job(study=study), now=at(25))
    books.jobs.finish_job(job, make_outcome(make_result(job, number=int(study[-1]))), now=at(28))
    for delivery in books.deliveries.due_deliveries("pacs", at(99), 9):
        books.deliveries.record_sent(delivery, now=at(34), reason_code=None, reason_text=None)


def seconds(ledger: StageLedger) -> dict[str, float]:
    return {name: histogram.seconds for name, histogram in ledger.read_stages().items()}


def test_each_stage_is_as_long_as_the_time_line_says(books: Books) -> None:
    ledger = StageLedger(books.engine)
    live(books)
    ledger.count_stages(at(40))
    assert seconds(ledger) == {"receive": 4, "route": 1, "wait": 20, "work": 3, "deliver": 6, "turnaround": 30}
    wait = ledger.read_stages()["wait"]
    assert wait.counts == (*(int(bound >= 20) for bound in BOUNDS_S), 1)


def test_what_was_counted_is_not_counted_again_by_any_node(books: Books) -> None:
    one, other = StageLedger(books.engine), StageLedger(books.engine)
    live(books)
    assert one.count_stages(at(40)) > 0
    assert other.count_stages(at(41)) == one.count_stages(at(42)) == 0
    live(books, StudyUID("1.2.4"))
    other.count_stages(at(43))
    assert seconds(one)["work"] == 6
    assert one.read_stages()["work"].counts[-1] == 2


def test_what_workers_spent_is_added_up_by_part_once(books: Books) -> None:
    one, other = StageLedger(books.engine), StageLedger(books.engine)
    spent = {"prepare": 0.1, "prepare.read": 0.4, "infer.network": 1.25}
    for study in (STUDY, StudyUID("1.2.4")):
        job = books.claim(books.add_job(study=study), now=at(25))
        books.jobs.finish_job(job, replace(make_outcome(), seconds=spent), now=at(28))
        one.count_stages(at(40))
        other.count_stages(at(41))
    assert one.read_work() == {
        ("lung_nodules", "prepare", "other"): 0.2,
        ("lung_nodules", "prepare", "read"): 0.8,
        ("lung_nodules", "infer", "network"): 2.5,
    }


def test_an_attempt_that_failed_makes_the_next_wait_its_own(books: Books) -> None:
    job = books.claim(books.add_job(), now=at(10))
    books.jobs.fail_attempt(job, RetryPolicy(max_attempts=3, pause_s=1.0), reason=("broken", "x"), now=at(11))
    books.claim(job, now=at(14))
    ledger = StageLedger(books.engine)
    ledger.count_stages(at(20))
    assert seconds(ledger)["wait"] == 10 + 3


def test_a_clock_that_was_set_back_makes_no_stage_shorter_than_nothing(books: Books) -> None:
    job = books.claim(books.add_job(), now=at(10))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(-3600))
    ledger = StageLedger(books.engine)
    ledger.count_stages(at(20))
    assert seconds(ledger)["work"] == 0


def test_what_came_is_counted_by_its_sender_and_so_is_when(books: Books) -> None:
    first, second = make_facts(1), make_facts(2, received_at=at(9))
    books.instances.record_arrivals([first], [])
    books.instances.record_arrivals([first, second], [])
    tallies = TallyLedger(books.engine)
    assert tallies.read_tallies(TallyName.INSTANCES)["MODALITY"].value == 3
    assert tallies.read_tallies(TallyName.BYTES)["MODALITY"].value == 3000
    assert tallies.read_tallies(TallyName.INSTANCES)["MODALITY"].counted_at == at(9)


def test_refusals_alike_are_one_event_and_their_number(books: Books) -> None:
    for count in (1, 940):
        books.instances.record_refusal(at=at(1), kind="instance-refused", text="x", code="not-dicom", count=count)
    assert TallyLedger(books.engine).read_tallies("instance-refused")["not-dicom"].value == 941
    assert [event.kind for event in books.view.list_events(9)] == ["instance-refused"] * 2
