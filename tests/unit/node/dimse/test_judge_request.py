"""A-ASSOCIATE-RQ, whatever its bytes: judged without an exception, and written so that pynetdicom reads it."""

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from node.dimse.contexts import NO_TRANSFER_SYNTAX
from node.dimse.negotiation import Abortion, HouseRules, Rejection, judge_request
from tests.pdus import PROPOSALS, associate_rq

RULES = HouseRules(aet="RADNODE", calling_aets=frozenset({"MODALITY"}))
WHOLE = associate_rq()


def read_by_pynetdicom(encoded: bytes) -> A_ASSOCIATE_RQ:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encoded)
    assert pdu.encode() == encoded
    pdu.to_primitive()
    return pdu


def test_plain_request_goes_through() -> None:
    verdict = judge_request(WHOLE, RULES)
    assert verdict.refusal is None
    pdu = read_by_pynetdicom(verdict.encoded)
    assert (pdu.called_ae_title, pdu.calling_ae_title) == ("RADNODE", "MODALITY")
    # The others are none of pynetdicom's business.
    assert [(c.context_id, c.abstract_syntax) for c in pdu.presentation_context] == [(3, "1.2.840.10008.1.1")]
    assert {number: choice.abstract_syntax_uid for number, choice in verdict.choices.items()} == {
        1: "1.2.840.10008.5.1.4.1.1.2",
        3: "1.2.840.10008.1.1",
        5: "1.2.840.10008.5.1.4.1.1.2",
    }
    assert all(choice.is_accepted for choice in verdict.choices.values())
    assert pdu.user_information is not None
    assert pdu.user_information.maximum_length == 16384


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_fixed_fields_are_judged_and_can_be_read(tail: bytes) -> None:
    verdict = judge_request(WHOLE[:74] + tail, RULES)
    assert verdict.refusal is None or isinstance(verdict.refusal, Rejection | Abortion)
    read_by_pynetdicom(verdict.encoded)


@given(st.data())
def test_changed_bytes_are_judged_and_can_be_read(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(WHOLE) - 1))] = data.draw(st.integers(0, 255))
    read_by_pynetdicom(judge_request(bytes(changed), RULES).encoded)


@given(st.integers(0, len(WHOLE) - 1))
def test_cut_request_is_refused_and_what_remains_can_be_read(length: int) -> None:
    verdict = judge_request(WHOLE[:length], RULES)
    # A cut between two Presentation Contexts leaves a request that is whole, but for what it does not say.
    ends = {74 + 25 + sum(map(len, PROPOSALS[:count])) for count in (1, 2, 3)}
    assert (verdict.refusal is None) == (length in ends)
    read_by_pynetdicom(verdict.encoded)


def test_a_title_is_judged_before_what_stands_behind_it_is_read() -> None:
    verdict = judge_request(associate_rq(calling="STRANGER", items=b"\x10\x00\xff\xff"), RULES)
    assert isinstance(verdict.refusal, Rejection)
    assert verdict.refusal.answer == (1, 1, 3)
    assert len(verdict.encoded) < 150


def test_thirteen_thousand_transfer_syntaxes_that_nobody_knows_are_refused() -> None:
    many = b"".join(b"\x40\x00\x00\x01" + bytes([48 + number % 10]) for number in range(13000))
    abstract = b"\x30\x00\x00\x11" + b"1.2.840.10008.1.1"
    proposal = b"\x20\x00" + (4 + len(abstract) + len(many)).to_bytes(2) + b"\x01\0\0\0" + abstract + many
    verdict = judge_request(associate_rq(proposals=[proposal]), RULES)
    assert verdict.refusal is None
    assert read_by_pynetdicom(verdict.encoded).presentation_context == []
    assert verdict.choices[1].result == NO_TRANSFER_SYNTAX
