"""From an HL7 message to the orders that it gives."""

import pytest

from node.domain.imaging_order import OrderState
from node.domain.job import Priority
from node.errors import MessageRefused, MessageUnsupported
from node.hl7.order_message import read_orders
from node.hl7.reader import read_message
from tests.hl7_messages import omi, orm

UID = "1.2.840.99.1"


def test_an_omi_is_read_as_an_order() -> None:
    (order,) = read_orders(read_message(omi(uid=UID).encode()))
    assert (order.placer_order_number, order.filler_order_number, order.accession_number) == ("PL1", "FI1", "A1")
    assert (order.study_instance_uid, order.patient_id, order.patient_id_issuer) == (UID, "P1", "HOSP")
    assert (order.procedure_codes, order.procedure_text) == (("99LOCAL:CTCH",), "CT chest & abdomen")
    assert (order.priority, order.state) == (Priority.STAT, OrderState.ORDERED)
    assert (order.requested_by, order.requesting_service) == ("Doctor Who", "Emergency Medicine")
    assert order.scheduled_at is not None
    assert (order.source, order.control_id) == ("RIS/HOSP", "M1")


def test_an_orm_of_an_old_version_is_read_as_an_order() -> None:
    (order,) = read_orders(read_message(orm(priority="A").encode()))
    assert (order.accession_number, order.study_instance_uid) == ("A2", "1.2.840.99.7")
    assert (order.procedure_codes, order.priority) == (("LN:24627-2",), Priority.HIGH)
    assert order.requested_by == "An Asker"


def test_each_order_of_a_message_is_one() -> None:
    rest = omi(placer="PL9").partition("ORC|")[2]
    orders = read_orders(read_message(f"{omi()}ORC|{rest}".encode()))
    assert [order.placer_order_number for order in orders] == ["PL1", "PL9"]
    assert len({order.identity for order in orders}) == 2


@pytest.mark.parametrize(
    ("control", "status", "state"),
    [
        ("NW", "", OrderState.ORDERED),
        ("XO", "SC", OrderState.ORDERED),
        ("SC", "CA", OrderState.CANCELED),
        ("CA", "", OrderState.CANCELED),
        ("OC", "", OrderState.CANCELED),
        ("DC", "", OrderState.CANCELED),
    ],
)
def test_order_control_and_status_tell_whether_it_stands(control: str, status: str, state: OrderState) -> None:
    message = omi(control=control).replace("|FI1^RIS||||||2025", f"|FI1^RIS||{status}||||2025")
    (order,) = read_orders(read_message(message.encode()))
    assert order.state is state


@pytest.mark.parametrize(
    ("word", "priority"),
    [("S", Priority.STAT), ("A", Priority.HIGH), ("R", Priority.ROUTINE), ("T", Priority.ROUTINE), ("Q", None)],
)
def test_priorities(word: str, priority: Priority | None) -> None:
    (order,) = read_orders(read_message(omi(priority=word).encode()))
    assert order.priority is priority


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("", "utf-8"), ("", "latin-1")],
)
def test_character_sets(charset: str, codec: str) -> None:
    message = omi(charset=charset).replace("Emergency Medicine", "Unfälle")
    (order,) = read_orders(read_message(message.encode(codec)))
    assert order.requesting_service == "Unfälle"


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_other_ends_of_lines_are_read(end: str) -> None:
    (order,) = read_orders(read_message(omi().replace("\r", end).encode()))
    assert order.accession_number == "A1"


@pytest.mark.parametrize(
    ("old", "new", "place", "condition"),
    [
        ("MSH|^~\\&|RIS", "MSX|^~\\&|RIS", "MSH^1^1", 100),
        ("MSH|^~\\&|", "MSH|^^\\&|", "MSH^1^2", 102),
        ("UNICODE UTF-8", "KLINGON", "MSH^1^18", 103),
        ("|M1|", "||", "MSH^1^10", 101),
        ("PID|1||P1^^^HOSP^MR", "PID|1||", "PID^1^3^1^1", 101),
        ("\rPID|", "\rZPD|", "PID^1", 100),
        ("\rORC|", "\rZRC|", "ORC^1", 100),
        ("ORC|NW|", "ORC|ZZ|", "ORC^1^1", 103),
        ("ORC|NW|", "ORC||", "ORC^1^1", 101),
        ("|20250114121500|", "|tomorrow|", "TQ1^1^7^1^1", 102),
        ("IPC|A1|RP1||", "IPC|A1|RP1|1.2.x|", "IPC^1^3", 102),
        ("P1^^^HOSP", "P" * 65 + "^^^HOSP", "PID^1^3", 102),
        ("\rPV1|", "\rP|", "PID^1", 100),
    ],
)
def test_what_is_wrong_is_named_by_its_place(old: str, new: str, place: str, condition: int) -> None:
    text = omi()
    assert old in text
    with pytest.raises(MessageRefused) as refused:
        read_orders(read_message(text.replace(old, new).encode()))
    assert (refused.value.place, refused.value.condition) == (place, condition)
    assert "Doe" not in str(refused.value)


def test_an_order_without_any_number_is_refused() -> None:
    message = omi().replace("PL1^RIS", "").replace("FI1^RIS", "")
    with pytest.raises(MessageRefused) as refused:
        read_orders(read_message(message.encode()))
    assert refused.value.place == "ORC^1^2^1^1"


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [
        ("OMI^O23^OMI_O23", "ADT^A01", 200),
        ("OMI^O23^OMI_O23", "OMI^O99", 201),
        ("|P|2.5.1", "|T|2.5.1", 202),
        ("|P|2.5.1", "|P|3.0", 203),
    ],
)
def test_other_messages_are_not_supported(old: str, new: str, condition: int) -> None:
    with pytest.raises(MessageUnsupported) as refused:
        read_orders(read_message(omi().replace(old, new).encode()))
    assert refused.value.condition == condition


def test_bytes_that_are_not_in_the_set_they_name_are_refused() -> None:
    message = omi().replace("Doctor", "Döctor").encode("latin-1")
    with pytest.raises(MessageRefused) as refused:
        read_message(message)
    assert refused.value.place == "MSH^1^18"
