"""Command Sets: reading a request with limits, and writing the response to it (PS3.7 6.3, 9.3, annex E)."""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, pack

from node.errors import NotDicom

# The longest of the standard's Command Sets has a few hundred bytes.
MAX_COMMAND_BYTES = 16 * 1024
C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
C_CANCEL_RQ = 0x0FFF
# Set in the Command Field of every response.
IS_RESPONSE = 0x8000
UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 annex C
NO_DATA_SET = 0x0101
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000
P_DATA_TF = 0x04
# Message Control Header (PS3.8 E.2): bit 0 command, bit 1 last fragment.
IS_COMMAND = 0x01
IS_LAST = 0x02
PDU_HEADER = Struct(">BxI")
PDV_HEADER = Struct(">IBB")
# What a Presentation Data Value item counts of its own header: context ID and control header.
PDV_OVERHEAD = 2
_ELEMENT = Struct("<HHI")
_UNSIGNED_SHORT = Struct("<H")
MAX_UID_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What the lane needs to know of a request's Command Set.

    Attributes
    ----------
    message_id
        Message ID (0000,0110); None when absent.
    sop_class_uid, sop_instance_uid
        Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000), padding removed; "" when absent.
    """

    command_field: int
    message_id: int | None
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How an operation ended.

    Attributes
    ----------
    status
        Status (0000,0900).
    comment
        Error Comment (0000,0902), ASCII, at most 64 characters; "" for none.
    """

    status: int
    comment: str = ""


def parse_command(encoded: bytes) -> Command:
    """Return what an encoded Command Set says; it is always in Implicit VR Little Endian.

    Raises
    ------
    NotDicom
        If an element is cut, doubled or of another group, or Command Field or Command Data Set Type is absent.

    References
    ----------
    DICOM PS3.7 6.3.1
    """
    elements = _elements(encoded)
    command_field = _number(elements, COMMAND_FIELD)
    data_set_type = _number(elements, COMMAND_DATA_SET_TYPE)
    if command_field is None or data_set_type is None:
        raise NotDicom("the Command Set lacks Command Field (0000,0100) or Command Data Set Type (0000,0800)")
    return Command(
        command_field=command_field,
        message_id=_number(elements, MESSAGE_ID),
        has_data_set=data_set_type != NO_DATA_SET,
        sop_class_uid=_text(elements, AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_text(elements, AFFECTED_SOP_INSTANCE_UID),
    )


def response_to(request: Command, reply: Reply) -> bytes:
    """Return the Command Set of the response that answers `request`.

    The UIDs are repeated only where they are short enough to be UIDs.
    """
    elements = [
        _uid_element(AFFECTED_SOP_CLASS_UID, request.sop_class_uid),
        _short_element(COMMAND_FIELD, request.command_field | IS_RESPONSE),
        _short_element(MESSAGE_ID_BEING_RESPONDED_TO, request.message_id or 0),
        _short_element(COMMAND_DATA_SET_TYPE, NO_DATA_SET),
        _short_element(STATUS, reply.status),
        _element(ERROR_COMMENT, reply.comment.encode("ascii", "replace"), b" ") if reply.comment else b"",
        _uid_element(AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid),
    ]
    body = b"".join(elements)
    return _ELEMENT.pack(0, 0, 4) + pack("<I", len(body)) + body


def command_pdus(context_id: int, encoded: bytes, *, max_pdu_bytes: int) -> bytes:
    """Return the P-DATA-TF PDUs that carry a Command Set.

    Parameters
    ----------
    max_pdu_bytes
        Largest PDU that the peer takes; 0 = any.
    """
    room = len(encoded) if max_pdu_bytes == 0 else max(max_pdu_bytes - PDV_HEADER.size, 1)
    pdus = []
    for begin in range(0, len(encoded), room):
        piece = encoded[begin : begin + room]
        control = IS_COMMAND | (IS_LAST if begin + room >= len(encoded) else 0)
        pdus.append(p_data(context_id, control, piece))
    return b"".join(pdus)


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return one P-DATA-TF PDU with one Presentation Data Value (PS3.8 9.3.5)."""
    size = len(fragment) + PDV_OVERHEAD
    return PDU_HEADER.pack(P_DATA_TF, size + 4) + PDV_HEADER.pack(size, context_id, control) + fragment


def _elements(encoded: bytes) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        if at + _ELEMENT.size > len(encoded):
            raise NotDicom("the Command Set is cut")
        group, number, length = _ELEMENT.unpack_from(encoded, at)
        at += _ELEMENT.size
        if group != 0 or number in found or at + length > len(encoded):
            raise NotDicom(f"the Command Set is damaged at ({group:04X},{number:04X})")
        found[number] = encoded[at : at + length]
        at += length
    return found


def _number(elements: Mapping[int, bytes], number: int) -> int | None:
    value = elements.get(number, b"")
    return int(_UNSIGNED_SHORT.unpack(value)[0]) if len(value) == _UNSIGNED_SHORT.size else None


def _text(elements: Mapping[int, bytes], number: int) -> str:
    return elements.get(number, b"").decode("latin-1").strip("\0 ")


def _short_element(number: int, value: int) -> bytes:
    return _ELEMENT.pack(0, number, 2) + _UNSIGNED_SHORT.pack(value)


def _uid_element(number: int, uid: str) -> bytes:
    raw = uid.encode("latin-1")
    return _element(number, raw, b"\0") if 0 < len(raw) <= MAX_UID_BYTES else b""


def _element(number: int, raw: bytes, padding: bytes) -> bytes:
    raw += padding * (len(raw) % 2)
    return _ELEMENT.pack(0, number, len(raw)) + raw
