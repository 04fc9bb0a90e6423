"""Transport into a folder: temporary file, fsync, rename, as `<study>/<series>/<sop>.dcm`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.domain.uids import check_uid
from node.errors import (
    BadIdentifier,
    DestinationDown,
    FileUnreadable,
    NotDicom,
    SettingsInvalid,
    UidMismatch,
)
from node.peers.parcel import Outcome, Parcel, Report
from node.peers.peer import DestinationSpec
from node.store.durability import sync_folder

# Study Instance UID, Series Instance UID and SOP Instance UID.
PLACE_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
PIECE_BYTES = 1024 * 1024


class FolderTransport:
    """Objects are copied into a folder, where only complete ones ever bear their name."""

    def __init__(self, spec: DestinationSpec) -> None:
        if not spec.url:
            raise SettingsInvalid(f"destinations.{spec.name}.url is empty; give the path of the folder")
        self._root = Path(spec.url)

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Copy the objects of one Study and report each one; see `Transport.send`."""
        for parcel in parcels:
            place = _find_place(parcel)
            if isinstance(place, Outcome):
                report(parcel, place)
                continue
            report(parcel, self._copy(parcel, self._root / place))

    def _copy(self, parcel: Parcel, target: Path) -> Outcome:
        """Return after the copy is durable under its name; an older copy is replaced."""
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as copy:
                size_bytes = sum(copy.write(piece) for piece in _pieces(parcel.path))
                copy.flush()
                os.fsync(copy.fileno())
            if not parcel.is_whole(size_bytes):
                return Outcome.cut(parcel.sop_instance_uid)
            part.replace(target)
            sync_folder(target.parent)
        except FileUnreadable as exc:
            return Outcome.unreadable(parcel.sop_instance_uid, exc)
        except OSError as exc:
            raise DestinationDown(f"folder {self._root}: cannot be written ({exc.strerror}); check it") from exc
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return Outcome.sent()


def _find_place(parcel: Parcel) -> Path | Outcome:
    """Return where the object belongs below the root, or why it cannot be sent."""
    uid = parcel.sop_instance_uid
    try:
        ds = dcmread(parcel.path, stop_before_pixels=True, specific_tags=list(PLACE_KEYWORDS))
        study, series, instance = (check_uid(_raw_uid(ds, key), keyword=key) for key in PLACE_KEYWORDS)
    except OSError as exc:
        return Outcome.unreadable(uid, exc)
    except BadIdentifier as exc:
        return Outcome.refused(exc)
    except (InvalidDicomError, EOFError, ValueError, KeyError, NotImplementedError):
        return Outcome.refused(NotDicom(f"Instance {uid}: its file is no DICOM file, or cut"))
    if instance != uid:
        return Outcome.refused(UidMismatch(f"Instance {uid}: its file holds {instance}"))
    return Path(study) / series / f"{instance}.dcm"


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield a file of ours piece by piece; what fails here is not the folder's fault."""
    try:
        with path.open("rb") as source:
            while piece := source.read(PIECE_BYTES):
                yield piece
    except OSError as exc:
        raise FileUnreadable(exc.strerror or str(exc)) from exc


def _raw_uid(ds: Dataset, keyword: str) -> str:
    """Return a UID as it stands in the file; pydicom would write a hostile one to the log first."""
    value = ds.get_item(keyword).value if keyword in ds else b""
    text = value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value or "")
    return text.rstrip("\0 ")
