"""A subscriber that we did not write hears of workitems, over Associations of ours; and orders become Jobs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from node.delivery.herald import MAX_ATTEMPTS, Herald, send_events
from node.domain import workitem as ups
from node.domain.job import JobState
from node.domain.workitem import DataSet, code_item, element
from node.ledger.subscriptions import UNTOLD, Subscription, SubscriptionLedger
from node.ledger.work_orders import WorkOrderLedger
from node.ledger.workitems import CancelRequest, Draft, WorkitemLedger
from node.ordering import Means, Ordering
from node.peers.peer import DestinationSpec
from node.routing import route_study
from tests.ledgers import NOON, STUDY, Books, at, make_card, make_facts
from tests.peers import free_port

WATCHER, UID = "WATCHER", "1.2.8.1"
PIPELINES = frozenset({"lung_nodules"})


def draft(**changes: Any) -> Draft:
    attributes = {
        ups.PROCEDURE_STEP_STATE: element("CS", "SCHEDULED"),
        ups.PRIORITY: element("CS", "HIGH"),
        ups.STEP_LABEL: element("LO", "Contour"),
        ups.SCHEDULED_START: element("DT", "20250114120000"),
        ups.INPUT_READINESS: element("CS", "READY"),
        **changes,
    }
    return Draft(sop_instance_uid=UID, attributes=attributes, created_by="PLANNER", pipelines=PIPELINES)


def spec(port: int) -> DestinationSpec:
    return DestinationSpec(
        name="watcher",
        transport="cstore",
        aet=WATCHER,
        host="127.0.0.1",
        port=port,
        url="",
        calling_aet="RADNODE",
        timeout_s=10.0,
    )


@pytest.fixture
def watcher() -> Iterator[tuple[DestinationSpec, list[tuple[str, int, str]]]]:
    """Return a subscriber of pynetdicom's, and what it heard."""
    heard: list[tuple[str, int, str]] = []

    def take(event: evt.Event) -> tuple[int, Dataset | None]:
        request, told = cast(Any, event.request), event.event_information
        assert request.AffectedSOPClassUID == ups.PUSH
        heard.append((request.AffectedSOPInstanceUID, request.EventTypeID, told.get("ProcedureStepState", "")))
        return 0x0000, None

    entity = AE(ae_title=WATCHER)
    entity.add_supported_context(ups.EVENT)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    assert server is not None
    yield spec(server.server_address[1]), heard
    server.shutdown()


def test_a_subscriber_hears_of_each_change_once_and_in_order(
    books: Books, watcher: tuple[DestinationSpec, list[tuple[str, int, str]]]
) -> None:
    peer, heard = watcher
    workitems, subscriptions = WorkitemLedger(books.engine), SubscriptionLedger(books.engine)
    herald = Herald(subscriptions, {WATCHER: peer}, send_events)
    workitems.create(draft(), now=NOON)
    subscriptions.subscribe(Subscription(aet=WATCHER, sop_instance_uid=UID), now=NOON)
    workitems.change_state(UID, wanted="IN PROGRESS", transaction_uid="1.2.3", now=NOON)
    assert herald.tick(NOON) is None
    workitems.change_state(UID, wanted="CANCELED", transaction_uid="1.2.3", now=at(1))
    herald.tick(at(1))
    herald.tick(at(2))
    assert heard == [
        (UID, ups.STATE_REPORT, "SCHEDULED"),
        (UID, ups.STATE_REPORT, "IN PROGRESS"),
        (UID, ups.STATE_REPORT, "CANCELED"),
    ]


def test_a_subscriber_that_is_away_is_tried_a_little_and_then_let_be(books: Books) -> None:
    workitems, subscriptions = WorkitemLedger(books.engine), SubscriptionLedger(books.engine)
    workitems.create(draft(), now=NOON)
    subscriptions.subscribe(Subscription(aet=WATCHER, sop_instance_uid=UID), now=NOON)
    herald = Herald(subscriptions, {WATCHER: spec(free_port())}, send_events)
    now, ticks = NOON, 0
    while (again := herald.tick(now)) is not None and subscriptions.due_events([WATCHER], now=again):
        now, ticks = again, ticks + 1
    assert ticks == MAX_ATTEMPTS - 1
    (gap,) = [event for event in books.view.list_events(9) if event.kind == UNTOLD]
    assert gap.text.startswith(f"1 events of workitems did not reach {WATCHER} (destination-down)")
    # Who listens by himself reads it all the same.
    assert len(subscriptions.events_after(0, aet=WATCHER)) == 1


