"""What travels to a Destination, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from node.errors import FileUnreadable, NodeError

# Code of a Delivery that arrived although the Destination had something to say (Bxxx).
SENT_WITH_WARNING = "sent-with-warning"
# A volume that is mounted again, or a disk that comes to itself, has some nine minutes.
UNREADABLE_TRIES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One object on its way.

    Attributes
    ----------
    delivery_id
        Key in the ledger; what the report is about.
    path
        Part 10 file, absolute; its bytes are sent as they are.
    size_bytes
        Length that the file had when it was stored; None where nobody knows it.
    """

    delivery_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path
    size_bytes: int | None = None

    def is_whole(self, size_bytes: int) -> bool:
        """Return whether a file of this length can be what was stored."""
        return self.size_bytes in {None, size_bytes}


class Fate(StrEnum):
    """What to do next with one object; LEFT_OUT is none that the Destination is told of."""

    SENT = "sent"
    RETRY = "retry"
    REFUSED = "refused"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a Destination answered about one object.

    Attributes
    ----------
    code, text
        Reason of a failure, or the warning with which the object was taken; None when it simply arrived. Never holds
        text from the Destination, which could quote the patient.
    tries
        How many such outcomes make a RETRY a refusal; None: it is tried as long as deliveries are tried at all.
    """

    fate: Fate
    code: str | None = None
    text: str | None = None
    tries: int | None = None

    @classmethod
    def sent(cls, warning: str | None = None) -> "Outcome":
        """Return that the object arrived, with the Destination's `warning` if it had one."""
        return cls(fate=Fate.SENT, code=None if warning is None else SENT_WITH_WARNING, text=warning)

    @classmethod
    def retry(cls, error: NodeError, *, tries: int | None = None) -> "Outcome":
        """Return that the object may be taken later; after so many `tries` it is given up."""
        return cls(fate=Fate.RETRY, code=error.code, text=str(error), tries=tries)

    @classmethod
    def refused(cls, error: NodeError) -> "Outcome":
        """Return that the object will never be taken."""
        return cls(fate=Fate.REFUSED, code=error.code, text=str(error))

    @classmethod
    def unreadable(cls, sop_instance_uid: str, reason: OSError | FileUnreadable) -> "Outcome":
        """Return that our own file keeps the object from leaving; the Destination has no part in it."""
        words = getattr(reason, "strerror", None) or str(reason)
        error = FileUnreadable(f"Instance {sop_instance_uid}: its file in the store cannot be read ({words})")
        return cls.retry(error, tries=UNREADABLE_TRIES)

    @classmethod
    def cut(cls, sop_instance_uid: str) -> "Outcome":
        """Return that our own file has another length than it had, and must not leave as it is."""
        words = "its file in the store has another length than when it was stored; it was not sent"
        return cls.refused(FileUnreadable(f"Instance {sop_instance_uid}: {words}"))


Report = Callable[[Parcel, Outcome], None]
