"""Command Sets that a requestor writes and reads: C-STORE, C-FIND, C-MOVE, C-GET, C-ECHO, N-ACTION, N-EVENT-REPORT."""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, pack, unpack

from node.errors import NotDicom

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_GET_RQ = 0x0010
C_GET_RSP = 0x8010
C_FIND_RQ = 0x0020
C_FIND_RSP = 0x8020
C_MOVE_RQ = 0x0021
C_MOVE_RSP = 0x8021
C_ECHO_RQ = 0x0030
C_ECHO_RSP = 0x8030
N_EVENT_REPORT_RQ = 0x0100
N_EVENT_REPORT_RSP = 0x8100
N_ACTION_RQ = 0x0130
N_ACTION_RSP = 0x8130
C_CANCEL_RQ = 0x0FFF
PRIORITY_MEDIUM = 0x0000
DATA_SET_PRESENT = 0x0001
NO_DATA_SET = 0x0101
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
COMPLETED_SUB_OPERATIONS, FAILED_SUB_OPERATIONS, WARNING_SUB_OPERATIONS = 0x1021, 0x1022, 0x1023
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008
ERROR_COMMENT = 0x0902
VERIFICATION = "1.2.840.10008.1.1"
ELEMENT = Struct("<HHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a requestor needs to know of a response.

    Attributes
    ----------
    command_field
        Command Field (0000,0100).
    message_id
        Message ID Being Responded To (0000,0120); None when absent.
    status
        Status (0000,0900); None when absent.
    comment
        Error Comment (0000,0902); empty when absent.
    """

    command_field: int | None
    message_id: int | None
    status: int | None
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubOperations:
    """How many of the Instances that a C-MOVE or C-GET asked for were sent so far.

    Attributes
    ----------
    completed
        Number of Completed (0000,1021) and Warning (0000,1023) Sub-operations: those that arrived.
    failed
        Number of Failed Sub-operations (0000,1022).
    """

    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a requestor needs to know of a command that may be a response, or a report that nobody waits for.

    Attributes
    ----------
    command_field
        Command Field (0000,0100).
    message_id
        Message ID (0000,0110) of a request.
    answers
        Message ID Being Responded To (0000,0120) of a response.
    status
        Status (0000,0900) of a response.
    has_data_set
        Whether a data set follows.
    sub_operations
        Of a response to C-MOVE or C-GET; None where it counts none.
    sop_class_uid, sop_instance_uid
        Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000), padding removed.
    """

    command_field: int | None
    message_id: int | None
    answers: int | None
    status: int | None
    has_data_set: bool
    sub_operations: SubOperations | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def encode_store_command(*, message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return the command set of a C-STORE-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 9.3-1
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(C_STORE_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(PRIORITY, _us(PRIORITY_MEDIUM)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
        _element(AFFECTED_SOP_INSTANCE_UID, _ui(sop_instance_uid)),
    )


def encode_echo_command(*, message_id: int) -> bytes:
    """Return the command set of a C-ECHO-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 9.3-12
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(VERIFICATION)),
        _element(COMMAND_FIELD, _us(C_ECHO_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(COMMAND_DATA_SET_TYPE, _us(NO_DATA_SET)),
    )


def encode_find_command(*, message_id: int, sop_class_uid: str) -> bytes:
    """Return the command set of a C-FIND-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 9.3-3
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(C_FIND_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(PRIORITY, _us(PRIORITY_MEDIUM)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
    )


def encode_move_command(*, message_id: int, sop_class_uid: str, destination: str) -> bytes:
    """Return the command set of a C-MOVE-RQ in Implicit VR Little Endian.

    Parameters
    ----------
    destination
        AE title to which the Instances are sent.

    References
    ----------
    DICOM PS3.7 table 9.3-9
    """
    title = destination.encode("ascii")
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(C_MOVE_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(MOVE_DESTINATION, title + b" " * (len(title) % 2)),
        _element(PRIORITY, _us(PRIORITY_MEDIUM)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
    )


def encode_get_command(*, message_id: int, sop_class_uid: str) -> bytes:
    """Return the command set of a C-GET-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 9.3-6
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(C_GET_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(PRIORITY, _us(PRIORITY_MEDIUM)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
    )


def encode_cancel_command(*, cancels: int) -> bytes:
    """Return the command set of a C-CANCEL-RQ, which no response answers but that to what it cancels.

    References
    ----------
    DICOM PS3.7 tables 9.3-5, 9.3-8 and 9.3-11
    """
    return _group(
        _element(COMMAND_FIELD, _us(C_CANCEL_RQ)),
        _element(MESSAGE_ID_BEING_RESPONDED_TO, _us(cancels)),
        _element(COMMAND_DATA_SET_TYPE, _us(NO_DATA_SET)),
    )


def encode_store_response(request: Command, *, status: int) -> bytes:
    """Return the command set of a C-STORE-RSP, for a peer that sends us what a C-GET asked for.

    References
    ----------
    DICOM PS3.7 table 9.3-2
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(request.sop_class_uid)),
        _element(COMMAND_FIELD, _us(C_STORE_RSP)),
        _element(MESSAGE_ID_BEING_RESPONDED_TO, _us(request.message_id or 0)),
        _element(COMMAND_DATA_SET_TYPE, _us(NO_DATA_SET)),
        _element(STATUS, _us(status)),
        _element(AFFECTED_SOP_INSTANCE_UID, _ui(request.sop_instance_uid)),
    )


def encode_action_command(*, message_id: int, sop_class_uid: str, sop_instance_uid: str, action_type: int) -> bytes:
    """Return the command set of an N-ACTION-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 10.3-7
    """
    return _group(
        _element(REQUESTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(N_ACTION_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
        _element(REQUESTED_SOP_INSTANCE_UID, _ui(sop_instance_uid)),
        _element(ACTION_TYPE_ID, _us(action_type)),
    )


def encode_report_command(*, message_id: int, sop_class_uid: str, sop_instance_uid: str, event_type: int) -> bytes:
    """Return the command set of an N-EVENT-REPORT-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 10.3-1
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(N_EVENT_REPORT_RQ)),
        _element(MESSAGE_ID, _us(message_id)),
        _element(COMMAND_DATA_SET_TYPE, _us(DATA_SET_PRESENT)),
        _element(AFFECTED_SOP_INSTANCE_UID, _ui(sop_instance_uid)),
        _element(EVENT_TYPE_ID, _us(event_type)),
    )


def encode_report_response(*, answers: int, sop_class_uid: str, sop_instance_uid: str, status: int) -> bytes:
    """Return the command set of an N-EVENT-REPORT-RSP in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 10.3-2
    """
    return _group(
        _element(AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        _element(COMMAND_FIELD, _us(N_EVENT_REPORT_RSP)),
        _element(MESSAGE_ID_BEING_RESPONDED_TO, _us(answers)),
        _element(COMMAND_DATA_SET_TYPE, _us(NO_DATA_SET)),
        _element(STATUS, _us(status)),
        _element(AFFECTED_SOP_INSTANCE_UID, _ui(sop_instance_uid)),
    )


def read_command(encoded: bytes) -> Command:
    """Return what a command set says.

    Raises
    ------
    NotDicom
        If it is cut, or holds elements of another group.

    References
    ----------
    DICOM PS3.7 6.3.1
    """
    values = _values(encoded)
    numbers = _numbers(values)
    return Command(
        command_field=numbers.get(COMMAND_FIELD),
        message_id=numbers.get(MESSAGE_ID),
        answers=numbers.get(MESSAGE_ID_BEING_RESPONDED_TO),
        status=numbers.get(STATUS),
        has_data_set=numbers.get(COMMAND_DATA_SET_TYPE, NO_DATA_SET) != NO_DATA_SET,
        sub_operations=_sub_operations(numbers),
        sop_class_uid=_text(values.get(AFFECTED_SOP_CLASS_UID, b"")),
        sop_instance_uid=_text(values.get(AFFECTED_SOP_INSTANCE_UID, b"")),
    )


def read_response(encoded: bytes) -> Response:
    """Return what a response's command set says.

    Raises
    ------
    NotDicom
        If it is cut, or holds elements of another group.

    References
    ----------
    DICOM PS3.7 6.3.1
    """
    values = _values(encoded)
    numbers = _numbers(values)
    return Response(
        command_field=numbers.get(COMMAND_FIELD),
        message_id=numbers.get(MESSAGE_ID_BEING_RESPONDED_TO),
        status=numbers.get(STATUS),
        comment=_text(values.get(ERROR_COMMENT, b"")),
    )


def _values(encoded: bytes) -> Mapping[int, bytes]:
    """Return every value as encoded, by element number."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        if at + ELEMENT.size > len(encoded):
            raise NotDicom("the Command Set is cut")
        group, number, length = ELEMENT.unpack_from(encoded, at)
        at += ELEMENT.size
        if group != 0 or at + length > len(encoded):
            raise NotDicom(f"the Command Set is damaged at ({group:04X},{number:04X})")
        found[number] = encoded[at : at + length]
        at += length
    return found


def _numbers(values: Mapping[int, bytes]) -> Mapping[int, int]:
    """Return every value of two bytes as a number."""
    return {number: unpack("<H", value)[0] for number, value in values.items() if len(value) == 2}


def _sub_operations(numbers: Mapping[int, int]) -> SubOperations | None:
    counts = [numbers.get(name) for name in (COMPLETED_SUB_OPERATIONS, WARNING_SUB_OPERATIONS, FAILED_SUB_OPERATIONS)]
    if all(count is None for count in counts):
        return None
    completed, warning, failed = (count or 0 for count in counts)
    return SubOperations(completed=completed + warning, failed=failed)


def _text(value: bytes) -> str:
    # What is no ASCII is no UID, and is not repeated to the peer.
    return value.decode("ascii", "ignore").strip("\0 ")


def _group(*elements: bytes) -> bytes:
    """Return a command set with its Command Group Length (0000,0000)."""
    body = b"".join(elements)
    return _element(0x0000, pack("<I", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    """Return one element of group 0000."""
    return ELEMENT.pack(0x0000, number, len(value)) + value


def _us(number: int) -> bytes:
    """Return an Unsigned Short."""
    return pack("<H", number)


def _ui(uid: str) -> bytes:
    """Return a UID padded to even length with NUL (PS3.5 9.4)."""
    encoded = uid.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)
