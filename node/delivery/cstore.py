"""C-STORE transport: the objects of one Study as their files are."""

from collections.abc import Sequence
from pathlib import Path

from node.errors import NotDicom, UidMismatch
from node.peers.carriage import carry
from node.peers.parcel import Outcome, Parcel, Report
from node.peers.part10 import FileHead, read_file_head
from node.peers.peer import DestinationSpec, peer_of


class CStoreTransport:
    """Objects leave by C-STORE, those of one Study on one Association or on as many as the settings allow."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._peer = peer_of(spec)
        self._associations = spec.associations

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Send the objects of one Study and report each one; see `Transport.send`."""
        ready: list[Parcel] = []
        files: list[tuple[Path, FileHead]] = []
        for parcel in parcels:
            head = _inspect(parcel)
            if isinstance(head, Outcome):
                report(parcel, head)
            else:
                ready.append(parcel)
                files.append((parcel.path, head))
        carry(
            self._peer,
            files,
            lambda index, outcome: report(ready[index], outcome),
            associations=self._associations,
        )


def _inspect(parcel: Parcel) -> FileHead | Outcome:
    """Return what the file says of itself, or why it cannot be sent."""
    try:
        head = read_file_head(parcel.path)
    except NotDicom as exc:
        return Outcome.refused(exc)
    except OSError as exc:
        return Outcome.unreadable(parcel.sop_instance_uid, exc)
    expected = (parcel.sop_class_uid, parcel.sop_instance_uid, parcel.transfer_syntax_uid)
    found = (head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid)
    if expected != found:
        return Outcome.refused(
            UidMismatch(f"Instance {parcel.sop_instance_uid}: expected {expected}, its file says {found}")
        )
    return head if parcel.is_whole(head.size_bytes) else Outcome.cut(parcel.sop_instance_uid)
