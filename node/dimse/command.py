"""Command Sets: reading a request with limits, and writing the response to it (PS3.7 6.3, 9.3, annex E)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct, pack

from node.errors import NotDicom

# The longest of the standard's Command Sets has a few hundred bytes.
MAX_COMMAND_BYTES = 16 * 1024
C_STORE_RQ = 0x0001
C_FIND_RQ = 0x0020
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_GET_RQ = 0x0110
N_SET_RQ = 0x0120
N_ACTION_RQ = 0x0130
N_CREATE_RQ = 0x0140
C_CANCEL_RQ = 0x0FFF
# Set in the Command Field of every response.
IS_RESPONSE = 0x8000
UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 annex C
NO_DATA_SET = 0x0101
A_DATA_SET = 0x0001
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
ERROR_ID = 0x0903
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
ATTRIBUTE_IDENTIFIER_LIST = 0x1005
ACTION_TYPE_ID = 0x1008
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
_TAG = Struct("<HH")
MAX_UID_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What the lane needs to know of a request's Command Set.

    Attributes
    ----------
    message_id
        Message ID (0000,0110); None when absent.
    sop_class_uid, sop_instance_uid
        Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000), or where these are absent
        Requested SOP Class UID (0000,0003) and Requested SOP Instance UID (0000,1001), padding removed; "" when absent.
    action_type
        Action Type ID (0000,1008); None when absent.
    attributes
        Attribute Identifier List (0000,1005): tags that are asked for; none: all.
    """

    command_field: int
    message_id: int | None
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    action_type: int | None = None
    attributes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How an operation ended.

    Attributes
    ----------
    status
        Status (0000,0900).
    comment
        Error Comment (0000,0902), ASCII, at most 64 characters; "" for none.
    error_id
        Error ID (0000,0903); None for none.
    attributes
        Attribute Identifier List (0000,1005): tags that the status is about.
    sop_instance_uid
        Affected SOP Instance UID (0000,1000) where the request has none; "" repeats that of the request.
    data_set
        What goes with it, in the Transfer Syntax of the Presentation Context; empty: nothing.
    matches
        What goes before it, each in a response of its own with status Pending (PS3.7 9.1.2).
    """

    status: int
    comment: str = ""
    error_id: int | None = None
    attributes: tuple[int, ...] = ()
    sop_instance_uid: str = ""
    data_set: bytes = b""
    matches: tuple[bytes, ...] = ()


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
        sop_class_uid=_text(elements, AFFECTED_SOP_CLASS_UID) or _text(elements, REQUESTED_SOP_CLASS_UID),
        sop_instance_uid=_text(elements, AFFECTED_SOP_INSTANCE_UID) or _text(elements, REQUESTED_SOP_INSTANCE_UID),
        action_type=_number(elements, ACTION_TYPE_ID),
        attributes=_tags(elements, ATTRIBUTE_IDENTIFIER_LIST),
    )


def response_to(request: Command, reply: Reply) -> bytes:
    """Return the Command Set of the response that answers `request`.

    The UIDs are repeated only where they are short enough to be UIDs.
    """
    elements = [
        _uid_element(AFFECTED_SOP_CLASS_UID, request.sop_class_uid),
        _short_element(COMMAND_FIELD, request.command_field | IS_RESPONSE),
        _short_element(MESSAGE_ID_BEING_RESPONDED_TO, request.message_id or 0),
        _short_element(COMMAND_DATA_SET_TYPE, A_DATA_SET if reply.data_set else NO_DATA_SET),
        _short_element(STATUS, reply.status),
        _element(ERROR_COMMENT, reply.comment.encode("ascii", "replace"), b" ") if reply.comment else b"",
        _short_element(ERROR_ID, reply.error_id) if reply.error_id is not None else b"",
        _uid_element(AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid or reply.sop_instance_uid),
        _tags_element(ATTRIBUTE_IDENTIFIER_LIST, reply.attributes),
        _short_element(ACTION_TYPE_ID, request.action_type) if request.action_type is not None else b"",
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
    return _pdus(context_id, encoded, IS_COMMAND, max_pdu_bytes=max_pdu_bytes)


def data_set_pdus(context_id: int, encoded: bytes, *, max_pdu_bytes: int) -> bytes:
    """Return the P-DATA-TF PDUs that carry a data set; parameters as for `command_pdus`."""
    return _pdus(context_id, encoded, 0, max_pdu_bytes=max_pdu_bytes)


def _pdus(context_id: int, encoded: bytes, kind: int, *, max_pdu_bytes: int) -> bytes:
    room = len(encoded) if max_pdu_bytes == 0 else max(max_pdu_bytes - PDV_HEADER.size, 1)
    pdus = []
    for begin in range(0, len(encoded), room):
        piece = encoded[begin : begin + room]
        control = kind | (IS_LAST if begin + room >= len(encoded) else 0)
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


def _tags(elements: Mapping[int, bytes], number: int) -> tuple[int, ...]:
    value = elements.get(number, b"")
    return tuple(group << 16 | element for group, element in _TAG.iter_unpack(value[: len(value) // 4 * 4]))


def _text(elements: Mapping[int, bytes], number: int) -> str:
    return elements.get(number, b"").decode("latin-1").strip("\0 ")


def _short_element(number: int, value: int) -> bytes:
    return _ELEMENT.pack(0, number, 2) + _UNSIGNED_SHORT.pack(value)


def _tags_element(number: int, tags: Sequence[int]) -> bytes:
    raw = b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    return _element(number, raw, b"") if raw else b""


def _uid_element(number: int, uid: str) -> bytes:
    raw = uid.encode("latin-1")
    return _element(number, raw, b"\0") if 0 < len(raw) <= MAX_UID_BYTES else b""


def _element(number: int, raw: bytes, padding: bytes) -> bytes:
    raw += padding * (len(raw) % 2)
    return _ELEMENT.pack(0, number, len(raw)) + raw
