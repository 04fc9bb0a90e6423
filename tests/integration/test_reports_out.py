"""What a RIS or HIS is told of answers, over real sockets: one effective report, whatever the receiver does."""

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.delivery.fhir import FhirMessenger
from node.delivery.probe import probe_destination
from node.delivery.walk import walk_to
from node.domain.result import Delivery, DeliveryState
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.peer import DestinationSpec
from node.tls import TlsIdentity, TlsTrust, server_context
from tests.answers import NODULE_1, NODULE_2, RIS, answer, correct, make_answer, take_back, take_order
from tests.certificates import Authority
from tests.couriers import Hand, Office
from tests.fhir_server import FhirServer, Reply, fhir_server
from tests.ledgers import at
from tests.mllp_receiver import (
    MllpReceiver,
    acknowledge,
    babble,
    control_id,
    fields,
    hang_up,
    mllp_receiver,
    say_nothing,
)

SHORT_S = 0.3
LIMIT_S = 20.0
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"code": "required", "diagnostics": "Müller has no name"}]}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    made.clock.now = at(1000)
    yield made
    made.books.close()


def hl7(port: int, **changes: object) -> DestinationSpec:
    spec = DestinationSpec(name=RIS, transport="hl7", host="127.0.0.1", port=port, timeout_s=LIMIT_S)
    return replace(spec, **changes)  # type: ignore[arg-type]  # a table of mixed values


def fhir(url: str, **changes: object) -> DestinationSpec:
    spec = DestinationSpec(name=RIS, transport="fhir", url=url, timeout_s=LIMIT_S)
    return replace(spec, **changes)  # type: ignore[arg-type]  # ditto


def hand(office: Office, place: MllpReceiver | FhirServer) -> Hand:
    return office.hire(hl7(place.port) if isinstance(place, MllpReceiver) else fhir(place.url))


def only(office: Office) -> Delivery:
    (found,) = office.deliveries(RIS)
    return found


