"""What we propose in an A-ASSOCIATE-RQ, and what a peer's answer to it says (PS3.8 9.3.2 to 9.3.4)."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from struct import Struct, pack, unpack

from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)

from node.domain.capability import Form
from node.errors import NotDicom
from node.header.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# We receive responses only; none of the standard's is longer than a few hundred bytes.
MAX_PDU_BYTES = 16 * 1024
# Result of a Presentation Context (PS3.8 table 9-18).
ACCEPTED = 0
# Item types (PS3.8 9.3.3 and D.1).
ANSWERED_CONTEXT = 0x21
TRANSFER_SYNTAX = 0x40
USER_INFORMATION = 0x50
MAXIMUM_LENGTH = 0x51
ROLE_SELECTION = 0x54
ITEM_HEADER = Struct(">BxH")
# What stands before the items: protocol version, reserved, and three reserved fields of 16, 16 and 32 bytes.
FIXED_FIELDS_BYTES = 68
CONTEXT_FIELDS_BYTES = 4
REJECTION = Struct(">xBBB")
# Length of the UID at the beginning of a role selection sub-item.
ROLE_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What an A-ASSOCIATE-AC says.

    Attributes
    ----------
    results
        Result of each Presentation Context by its ID; 0 is acceptance (PS3.8 table 9-18).
    transfer_syntaxes
        The Transfer Syntax UID that the peer chose, by the ID of the Presentation Context; the accepted ones only.
    max_pdu_bytes
        Longest P-DATA-TF PDU that the peer takes; 0 for no limit.
    scp_roles
        SOP Class UIDs of which we may be the SCP, as we proposed.
    """

    results: Mapping[int, int]
    transfer_syntaxes: Mapping[int, str]
    max_pdu_bytes: int
    scp_roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """What an A-ASSOCIATE-RJ says (PS3.8 table 9-21).

    Attributes
    ----------
    result, source, reason
        As numbers.
    words
        The reason, for people.
    """

    result: int
    source: int
    reason: int
    words: str


def encode_request(
    *,
    called_aet: str,
    calling_aet: str,
    contexts: Mapping[int, Form],
    scp_roles: Collection[str] = (),
    max_pdu_bytes: int = MAX_PDU_BYTES,
) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes one Transfer Syntax in each Presentation Context.

    Parameters
    ----------
    contexts
        SOP Class UID and Transfer Syntax UID by Presentation Context ID; at most 128, the IDs odd, 1-255.
    scp_roles
        SOP Class UIDs of which we want to be the SCP, and not the SCU (PS3.7 D.3.3.4).
    max_pdu_bytes
        Longest P-DATA-TF PDU that we take.
    """
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT
    request.called_ae_title, request.calling_ae_title = called_aet, calling_aet
    proposals = []
    for context_id, (sop_class_uid, transfer_syntax_uid) in contexts.items():
        proposal = build_context(sop_class_uid, transfer_syntax_uid)
        proposal.context_id = context_id
        proposals.append(proposal)
    request.presentation_context_definition_list = proposals
    length, class_uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    version_name = ImplementationVersionNameNotification()
    length.maximum_length_received = max_pdu_bytes
    class_uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version_name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request.user_information = [length, class_uid, version_name, *map(_scp_role, scp_roles)]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def read_acceptance(body: bytes) -> Acceptance:
    """Return what the body of an A-ASSOCIATE-AC says.

    Items and sub-items of unknown types are passed over, as PS3.8 9.3.1 and D.2 ask; pynetdicom refuses them.

    Raises
    ------
    NotDicom
        If it is damaged.
    """
    results: dict[int, int] = {}
    syntaxes: dict[int, str] = {}
    max_pdu_bytes = 0
    scp_roles: set[str] = set()
    for kind, content in _items(body[FIXED_FIELDS_BYTES:]):
        if kind == ANSWERED_CONTEXT:
            if len(content) < CONTEXT_FIELDS_BYTES:
                raise NotDicom("a Presentation Context of the A-ASSOCIATE-AC is cut")
            context_id, result = content[0], content[2]
            results[context_id] = result
            if result == ACCEPTED:
                chosen = dict(_items(content[CONTEXT_FIELDS_BYTES:])).get(TRANSFER_SYNTAX, b"")
                syntaxes[context_id] = chosen.decode("latin-1").strip("\0 ")
        elif kind == USER_INFORMATION:
            length = dict(_items(content)).get(MAXIMUM_LENGTH, b"")
            # Absent, it sets no limit (PS3.8 D.1.1).
            max_pdu_bytes = unpack(">I", length)[0] if len(length) == 4 else 0
            scp_roles |= {_read_role(item) for item_kind, item in _items(content) if item_kind == ROLE_SELECTION}
    return Acceptance(
        results=results,
        transfer_syntaxes=syntaxes,
        max_pdu_bytes=max_pdu_bytes,
        scp_roles=frozenset(scp_roles) - {""},
    )


def _scp_role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = sop_class_uid
    role.scu_role, role.scp_role = False, True
    return role


def _read_role(item: bytes) -> str:
    """Return the SOP Class of which we may be the SCP, empty where we may not (PS3.7 table D.3-10)."""
    length = int.from_bytes(item[:ROLE_LENGTH_BYTES])
    uid, roles = item[ROLE_LENGTH_BYTES:][:length], item[ROLE_LENGTH_BYTES + length :]
    return uid.decode("latin-1").strip("\0 ") if roles[1:2] == b"\x01" else ""


def read_rejection(body: bytes) -> Rejection:
    """Return what the body of an A-ASSOCIATE-RJ says.

    Raises
    ------
    NotDicom
        If it is cut.
    """
    if len(body) < REJECTION.size:
        raise NotDicom("the A-ASSOCIATE-RJ is cut")
    result, source, reason = REJECTION.unpack_from(body)
    pdu = A_ASSOCIATE_RJ()
    try:
        pdu.decode(pack(">BxI", 0x03, REJECTION.size) + body[: REJECTION.size])
        words = pdu.reason_str
    except ValueError:
        words = f"result {result}, source {source}, reason {reason}, which PS3.8 does not know"
    return Rejection(result=result, source=source, reason=reason, words=words)


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item."""
    at = 0
    while at < len(content):
        if at + ITEM_HEADER.size > len(content):
            raise NotDicom("an item of the A-ASSOCIATE-AC is cut")
        kind, length = ITEM_HEADER.unpack_from(content, at)
        at += ITEM_HEADER.size
        if at + length > len(content):
            raise NotDicom(f"item {kind:02X}H of the A-ASSOCIATE-AC is longer than what holds it")
        yield kind, content[at : at + length]
        at += length
