"""Who may report what it holds: a Destination as the SCP of Storage Commitment, and nobody else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dimse.command import C_STORE_RQ, N_EVENT_REPORT_RQ
from node.dimse.contexts import NO_ABSTRACT_SYNTAX, STORAGE_COMMITMENT, is_offered
from node.dimse.negotiation import HouseRules, judge_request, write_choices
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT
from tests.pdus import IMPLEMENTATION, Item, Pdu, associate_rq, item, items, pdu, proposal

RULES = HouseRules(aet="RADNODE", reporting_aets=frozenset({"PACS"}))
FIXED_BYTES = 74
COMMITMENT = proposal(1, STORAGE_COMMITMENT, IMPLICIT, EXPLICIT)
STORAGE = proposal(3, CT_IMAGE_STORAGE, IMPLICIT)


def role(uid: str, *, scu: int, scp: int) -> bytes:
    name = uid.encode()
    return item(Item.ROLE_SELECTION, struct.pack(">H", len(name)) + name + bytes((scu, scp)))


def request(*, calling: str = "PACS", proposals: tuple[bytes, ...] = (COMMITMENT,), roles: bytes = b"") -> bytes:
    return associate_rq(calling=calling, proposals=proposals, user_items=IMPLEMENTATION + roles)


def answered_roles(encoded: bytes) -> list[bytes]:
    """Return the role selections in the answer that goes out for a request."""
    verdict = judge_request(encoded, RULES)
    user = item(Item.USER_INFORMATION, item(Item.MAXIMUM_LENGTH, bytes(4)))
    bare = pdu(Pdu.ASSOCIATE_AC, struct.pack(">HH", 1, 0) + bytes(64) + user)
    written = write_choices(bare, verdict.choices, verdict.role)
    assert struct.unpack_from(">I", written, 2) == (len(written) - 6,)
    (user_information,) = (body for kind, body in items(written[FIXED_BYTES:]) if kind == Item.USER_INFORMATION)
    return [body for kind, body in items(user_information) if kind == Item.ROLE_SELECTION]


def test_a_destination_may_report() -> None:
    verdict = judge_request(request(), RULES)
    assert verdict.refusal is None
    assert verdict.choices[1].is_accepted
    assert verdict.choices[1].transfer_syntax_uid == EXPLICIT


def test_nobody_else_may_report_and_may_store_all_the_same() -> None:
    verdict = judge_request(request(calling="MODALITY", proposals=(COMMITMENT, STORAGE)), RULES)
    assert verdict.choices[1].result == NO_ABSTRACT_SYNTAX
    assert verdict.choices[3].is_accepted
    assert answered_roles(request(calling="MODALITY", roles=role(STORAGE_COMMITMENT, scu=0, scp=1))) == []


@pytest.mark.parametrize(("scu", "scp"), [(0, 1), (1, 1), (1, 0), (0, 0)])
def test_the_requestor_may_be_scp_and_not_scu(scu: int, scp: int) -> None:
    (answer,) = answered_roles(request(roles=role(STORAGE_COMMITMENT, scu=scu, scp=scp)))
    assert answer[2:-2] == STORAGE_COMMITMENT.encode()
    assert tuple(answer[-2:]) == (0, scp)


def test_a_role_that_is_not_proposed_is_not_answered() -> None:
    assert answered_roles(request()) == []


def test_roles_for_storage_are_not_answered() -> None:
    roles = role(CT_IMAGE_STORAGE, scu=1, scp=1)
    assert answered_roles(request(proposals=(COMMITMENT, STORAGE), roles=roles)) == []


def test_a_role_without_its_presentation_context_is_not_answered() -> None:
    assert answered_roles(request(proposals=(STORAGE,), roles=role(STORAGE_COMMITMENT, scu=0, scp=1))) == []


@given(st.binary(max_size=40))
def test_any_bytes_as_a_role_are_answered_or_passed_over(body: bytes) -> None:
    assert len(answered_roles(request(roles=item(Item.ROLE_SELECTION, body)))) <= 1


def test_reports_are_served_in_their_context_only() -> None:
    served = [
        (command, uid)
        for command in (C_STORE_RQ, N_EVENT_REPORT_RQ)
        for uid in (STORAGE_COMMITMENT, CT_IMAGE_STORAGE)
        if is_offered(command, uid)
    ]
    assert served == [(C_STORE_RQ, CT_IMAGE_STORAGE), (N_EVENT_REPORT_RQ, STORAGE_COMMITMENT)]
