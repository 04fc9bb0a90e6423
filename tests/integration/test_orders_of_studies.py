"""Orders and Studies find each other, whichever comes first; rules ask of orders, and urgency follows them."""

import tomllib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from node.domain.decision import Outcome
from node.domain.imaging_order import ImagingOrder, OrderOrigin, OrderState
from node.domain.job import Priority
from node.imaging_orders import FORGET_EVERY, ImagingOrders, ask_of_orders
from node.ledger.imaging_orders import OrderLedger, Told
from node.routing import route_study
from node.rules.grammar import parse_rules
from tests.ledgers import NOON, STUDY, Books, at, make_card, make_facts, make_order
from tests.shipped import PIPELINES

ORDER = ImagingOrder(
    identity="HL7|placer|RIS|PL1",
    origin=OrderOrigin.HL7,
    source="RIS/HOSP",
    accession_number="A1",
    patient_id="P1",
    priority=Priority.STAT,
    procedure_codes=("99LOCAL:CTCH",),
    requesting_service="Emergency",
)
MODELS = {"lung_nodules": make_card()}


def tell(books: Books, *orders: ImagingOrder, second: float = 0.0) -> None:
    OrderLedger(books.engine).record(Told(orders=orders), now=at(second))


def arrive(books: Books, *, accession: str = "A1", patient: str = "P1", study: str = STUDY) -> None:
    books.instances.record_instance(make_facts(study=study, AccessionNumber=accession, PatientID=patient))


def hear(books: Books, *, second: float = 5.0, asks: bool = False) -> None:
    ImagingOrders(OrderLedger(books.engine), are_asked_for=asks, keep=timedelta(days=90)).tick(at(second))


def urgency_of(books: Books) -> Priority | None:
    orders = books.view.study_story(STUDY).orders
    return orders[0].priority if orders else None


@pytest.mark.parametrize(
    ("changes", "is_found"),
    [
        ({}, True),
        ({"accession_number": "A2"}, False),
        ({"patient_id": "P2"}, False),
        ({"accession_number": ""}, False),
        ({"study_instance_uid": "1.2.9"}, True),
        ({"study_instance_uid": STUDY, "accession_number": "", "patient_id": "other"}, True),
    ],
)
def test_an_order_is_found_by_study_else_by_number_and_patient(
    books: Books, changes: dict[str, str], is_found: bool
) -> None:
    tell(books, replace(ORDER, **changes))  # type: ignore[arg-type]  # texts only
    arrive(books)
    assert (urgency_of(books) is Priority.STAT) is is_found


def test_an_order_that_names_the_study_counts_alone(books: Books) -> None:
    named = replace(ORDER, identity="other", study_instance_uid=STUDY, priority=Priority.LOW)
    tell(books, ORDER, named)
    arrive(books)
    assert [one.priority for one in books.view.study_story(STUDY).orders] == [Priority.LOW]


def test_images_without_number_match_no_order_without_number(books: Books) -> None:
    tell(books, replace(ORDER, accession_number="", patient_id=""))
    arrive(books, accession="", patient="")
    assert urgency_of(books) is None


RULES = parse_rules(
    tomllib.loads(
        """
        [[rules]]
        name = "emergency"
        when = { modality = "CT", order_priority = ["stat", "high"], requesting_service = "emergency" }
        run = ["lung_nodules"]
        [[rules]]
        name = "by code"
        when = { procedure_code = "CTCH" }
        forward = ["pacs"]
        """
    )["rules"],
    pipelines=PIPELINES,
    destinations=("pacs",),
)


def outcomes(books: Books) -> list[Outcome]:
    decisions, _, _ = route_study(books.studies.study_facts(STUDY), RULES, MODELS)
    return [decision.outcome for decision in decisions]


