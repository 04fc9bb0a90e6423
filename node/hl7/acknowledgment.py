"""How a message is answered: ACK, in original and in enhanced mode (HL7 v2.5.1, 2.9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from node.errors import MessageRefused, MessageUnsupported, NodeError, Transient
from node.hl7.reader import Message, Segment

ACCEPT_ACKNOWLEDGMENT, APPLICATION_ACKNOWLEDGMENT = 15, 16
# HL7 table 0155, of a message that was taken, and of one that was not.
ASKED_OF_SUCCESS, ASKED_OF_FAILURE = frozenset({"AL", "SU"}), frozenset({"AL", "ER"})
INTERNAL_ERROR = 207
# HL7 table 0357, as far as it is answered.
CONDITIONS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    207: "Application internal error",
}
# Since then ERR has its fields of today, and before, one only.
FIRST_WITH_ERROR_FIELDS = (2, 5)
FIRST_WITH_STRUCTURE = (2, 4)
DEFAULT_VERSION = "2.5.1"
# Of an answer to something that is no message.
ANY_EVENT = "O01"
SIGNS = "^~\\&"
ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "})
# ST of MSA-3; longer ones are cut by receivers.
MAX_TEXT = 80
MESSAGE_TYPE, CONTROL_ID, PROCESSING_ID, VERSION = 9, 10, 11, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What tells one answer from another.

    Attributes
    ----------
    control_id
        Message Control ID (MSH-10) of the first answer.
    """

    control_id: str
    now: datetime


def accept(message: Message, stamp: Stamp) -> Sequence[bytes]:
    """Return what is answered to a message that is durable; none where the sender wants none."""
    return [_write(message.header, kind, stamp, None) for kind in _kinds(message.header, "CA", "AA", ASKED_OF_SUCCESS)]


def refuse(message: Message | None, error: NodeError, stamp: Stamp) -> Sequence[bytes]:
    """Return what is answered to a message that was not taken.

    Parameters
    ----------
    message
        None: it could not be read, and nothing of it is known.
    """
    # Nothing is wrong with the message, or nothing of it is understood; it may be sent again.
    is_rejected = message is None or isinstance(error, MessageUnsupported | Transient)
    codes = ("CR", "AR") if is_rejected else ("CE", "AE")
    if message is None:
        return [_write(None, codes[1], stamp, error)]
    return [_write(message.header, kind, stamp, error) for kind in _kinds(message.header, *codes, ASKED_OF_FAILURE)]


def _kinds(header: Segment, accepts: str, applies: str, asked: frozenset[str]) -> Sequence[str]:
    """Return the acknowledgment codes (MSA-1) that are sent, in their order."""
    commit, application = header.text(ACCEPT_ACKNOWLEDGMENT), header.text(APPLICATION_ACKNOWLEDGMENT)
    if not commit and not application:
        return [applies]
    return [accepts] * (commit in asked) + [applies] * (application in asked)


def _write(header: Segment | None, kind: str, stamp: Stamp, error: NodeError | None) -> bytes:
    version = (header.text(VERSION) if header is not None else "") or DEFAULT_VERSION
    asked = "" if header is None else escape(header.text(CONTROL_ID))
    has_error_fields = _is_at_least(version, FIRST_WITH_ERROR_FIELDS)
    segments = [_header(header, kind, stamp, version)]
    # MSA-3 is deprecated since ERR has a text of its own.
    said = "" if error is None or has_error_fields else f"|{_text_of(error)}"
    segments.append(f"MSA|{kind}|{asked}{said}")
    if error is not None:
        segments.append(_error(error, has_error_fields=has_error_fields))
    return ("\r".join(segments) + "\r").encode("utf-8")


def _header(header: Segment | None, kind: str, stamp: Stamp, version: str) -> str:
    sent: list[str] = [""] * 4
    event, processing = ANY_EVENT, "P"
    if header is not None:
        # Whoever sent it receives this.
        sent = [_again(header, number) for number in (5, 6, 3, 4)]
        event, processing = escape(header.text(MESSAGE_TYPE, 2)), escape(header.text(PROCESSING_ID)) or "P"
    # The third component is younger than the others.
    structure = ["ACK"] * (event != "" and _is_at_least(version, FIRST_WITH_STRUCTURE))
    kinds = ["ACK", *[event] * bool(event), *structure]
    time = stamp.now.strftime("%Y%m%d%H%M%S%z")
    # A commit and an application acknowledgment are two messages.
    control_id = f"{stamp.control_id}{kind[0]}"
    fields = [
        "MSH", SIGNS, *sent, time, "", "^".join(kinds), control_id, processing, escape(version), *[""] * 5,
        "UNICODE UTF-8",
    ]  # fmt: skip
    return "|".join(fields)


def _error(error: NodeError, *, has_error_fields: bool) -> str:
    condition = error.condition if isinstance(error, MessageRefused) else INTERNAL_ERROR
    place = error.place if isinstance(error, MessageRefused) else ""
    told = CONDITIONS[condition]
    if not has_error_fields:
        where = place.split("^")[:3]
        return f"ERR|{'^'.join([*where, *[''] * (3 - len(where))])}^{condition}&{told}&HL70357"
    return f"ERR||{place}|{condition}^{told}^HL70357|E||||{escape(str(error))}"


def _text_of(error: NodeError) -> str:
    return escape(str(error)[:MAX_TEXT])


def escape(text: str) -> str:
    """Return a text as a component; what would separate is escaped."""
    return text.translate(ESCAPES)


def _again(header: Segment, field: int) -> str:
    """Return an HD field of another message as one of ours."""
    return "~".join("^".join(escape(part) for part in parts) for parts in header.repetitions(field))


def _is_at_least(version: str, wanted: tuple[int, int]) -> bool:
    numbers = [int(part) for part in version.split(".")[:2] if part.isascii() and part.isdigit()]
    return tuple(numbers) >= wanted
