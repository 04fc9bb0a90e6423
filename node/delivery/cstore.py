"""C-STORE transport: the objects of one Study on one Association, as their files are."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from node.delivery.association import Peer, StoreAssociation, is_ae_title
from node.delivery.parcel import DestinationSpec, Outcome, Parcel, Report
from node.delivery.part10 import FileHead, read_file_head
from node.domain.capability import Form
from node.errors import DestinationDown, NotDicom, NotFound, SettingsInvalid, Transient, UidMismatch

# Presentation Context IDs are the odd numbers 1-255 (PS3.8 9.3.2.2).
MAX_CONTEXTS = 128
# The second Association lost in a row says more about the peer than about the objects.
LOSSES_UNTIL_DOWN = 2


class CStoreTransport:
    """Objects leave by C-STORE, those of one Study on one Association."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._peer = peer_of(spec)

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
        carry(self._peer, files, lambda index, outcome: report(ready[index], outcome))


def carry(peer: Peer, files: Sequence[tuple[Path, FileHead]], note: Callable[[int, Outcome], None]) -> None:
    """Send files on one Association, or on a further one where 128 Presentation Contexts do not suffice.

    A file during which the Association is lost is noted as RETRY, and the next ones go on a new Association: it may be
    that file that breaks the peer.

    Parameters
    ----------
    note
        Told the place in `files` and its outcome as soon as that is known.

    Raises
    ------
    DestinationDown
        If no Association can be opened, or two in a row are lost; files not noted were not taken.
    Misconfigured
        If the peer does not know one of the AE titles.
    """
    for batch in batches([(head.sop_class_uid, head.transfer_syntax_uid) for _, head in files]):
        losses = 0
        remaining = deque(batch)
        while remaining:
            keys = [(files[index][1].sop_class_uid, files[index][1].transfer_syntax_uid) for index in remaining]
            with StoreAssociation(peer, keys) as assoc:
                losses = _carry_on(assoc, files, remaining, note, losses)


def _carry_on(
    assoc: StoreAssociation,
    files: Sequence[tuple[Path, FileHead]],
    remaining: deque[int],
    note: Callable[[int, Outcome], None],
    losses: int,
) -> int:
    """Send on one Association until it is lost or nothing remains; return how many were lost in a row."""
    while remaining:
        index = remaining.popleft()
        try:
            outcome = assoc.store(*files[index])
        except DestinationDown as exc:
            note(index, Outcome.retry(exc))
            if losses + 1 >= LOSSES_UNTIL_DOWN:
                raise
            return losses + 1
        note(index, outcome)
        losses = 0
    return losses


def batches(keys: Sequence[Form]) -> Iterator[list[int]]:
    """Yield the places in `keys` that go on one Association, in order: at most 128 different pairs each."""
    batch: list[int] = []
    seen: set[Form] = set()
    for index, key in enumerate(keys):
        if key not in seen and len(seen) == MAX_CONTEXTS:
            yield batch
            batch, seen = [], set()
        batch.append(index)
        seen.add(key)
    if batch:
        yield batch


def peer_of(spec: DestinationSpec) -> Peer:
    """Return the peer that a Destination's settings name.

    Raises
    ------
    SettingsInvalid
        If one of the AE titles, the host or the port cannot be one; the message names the key.
    """
    prefix = f"destinations.{spec.name}"
    for key, title in ((f"{prefix}.aet", spec.aet), ("node.aet", spec.calling_aet)):
        if not is_ae_title(title):
            raise SettingsInvalid(f"{key} is {title!r}; an AE title has 1-16 ASCII characters")
    if not spec.host:
        raise SettingsInvalid(f"{prefix}.host is empty; give the address of the PACS")
    if not 1 <= spec.port <= 0xFFFF:
        raise SettingsInvalid(f"{prefix}.port is {spec.port}; give the DICOM port of the PACS, 1-65535")
    return Peer(
        aet=spec.aet.strip(),
        host=spec.host,
        port=spec.port,
        calling_aet=spec.calling_aet.strip(),
        timeout_s=spec.timeout_s,
    )


def _inspect(parcel: Parcel) -> FileHead | Outcome:
    """Return what the file says of itself, or why it cannot be sent."""
    try:
        head = read_file_head(parcel.path)
    except NotDicom as exc:
        return Outcome.refused(exc)
    except FileNotFoundError:
        return Outcome.retry(NotFound(f"Instance {parcel.sop_instance_uid}: its file is not in the store"))
    except OSError as exc:
        return Outcome.retry(Transient(f"Instance {parcel.sop_instance_uid} cannot be read: {exc.strerror}"))
    expected = (parcel.sop_class_uid, parcel.sop_instance_uid, parcel.transfer_syntax_uid)
    found = (head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid)
    if expected != found:
        return Outcome.refused(
            UidMismatch(f"Instance {parcel.sop_instance_uid}: expected {expected}, its file says {found}")
        )
    return head
