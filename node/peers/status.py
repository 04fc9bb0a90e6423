"""What the Status (0000,0900) of a C-STORE response, or a STOW-RS failure reason, means for one object."""

from collections.abc import Mapping

from node.errors import (
    DUPLICATE_SOP_INSTANCE,
    PROCESSING_FAILURE,
    DestinationBusy,
    DestinationRefused,
    IdentifierClash,
    SopClassNotSupported,
)
from node.peers.parcel import Outcome

SUCCESS = 0x0000
# PS3.4 B.2.3 knows no answer of these as final; peers give them for faults of a moment as well, so they are tried
# again, but not for a month.
DOUBTFUL_TRIES = 5
# What a PACS could not process now it may in some nine minutes, when its database is back.
UNPROCESSED_TRIES = 9

# PS3.4 table B.2-1 and PS3.7 C.4.2 to C.4.3: the object was taken.
WARNINGS: Mapping[int, str] = {
    0x0001: "requested optional attributes are not supported",
    0x0107: "attribute list error",
    0x0116: "attribute value out of range",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP Class",
}
# PS3.7 C.5: the Destination does not take this kind of object.
UNSUPPORTED: Mapping[int, str] = {
    0x0118: "no such SOP Class",
    0x0122: "SOP Class not supported",
}
# PS3.7 C.5: the Destination will not change its mind.
REFUSALS: Mapping[int, str] = {
    0x0117: "invalid object instance",
    0x0119: "class-instance conflict",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
}
# PS3.7 C.5: the Destination, or a person there, may change its mind.
DELAYS: Mapping[int, str] = {
    0x0124: "not authorized; a person must permit radnode at the destination",
    0x0210: "duplicate invocation",
    0x0213: "resource limitation",
}


def judge_status(status: int, *, comment: str = "") -> Outcome:
    """Return what follows from `status`, 0x0000-0xFFFF.

    Parameters
    ----------
    comment
        Error Comment (0000,0902); only the codes of a radnode peer count, and nothing of it is kept.

    References
    ----------
    DICOM PS3.4 B.2.3, PS3.7 C, PS3.18 10.5.3
    """
    if status == SUCCESS:
        return Outcome.sent()
    if status in WARNINGS or status >> 12 == 0xB:
        return Outcome.sent(f"status {status:04X}H: {WARNINGS.get(status, 'warning')}")
    if status in UNSUPPORTED:
        return Outcome.refused(SopClassNotSupported(f"status {status:04X}H: {UNSUPPORTED[status]}"))
    if status in DELAYS:
        return Outcome.retry(DestinationBusy(f"status {status:04X}H: {DELAYS[status]}"))
    if status == PROCESSING_FAILURE:
        return _doubt(status, "processing failure", tries=UNPROCESSED_TRIES)
    return _judge_duplicate(comment) if status == DUPLICATE_SOP_INSTANCE else _judge_family(status)


def _judge_duplicate(comment: str) -> Outcome:
    """Return that the Destination has this Instance, for a UID names one (PS3.5 9), unless it says that it has not."""
    if comment.startswith(IdentifierClash.code):
        said = "the destination has it in another Series, and did not take this one; give this one a UID of its own"
        return Outcome.refused(DestinationRefused(f"status 0111H: {said}"))
    return Outcome.sent("status 0111H: duplicate SOP Instance; the destination holds it already")


def _judge_family(status: int) -> Outcome:
    """Return what follows from a status that is final, or of which only the first digits have a meaning."""
    if status >> 8 == 0xA7:
        return Outcome.retry(DestinationBusy(f"status {status:04X}H: refused, out of resources"))
    if status in REFUSALS or status >> 8 == 0xA9:
        meaning = REFUSALS.get(status, "data set does not match SOP Class")
        return Outcome.refused(DestinationRefused(f"status {status:04X}H: {meaning}"))
    meaning = "cannot understand" if status >> 12 == 0xC else "no meaning in PS3.4 B.2.3"
    return _doubt(status, meaning, tries=DOUBTFUL_TRIES)


def _doubt(status: int, meaning: str, *, tries: int) -> Outcome:
    """Return a failure that is believed after so many tries."""
    return Outcome.retry(DestinationRefused(f"status {status:04X}H: {meaning}"), tries=tries)
