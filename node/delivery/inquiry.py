"""How a Destination is asked whether it holds what it took: by Storage Commitment, C-FIND or QIDO-RS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

from node.domain.confirmation import CommitmentReport, ConfirmBy, Unproven
from node.errors import DestinationBusy, Rejected, SettingsInvalid
from node.peers.commitment import read_report, request_commitment
from node.peers.dialog import STORAGE_COMMITMENT, SUCCESS, Dialog
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec, Peer, peer_of
from node.peers.query import STUDY_ROOT_FIND, count_instances, find_instances


class Way(StrEnum):
    """A way to ask, as it is told to people."""

    COMMITMENT = "Storage Commitment"
    FIND = "C-FIND"
    QIDO = "QIDO-RS"


# Which ways a setting allows; the first that is offered is taken.
ALLOWED = {
    ConfirmBy.AUTO: (Way.COMMITMENT, Way.FIND, Way.QIDO),
    ConfirmBy.COMMITMENT: (Way.COMMITMENT,),
    ConfirmBy.QUERY: (Way.FIND, Way.QIDO),
    ConfirmBy.NONE: (),
}
SOP_CLASSES = {Way.COMMITMENT: STORAGE_COMMITMENT, Way.FIND: STUDY_ROOT_FIND}

TakeReport = Callable[[CommitmentReport], object]


class Inquiry(Protocol):
    """One conversation with a Destination about what it holds."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """What it offers of what is allowed, the best first."""

    def request(self, transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        """Return whether it will report on these objects; a report may come before that."""

    def find(self, objects: Sequence[Unproven], count_sent: Callable[[str], int]) -> frozenset[str]:
        """Return which of these objects, all of one Series, it holds; `count_sent` tells how many it should hold.

        Raises
        ------
        DestinationBusy
            If it does not answer that.
        """

    def listen(self, within_s: float) -> bool:
        """Take the reports that come in so many seconds; return whether more may come in this conversation."""


@contextmanager
def open_inquiry(spec: DestinationSpec, take_report: TakeReport) -> Iterator[Inquiry]:
    """Give a conversation with a Destination; a folder cannot be asked, nor one that the settings say not to ask.

    Parameters
    ----------
    take_report
        Called with each report that comes in this conversation; it is acknowledged when the call returns.

    Raises
    ------
    DestinationDown
        If it does not answer, now or later.
    Misconfigured
        If a person must change something first.
    """
    allowed = ALLOWED[spec.confirm]
    match spec.transport:
        case "cstore" if allowed:
            with _dialog(peer_of(spec), allowed, take_report) as dialog:
                yield DimseInquiry(dialog, allowed)
        case "stow" if Way.QIDO in allowed:
            yield WebInquiry(DicomwebService(spec))
        case _:
            yield MuteInquiry()


def offered_ways(spec: DestinationSpec) -> tuple[Way, ...]:
    """Return by which of the ways that are allowed a Destination proves what it holds, the best first, after asking.

    Raises
    ------
    SettingsInvalid
        If the settings want a way that it does not offer.
    DestinationDown, Misconfigured
        As `open_inquiry` does.
    """
    with open_inquiry(spec, lambda _: None) as inquiry:
        ways = inquiry.ways
    if spec.confirm in {ConfirmBy.COMMITMENT, ConfirmBy.QUERY} and not ways:
        wanted = " or ".join(way.value for way in ALLOWED[spec.confirm])
        raise SettingsInvalid(
            f"destinations.{spec.name}.confirm is {spec.confirm.value!r}, and it offers no {wanted}; say 'auto'"
        )
    return ways


class DimseInquiry:
    """A conversation in one Association."""

    def __init__(self, dialog: Dialog, allowed: Sequence[Way]) -> None:
        self._dialog = dialog
        self.ways = tuple(way for way in allowed if SOP_CLASSES.get(way) in dialog.accepted)

    def request(self, transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        """Return whether the peer will report on these objects; see `Inquiry.request`."""
        return request_commitment(self._dialog, transaction_uid, objects) == SUCCESS

    def find(self, objects: Sequence[Unproven], count_sent: Callable[[str], int]) -> frozenset[str]:
        """Return which objects of one Series the peer holds; see `Inquiry.find`.

        An archive that does not name Instances is asked how many it has: enough of them are all, fewer are none.
        """
        study, series = _place(objects)
        try:
            return find_instances(self._dialog, study, series)
        except DestinationBusy:
            is_whole = count_instances(self._dialog, study, series) >= count_sent(series)
        return frozenset(one.sop_instance_uid for one in objects if is_whole)

    def listen(self, within_s: float) -> bool:
        """Take the reports that come in so many seconds; see `Inquiry.listen`."""
        return self._dialog.listen(within_s)


class WebInquiry:
    """A conversation by QIDO-RS (PS3.18 10.6)."""

    def __init__(self, service: DicomwebService) -> None:
        self._service = service
        self.ways = (Way.QIDO,) if service.can_search() else ()

    def request(self, transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        """Return that no report will come; see `Inquiry.request`."""
        del transaction_uid, objects
        return False

    def find(self, objects: Sequence[Unproven], count_sent: Callable[[str], int]) -> frozenset[str]:
        """Return which objects of one Series the service holds; see `Inquiry.find`."""
        del count_sent
        return self._service.find_instances(*_place(objects))

    def listen(self, within_s: float) -> bool:
        """Return that nothing is reported; see `Inquiry.listen`."""
        del within_s
        return False


class MuteInquiry:
    """A Destination that cannot be asked, or is not to be."""

    ways: tuple[Way, ...] = ()

    def request(self, transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        """Return that no report will come; see `Inquiry.request`."""
        del transaction_uid, objects
        return False

    def find(self, objects: Sequence[Unproven], count_sent: Callable[[str], int]) -> frozenset[str]:
        """Raise, since there is nobody to ask; see `Inquiry.find`."""
        del objects, count_sent
        raise DestinationBusy("the destination cannot be asked what it holds")

    def listen(self, within_s: float) -> bool:
        """Return that nothing is reported; see `Inquiry.listen`."""
        del within_s
        return False


def _dialog(peer: Peer, allowed: Sequence[Way], take_report: TakeReport) -> Dialog:
    def take(encoded: bytes) -> bool:
        try:
            report = read_report(encoded)
        except Rejected:
            return False
        take_report(report)
        return True

    return Dialog(
        peer,
        [SOP_CLASSES[way] for way in allowed if way in SOP_CLASSES],
        take_report=take,
    )


def _place(objects: Sequence[Unproven]) -> tuple[str, str]:
    """Return the Study and Series of objects that are all of one."""
    return objects[0].study_instance_uid, objects[0].series_instance_uid or ""
