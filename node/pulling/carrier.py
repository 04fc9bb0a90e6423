"""What is wanted of a peer, the ports by which it comes and enters the node, and what its refusals mean."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import DestinationBusy, Misconfigured, MoveDestinationUnknown, NodeError, RetrieveFailed
from node.peers.command import SubOperations

# Status (0000,0900) of C-MOVE and C-GET (PS3.4 tables C.4-2 and C.4-3).
SUB_OPERATIONS_FAILED = 0xB000
CANCELED = 0xFE00
CANNOT_COUNT = 0xA701
CANNOT_SEND = 0xA702
DESTINATION_UNKNOWN = 0xA801
NOT_THIS_SOP_CLASS = 0xA900
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
# An archive that takes it from tape needs minutes for the first Instance.
SILENCE_S = 300.0
# How often somebody is told how it goes, and may end it; seconds.
TELL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What is asked for at once.

    Attributes
    ----------
    series_instance_uid
        None: the whole Study.
    instances
        Of that Series; none: all of it.
    sop_classes
        What is among it, as far as it is known.
    count
        How many Instances that are; None where nobody knows it.
    """

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID | None = None
    instances: tuple[InstanceUID, ...] = ()
    sop_classes: frozenset[str] = frozenset()
    count: int | None = None


class Berth(Protocol):
    """One Instance on its way in; nothing of it raises, its `finish` tells how it went."""

    max_message_bytes: int

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments; they are valid during the call only."""

    def finish(self) -> "Receipt":
        """Return how it ended; Success only after the Instance is durable."""

    def discard(self) -> None:
        """Forget it: the peer went, or broke the protocol."""


class Receipt(Protocol):
    """How the receipt of one Instance ended."""

    @property
    def status(self) -> int:
        """Status (0000,0900); 0 is Success."""


class Landing(Protocol):
    """Where what a peer gives in one conversation enters the node: intake, as for whoever sends."""

    def begin(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Berth:
        """Begin to receive one Instance."""

    def take_parts(self, boundary: str, chunks: Iterable[bytes]) -> None:
        """Receive every Part 10 file of a multipart body.

        Raises
        ------
        RequestMalformed
            If it is none, or ends too early; what came whole was received.
        """

    @property
    def taken(self) -> SubOperations:
        """How many Instances were received so far, and refused."""

    def end(self) -> None:
        """Tell that nothing more comes."""


class Progress:
    """Tells somebody now and then how much came, and whether the rest is wanted.

    Parameters
    ----------
    tell
        Called with all that came so far; returns whether the rest is wanted.
    """

    def __init__(self, tell: Callable[[SubOperations], bool], *, elapsed_s: Callable[[], float] = monotonic) -> None:
        self._tell = tell
        self._elapsed_s = elapsed_s
        self._told_s = elapsed_s()
        self.total = SubOperations()
        self.is_wanted = True

    def note(self, came: SubOperations) -> bool:
        """Take note of what came of the present want so far; return whether the rest is wanted."""
        if self.is_wanted and self._elapsed_s() - self._told_s >= TELL_S:
            self._told_s = self._elapsed_s()
            self.is_wanted = self._tell(_add(self.total, came))
        return self.is_wanted

    def add(self, came: SubOperations) -> None:
        """Take note of all that came of a want."""
        self.total = _add(self.total, came)


class Carrier(Protocol):
    """A way in which Instances come from a peer."""

    def bring(self, want: Want, progress: Progress) -> SubOperations:
        """Return after what is wanted came, or is not wanted any more: how many Instances did, and how many failed.

        Raises
        ------
        DestinationDown
            If the peer is lost.
        NodeError
            If it refuses; see `judge_refusal`.
        """


def judge_refusal(status: int, *, peer: str, aet: str) -> NodeError:
    """Return what it means that a peer answered a C-MOVE or C-GET with a status that is no success.

    Parameters
    ----------
    aet
        Our own AE title.

    References
    ----------
    DICOM PS3.4 tables C.4-2 and C.4-3
    """
    if status == DESTINATION_UNKNOWN:
        return MoveDestinationUnknown(
            f"{peer} does not know where {aet} is (A801H); register our AE title there, with the address and DICOM "
            "port of this node, or set retrieve = 'get'"
        )
    if status == CANNOT_COUNT:
        return DestinationBusy(f"{peer} could not count what it was asked for (A701H)")
    if status == CANNOT_SEND:
        return RetrieveFailed(
            f"{peer} could not send to {aet} (A702H); check that it reaches this node, and that its AE title is "
            "among security.calling_aets"
        )
    if status == NOT_THIS_SOP_CLASS:
        return RetrieveFailed(f"{peer} does not understand what it is asked for (A900H); try another way: retrieve")
    if status in {SOP_CLASS_NOT_SUPPORTED, NOT_AUTHORIZED}:
        return Misconfigured(f"{peer} does not let {aet} retrieve ({status:04X}H); allow it there")
    return RetrieveFailed(
        f"{peer} could not do it (status {status:04X}H); see its log, and whether {aet} is registered there"
    )


def _add(one: SubOperations, other: SubOperations) -> SubOperations:
    return SubOperations(completed=one.completed + other.completed, failed=one.failed + other.failed)