def test_rules_ask_of_orders_and_stay_undetermined_without_one(books: Books) -> None:
    arrive(books)
    assert outcomes(books) == [Outcome.UNDETERMINED, Outcome.UNDETERMINED]
    tell(books, ORDER)
    assert outcomes(books) == [Outcome.MATCH, Outcome.MATCH]
    tell(books, replace(ORDER, state=OrderState.CANCELED))
    assert outcomes(books) == [Outcome.UNDETERMINED, Outcome.UNDETERMINED]


def test_what_the_images_say_counts_more_than_the_order(books: Books) -> None:
    tell(books, ORDER)
    said: dict[str, Any] = {"RequestingService": "Ward 4", "ProcedureCodeSequence": ["99LOCAL:CTAB"]}
    books.instances.record_instance(make_facts(AccessionNumber="A1", PatientID="P1", **said))
    assert outcomes(books) == [Outcome.NO_MATCH, Outcome.NO_MATCH]


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [(Priority.STAT, Priority.STAT), (Priority.LOW, Priority.ROUTINE), (None, Priority.ROUTINE)],
)
def test_the_more_urgent_of_rule_and_order_counts(books: Books, ordered: Priority | None, expected: Priority) -> None:
    tell(books, replace(ORDER, priority=ordered))
    arrive(books)
    rules = parse_rules(
        [{"name": "CT", "when": {"modality": "CT"}, "run": ["lung_nodules"]}], pipelines=PIPELINES, destinations=()
    )
    _, (order,), _ = route_study(books.studies.study_facts(STUDY), rules, MODELS)
    assert order.priority is expected


def test_an_order_that_comes_after_the_study_raises_what_waits(books: Books) -> None:
    arrive(books)
    books.route(make_order())
    tell(books, ORDER)
    hear(books)
    assert books.only_job().order.priority is Priority.STAT
    assert books.kinds().count("order-heard") == 1
    hear(books)
    assert books.kinds().count("order-heard") == 1


@pytest.mark.parametrize("asks", [True, False])
def test_rules_are_asked_again_where_they_ask_of_orders(books: Books, asks: bool) -> None:
    arrive(books)
    books.route(make_order())
    tell(books, ORDER)
    hear(books, asks=asks)
    assert books.studies.settled_studies(5) == ((STUDY,) if asks else ())


def test_a_study_that_was_refused_is_not_asked_about_again(books: Books) -> None:
    arrive(books)
    books.studies.refuse_study(STUDY, reason="incomplete", now=NOON)
    tell(books, ORDER)
    hear(books, asks=True)
    assert books.studies.settled_studies(5) == ()


def test_a_message_that_says_the_same_is_no_news(books: Books) -> None:
    arrive(books)
    for second in (1.0, 2.0):
        tell(books, replace(ORDER, control_id=f"M{second}"), second=second)
        hear(books, second=second)
    assert books.kinds().count("order-heard") == 1


def test_an_order_whose_study_never_came_is_forgotten(books: Books) -> None:
    tell(books, ORDER, replace(ORDER, identity="other", accession_number="A9"))
    arrive(books)
    hear(books)
    hear(books, second=91 * 86_400)
    kept = OrderLedger(books.engine).list_orders(5)
    assert [order.accession_number for order in kept] == ["A1"]


def test_the_station_comes_back_when_something_is_to_be_forgotten(books: Books) -> None:
    station = ImagingOrders(OrderLedger(books.engine), are_asked_for=False, keep=timedelta(days=90))
    assert station.tick(NOON) == NOON + FORGET_EVERY


@pytest.mark.parametrize(
    ("table", "asks"),
    [
        ({"when": {"modality": "CT"}}, False),
        ({"when": {"order_priority": "stat"}}, True),
        ({"when": {"any": [{"modality": "CT"}, {"not": {"procedure_code": "X"}}]}}, True),
        ({"inputs": {"ct": [{"requesting_service": "ER"}]}}, True),
    ],
)
def test_whether_rules_ask_of_orders(table: dict[str, object], asks: bool) -> None:
    assert ask_of_orders([table]) is asks