def test_what_is_over_goes_unless_somebody_locks_it(books: Books) -> None:
    workitems, subscriptions = WorkitemLedger(books.engine), SubscriptionLedger(books.engine)
    workitems.create(draft(), now=NOON)
    subscriptions.subscribe(Subscription(aet=WATCHER, sop_instance_uid=UID, is_locked=True), now=NOON)
    workitems.request_cancel(UID, CancelRequest(asked_by="X"), now=NOON)
    later, day = NOON + timedelta(days=31), timedelta(days=1)
    subscriptions.prune(now=later, keep=day, keep_events=day)
    assert workitems.find(UID).state is JobState.CANCELED
    subscriptions.unsubscribe(WATCHER, UID)
    subscriptions.prune(now=later, keep=day, keep_events=day)
    assert workitems.search({}, limit=9) == ()


def input_information(series: str) -> DataSet:
    return element("SQ", {ups.STUDY_INSTANCE_UID: element("UI", STUDY), ups.SERIES_INSTANCE_UID: element("UI", series)})


def order_draft(code: str = "lung_nodules", series: str = f"{STUDY}.1") -> Draft:
    wanted = {
        ups.SCHEDULED_WORKITEM_CODE: element("SQ", code_item(code, "99RADNODE", code)),
        ups.INPUT_INFORMATION: input_information(series),
    }
    return draft(**wanted)


def open_station(books: Books) -> Ordering:
    """Return the station of a site without rules, with one Pipeline."""
    models = {"lung_nodules": make_card()}
    return Ordering(
        WorkOrderLedger(books.engine),
        books.studies.study_facts,
        Means(models=models, rules=(), destinations=("pacs",)),
        lambda study, rules: route_study(study, rules, models)[:2],
    )


def settle(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()


def test_an_order_of_a_study_that_is_here_becomes_a_job_and_is_the_same_workitem(books: Books) -> None:
    workitems, station = WorkitemLedger(books.engine), open_station(books)
    workitems.create(order_draft(), now=NOON)
    station.tick(NOON)
    assert workitems.find(UID).state is JobState.SCHEDULED
    settle(books)
    station.tick(at(1))
    job = books.only_job()
    assert (job.order.rule, job.order.priority.word, job.order.deliver_to) == ("by order of PLANNER", "high", ("pacs",))
    books.claim(job, now=at(2))
    (found,) = workitems.search({}, limit=9)
    assert (found.sop_instance_uid, found.state, found.is_ours) == (UID, JobState.IN_PROGRESS, True)
    assert workitems.request_cancel(UID, CancelRequest(asked_by="PLANNER"), now=at(3)) == 0
    assert books.find(job).state is JobState.CANCELED
    station.tick(at(4))
    assert books.only_job().job_id == job.job_id


def test_an_order_that_nothing_answers_is_canceled_with_the_reason(books: Books) -> None:
    workitems, station = WorkitemLedger(books.engine), open_station(books)
    workitems.create(order_draft(series="1.2.99"), now=NOON)
    settle(books)
    station.tick(at(1))
    found = workitems.find(UID)
    assert found.state is JobState.CANCELED
    why = ups.items_of(found.attributes, ups.PROGRESS_INFORMATION)[0]
    assert ups.text_of(why, ups.REASON_FOR_CANCELLATION)
    assert books.view.study_story(STUDY).jobs == ()


def test_what_is_not_ours_is_kept_for_others(books: Books) -> None:
    workitems, station = WorkitemLedger(books.engine), open_station(books)
    workitems.create(order_draft(code="contour"), now=NOON)
    settle(books)
    station.tick(at(1))
    assert not workitems.find(UID).is_ours
    assert workitems.change_state(UID, wanted="IN PROGRESS", transaction_uid="1.2.3", now=at(2)) == 0
