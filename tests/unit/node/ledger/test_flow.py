"""The belt at one moment: what stands where, what passed, and how it stands with a Destination."""

from datetime import timedelta

from node.ledger.flow import FlowLedger, Passage, Queue, Station
from node.ledger.history import HistoryLedger, RuleCount
from node.ledger.stages import StageLedger
from node.ledger.traffic import TrafficLedger
from tests.ledgers import NOON, STUDY, Books, at, make_decision, make_facts, make_outcome, make_result

MINUTE = timedelta(minutes=1)


def answer(books: Books, study: str, number: int) -> None:
    job = books.claim(books.add_job(study=study))
    books.jobs.finish_job(job, make_outcome(make_result(job, number=number)), now=at(number))


def test_each_station_tells_what_stands_there_and_since_when(books: Books) -> None:
    flow = FlowLedger(books.engine)
    assert set(flow.read_queues(["pacs"]).values()) == {Queue(count=0, oldest_at=None)}
    books.instances.record_instance(make_facts(study="1.2.9"))
    waiting = books.add_job(study="1.2.4")
    books.claim(books.add_job(study="1.2.5"))
    answer(books, "1.2.6", 1)
    queues = flow.read_queues(["pacs"])
    assert {station: queue.count for station, queue in queues.items()} == {
        Station.INTAKE: 0,
        Station.ASSEMBLY: 1,
        Station.ROUTING: 0,
        Station.DISPATCH: 1,
        Station.WORKER: 1,
        Station.DELIVERY: 1,
        Station.CONFIRMATION: 0,
    }
    assert queues[Station.DISPATCH].oldest_at == waiting.accepted_at
    assert flow.read_queues(["archive"])[Station.DELIVERY].count == 0
    assert flow.read_holders(at(1)) == [("worker", 1)]
    assert flow.read_holders(at(100)) == []


def test_what_passed_is_counted_in_its_part_of_the_time(books: Books) -> None:
    answer(books, "1.2.4", 1)
    answer(books, "1.2.5", 130)
    passages = FlowLedger(books.engine).read_passages(NOON, part=MINUTE, parts=3)
    assert passages[Station.WORKER] == Passage(counts=(1, 0, 1), failed=0)
    assert passages[Station.INTAKE] == Passage(counts=(2, 0, 0), failed=0)
    assert passages[Station.DELIVERY].total == 0
    # What happened before and after does not count.
    assert FlowLedger(books.engine).read_passages(at(60), part=MINUTE, parts=1)[Station.WORKER].total == 0


def test_failures_are_counted_where_they_happen(books: Books) -> None:
    answer(books, "1.2.4", 1)
    (delivery,) = books.deliveries.due_deliveries("pacs", at(2), 9)
    books.deliveries.record_refused(delivery, now=at(2), reason_code="destination-refused", reason_text="no")
    passages = FlowLedger(books.engine).read_passages(NOON, part=MINUTE, parts=1)
    assert (passages[Station.DELIVERY].failed, passages[Station.DELIVERY].total) == (1, 0)


def test_answers_are_counted_by_pipeline(books: Books) -> None:
    answer(books, "1.2.4", 1)
    answer(books, "1.2.5", 100)
    flow = FlowLedger(books.engine)
    assert flow.count_answers(NOON) == {"lung_nodules": 2}
    assert flow.count_answers(at(50)) == {"lung_nodules": 1}
    assert flow.count_answers(at(100)) == {}


def test_stages_that_ended_of_late_are_measured(books: Books) -> None:
    answer(books, "1.2.4", 7)
    answer(books, "1.2.5", 3)
    recent = StageLedger(books.engine).recent_seconds(NOON - MINUTE)
    assert (recent["work"], recent["deliver"]) == ((3.0, 7.0), ())
    assert StageLedger(books.engine).recent_seconds(at(5))["work"] == (7.0,)


def test_how_it_stands_with_a_destination(books: Books) -> None:
    ledger = TrafficLedger(books.engine)
    idle = ledger.read_traffic("pacs", since=NOON)
    assert (idle.waiting, idle.bad, idle.last_taken_at, idle.taken_since, idle.reason) == (0, 0, None, 0, "")
    for number in range(1, 5):
        answer(books, f"1.2.{number}", number)
    first, second, *_ = books.deliveries.due_deliveries("pacs", at(9), 9)
    books.deliveries.record_sent(first, now=at(10), reason_code=None, reason_text=None)
    books.deliveries.record_refused(second, now=at(11), reason_code="destination-refused", reason_text="never")
    books.deliveries.defer_deliveries("pacs", now=at(12), not_before=at(60), reason=("destination-down", "no answer"))
    told = ledger.read_traffic("pacs", since=at(5))
    assert (told.waiting, told.bad, told.last_taken_at, told.taken_since) == (2, 1, at(10), 1)
    assert (told.oldest_at, told.next_at, told.reason) == (at(3), at(60), "no answer")
    assert ledger.read_traffic("pacs", since=at(10)).taken_since == 0
    assert [one.state.value for one in ledger.list_open("pacs")] == ["REFUSED", "PENDING", "PENDING"]
    books.deliveries.dismiss_deliveries(destination="pacs", study=None, ordered_by="kim", now=at(13))
    assert ledger.read_traffic("pacs", since=NOON).bad == 0
    assert [one.state.value for one in ledger.list_open("pacs")] == ["PENDING", "PENDING"]


def test_what_rules_concluded_is_counted_once_for_a_study(books: Books) -> None:
    history = HistoryLedger(books.engine)
    books.instances.record_instance(make_facts())
    for number in (1, 2):
        books.settle()
        facts = books.studies.study_facts(STUDY)
        books.studies.record_routing(facts, decisions=[make_decision()], orders=(), forwards=(), now=at(number))
        books.instances.record_instance(make_facts(number + 1, association=f"b{number}", received_at=at(number)))
    assert history.count_decisions(NOON) == {"a rule": RuleCount(matched=1, undetermined=0)}
    assert history.count_decisions(at(2)) == {}
    assert (history.recent_studies(NOON, limit=5), history.count_studies(NOON)) == ((STUDY,), 1)
    assert (history.recent_studies(at(9), limit=5), history.count_studies(at(9))) == ((), 0)