def names_patient(text: str, caplog: pytest.LogCaptureFixture) -> bool:
    told = [text, *(str(vars(record)) for record in caplog.records)]
    assert len(told) > 1
    return any(word in one for one in told for word in ("Müller", "47|11", "A&1"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_an_answer_is_one_message_and_no_object(office: Office) -> None:
    take_order(office.books)
    answer(office.books, NODULE_1)
    assert len(office.deliveries(RIS)) == 2
    with mllp_receiver() as receiver:
        hand(office, receiver).work()
    assert (only(office).state, only(office).sop_instance_uid) == (DeliveryState.SENT, "2.25.11")
    (message,) = receiver.heard
    assert fields(message, "OBR")[2:4] == ["PL1", "FI1"]


def test_of_a_receiver_that_does_everything_wrong_there_is_one_report(office: Office) -> None:
    answer(office.books, NODULE_1)
    wrongs = (hang_up, babble, acknowledge(of="another"), acknowledge("AR", condition="207"), acknowledge("XX"))
    with mllp_receiver(*wrongs) as receiver:
        hand(office, receiver).work()
    assert (only(office).state, only(office).attempts) == (DeliveryState.SENT, len(wrongs) + 1)
    assert len(receiver.heard) == len(wrongs) + 1
    # Byte for byte the same, so that whoever looks at MSH-10 files it once.
    assert len(set(receiver.heard)) == len(receiver.filed) == 1


def test_one_that_is_silent_is_told_again_by_the_same_number(office: Office) -> None:
    answer(office.books, NODULE_1)
    with mllp_receiver(say_nothing) as receiver:
        office.hire(hl7(receiver.port, timeout_s=SHORT_S)).work(holds=lambda: not receiver.heard)
        assert (only(office).state, only(office).reason_code) == (DeliveryState.PENDING, "unanswered")
        hand(office, receiver).work()
    assert only(office).state is DeliveryState.SENT
    assert control_id(receiver.heard[0]) == control_id(receiver.heard[1])


def test_one_that_is_down_gets_everything_when_it_is_back(office: Office) -> None:
    answer(office.books, NODULE_1)
    port = free_port()
    courier = office.hire(hl7(port))
    courier.work(until=at(1040))
    assert (only(office).state, only(office).reason_code) == (DeliveryState.PENDING, "destination-down")
    assert only(office).attempts == 0
    with mllp_receiver(port=port) as receiver:
        courier.work()
    assert (only(office).state, len(receiver.heard)) == (DeliveryState.SENT, 1)


@pytest.mark.parametrize(
    ("code", "condition", "words"),
    [("AE", "102", "AE, Data type error, at PID^1^5"), ("AR", "200", "AR, Unsupported message type, at PID^1^5")],
)
def test_what_a_receiver_refuses_is_a_matter_for_a_person(
    office: Office, code: str, condition: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer(office.books, NODULE_1)
    with mllp_receiver(acknowledge(code, condition=condition)) as receiver:
        hand(office, receiver).work()
    refused = only(office)
    assert (refused.state, refused.reason_code) == (DeliveryState.REFUSED, "report-refused")
    # Its words are not repeated: they name the patient.
    assert words in (refused.reason_text or "")
    assert not names_patient(refused.reason_text or "", caplog)
    assert not receiver.filed


def test_messages_leave_on_one_connection_until_the_receiver_ends_it(office: Office) -> None:
    answer(office.books, NODULE_1)
    with mllp_receiver() as receiver:
        courier = hand(office, receiver)
        courier.work()
        answer(office.books, NODULE_1, NODULE_2, numbers=(1, 2))
        receiver.script.append(hang_up)
        courier.work()
        assert receiver.connections == 2
    assert [fields(message, "OBR")[25] for message in receiver.heard] == ["P", "C", "C"]
    assert office.states(RIS) == {"SENT"}


def test_what_is_taken_back_is_told_and_then_what_is_right(office: Office) -> None:
    answer(office.books, NODULE_1, NODULE_2)
    with mllp_receiver() as receiver:
        courier = hand(office, receiver)
        courier.work()
        retraction = take_back(office.books, "2.25.11", "Nodule 1")
        courier.work()
        correct(office.books, retraction)
        courier.work()
    statuses = [{line.split("|")[11] for line in one.split("\r") if line.startswith("OBX")} for one in receiver.heard]
    assert statuses == [{"P"}, {"D"}, {"C", "D"}]
    assert len(office.deliveries(RIS)) == 3


def test_an_answer_that_was_taken_back_before_it_left_is_not_told_as_if_it_stood(office: Office) -> None:
    answer(office.books, NODULE_1)
    take_back(office.books, "2.25.11")
    with mllp_receiver() as receiver:
        hand(office, receiver).work()
    assert {line.split("|")[11] for line in receiver.heard[0].split("\r") if line.startswith("OBX")} == {"D"}
    assert len(receiver.heard) == 1


def test_it_waits_for_the_rules_and_not_for_a_person(office: Office) -> None:
    answer(office.books, NODULE_1, is_heard=False)
    with mllp_receiver() as receiver:
        courier = hand(office, receiver)
        courier.call()
        waiting = next(one for one in office.deliveries(RIS) if one.state is DeliveryState.PENDING)
        assert (waiting.reason_code, receiver.heard) == ("answer-unheard", [])
        office.books.studies.hear_answers(frozenset(), now=office.clock.now)
        courier.work()
    assert len(receiver.heard) == 1


def test_mllp_by_tls_is_spoken_with_whom_the_site_trusts(office: Office, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    signed = authority.sign("ris")
    context = server_context(TlsIdentity(certificate=signed.certificate, key=signed.key))
    answer(office.books, NODULE_1)
    with mllp_receiver(tls=context) as receiver:
        spec = hl7(receiver.port, tls=TlsTrust(ca=authority.certificate))
        assert probe_destination(spec).endswith("takes connections by TLS")
        office.hire(spec).work()
    assert only(office).state is DeliveryState.SENT


def test_a_fhir_service_that_fails_in_every_way_has_one_report(office: Office) -> None:
    answer(office.books, NODULE_1)
    wrongs = (
        Reply(status=0),
        Reply(status=0, is_taken=True),
        Reply(status=503),
        Reply(status=500, body=OUTCOME),
        Reply(status=200, body={"resourceType": "Patient"}, is_taken=True),
        Reply(status=502),
    )
    with fhir_server(*wrongs) as server:
        hand(office, server).work()
    # While it wants to be left alone, nothing counts against the report.
    assert (only(office).state, only(office).attempts) == (DeliveryState.SENT, len(wrongs))
    assert server.requests == len(wrongs) + 1
    assert {kind: len(found) for kind, found in server.held.items()} == {
        "Patient": 1,
        "ImagingStudy": 1,
        "Device": 1,
        "Observation": 1,
        "DiagnosticReport": 1,
    }


def test_a_fhir_service_that_refuses_is_not_asked_again_and_not_quoted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer(office.books, NODULE_1)
    with fhir_server(Reply(status=422, body=OUTCOME)) as server:
        hand(office, server).work()
    refused = only(office)
    assert (refused.state, refused.reason_code, server.requests) == (DeliveryState.REFUSED, "report-refused", 1)
    assert "(HTTP 422, required)" in (refused.reason_text or "")
    assert not names_patient(refused.reason_text or "", caplog)


@pytest.mark.parametrize("wanted", ["600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_fhir_service_is_left_alone_as_long_as_it_wants(wanted: str) -> None:
    with fhir_server(Reply(status=429, headers={"Retry-After": wanted})) as server:
        messenger = FhirMessenger(fhir(server.url))
        for _ in range(2):
            with pytest.raises(DestinationBusy):
                messenger.tell(make_answer(NODULE_1))
        assert server.requests == 1


@pytest.mark.parametrize("wanted", ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "-5"])
def test_a_fhir_service_that_does_not_say_how_long_it_is_busy_is_asked_again(wanted: str) -> None:
    busy = Reply(status=503, headers={"Retry-After": wanted})
    with fhir_server(busy, busy) as server:
        messenger = FhirMessenger(fhir(server.url))
        for _ in range(2):
            with pytest.raises(DestinationBusy):
                messenger.tell(make_answer(NODULE_1))
        assert server.requests == 2


def test_a_bearer_token_is_shown_and_never_said(office: Office) -> None:
    answer(office.books, NODULE_1)
    with fhir_server(token="s3cret") as server:
        assert "FHIR R4" in probe_destination(fhir(server.url, token="s3cret"))
        with pytest.raises(Misconfigured, match=r"destinations\.ris\.token"):
            probe_destination(fhir(server.url))
        spec = fhir(server.url, token="wrong")
        office.hire(spec).work(until=at(1100))
        assert only(office).reason_code == "misconfigured"
        assert "wrong" not in f"{only(office).reason_text} {spec}"
        office.hire(fhir(server.url, token="s3cret")).work()
    assert only(office).state is DeliveryState.SENT


def test_a_test_of_the_way_tells_how_far_one_comes_and_sends_nothing() -> None:
    with mllp_receiver() as receiver, fhir_server() as server:
        mllp, service = walk_to(hl7(receiver.port), limit_s=LIMIT_S), walk_to(fhir(server.url), limit_s=LIMIT_S)
        server.version = "5.0.0"
        newer = walk_to(fhir(server.url), limit_s=LIMIT_S)
        assert [step.name for step in mllp.steps] == ["Name", "TCP", "MLLP"]
        assert [step.name for step in service.steps] == ["Name", "TCP", "FHIR"]
        assert (mllp.is_passed, service.is_passed, newer.is_passed) == (True, True, False)
        assert "destinations.ris.url" in newer.steps[-1].said
        assert (receiver.heard, server.requests) == ([], 0)
    with pytest.raises(DestinationDown, match="check host and port, and that it runs"):
        probe_destination(hl7(free_port()))
