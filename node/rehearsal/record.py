"""What a simulated PACS has seen: every request with its answer, and what it holds."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedInstance:
    """One C-STORE that was stored.

    Attributes
    ----------
    study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid
        What it is.
    transfer_syntax_uid
        How its bytes came.
    calling_aet
        Who sent it.
    path
        Where it lies; an Instance that came twice lies there once.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_aet: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """One C-STORE request, whatever became of it.

    Attributes
    ----------
    at
        When it was answered, or was left without an answer (UTC).
    answer
        In words: the Status in four digits, or what the sender got instead.
    is_taken
        True when the sender was told that the PACS has it.
    """

    at: datetime
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    answer: str
    is_taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsRecord:
    """What a PACS has seen so far.

    Attributes
    ----------
    received
        Every C-STORE that was stored, in order, repeats included.
    requests
        Number of C-STORE requests, refused ones included.
    associations
        Number of Associations that were accepted.
    log
        Every C-STORE request that came whole, in order.
    commitment_requests
        Number of N-ACTION requests for Storage Commitment.
    queries
        Number of C-FIND requests.
    """

    received: tuple[ReceivedInstance, ...] = ()
    requests: int = 0
    associations: int = 0
    log: tuple[StoreRequest, ...] = ()
    commitment_requests: int = 0
    queries: int = 0

    @property
    def sop_instance_uids(self) -> frozenset[str]:
        """Return the distinct Instances that it holds."""
        return frozenset(instance.sop_instance_uid for instance in self.received)
