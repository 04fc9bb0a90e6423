"""Transport into a folder: temporary file, fsync, rename, as `<study>/<series>/<sop>.dcm`."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.delivery.parcel import DestinationSpec, Outcome, Parcel, Report
from node.domain.uids import check_uid
from node.errors import (
    BadIdentifier,
    DestinationDown,
    NotDicom,
    NotFound,
    SettingsInvalid,
    Transient,
    UidMismatch,
)

# Study Instance UID, Series Instance UID and SOP Instance UID.
PLACE_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


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
            self._copy(parcel, self._root / place)
            report(parcel, Outcome.sent())

    def _copy(self, parcel: Parcel, target: Path) -> None:
        """Return after the copy is durable under its name; an older copy is replaced."""
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with parcel.path.open("rb") as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
            part.replace(target)
            _sync_folder(target.parent)
        except OSError as exc:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise DestinationDown(f"folder {self._root}: cannot be written ({exc.strerror}); check it") from exc


def _find_place(parcel: Parcel) -> Path | Outcome:
    """Return where the object belongs below the root, or why it cannot be sent."""
    uid = parcel.sop_instance_uid
    try:
        ds = dcmread(parcel.path, stop_before_pixels=True, specific_tags=list(PLACE_KEYWORDS))
        study, series, instance = (check_uid(_raw_uid(ds, key), keyword=key) for key in PLACE_KEYWORDS)
    except FileNotFoundError:
        return Outcome.retry(NotFound(f"Instance {uid}: its file is not in the store"))
    except OSError as exc:
        return Outcome.retry(Transient(f"Instance {uid} cannot be read: {exc.strerror}"))
    except BadIdentifier as exc:
        return Outcome.refused(exc)
    except (InvalidDicomError, EOFError, ValueError, KeyError, NotImplementedError):
        return Outcome.refused(NotDicom(f"Instance {uid}: its file is no DICOM file, or cut"))
    if instance != uid:
        return Outcome.refused(UidMismatch(f"Instance {uid}: its file holds {instance}"))
    return Path(study) / series / f"{instance}.dcm"


def _raw_uid(ds: Dataset, keyword: str) -> str:
    """Return a UID as it stands in the file; pydicom would write a hostile one to the log first."""
    value = ds.get_item(keyword).value if keyword in ds else b""
    text = value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value or "")
    return text.rstrip("\0 ")


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
