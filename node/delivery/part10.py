"""Where the data set of a Part 10 file begins, and what its File Meta Information says (PS3.10 7.1)."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag

from node.errors import NotDicom

FILE_META_GROUP = 0x0002


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHead:
    """What must be known to send a file's bytes without reading them.

    Attributes
    ----------
    offset_bytes
        First byte of the data set.
    size_bytes
        Length of the whole file.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset_bytes: int
    size_bytes: int


def read_file_head(path: Path) -> FileHead:
    """Return the File Meta Information of `path` and where the data set begins.

    The place is found by reading the group, because File Meta Information Group Length (0002,0000) is sometimes wrong.

    Raises
    ------
    NotDicom
        If there is no DICM prefix, an identifier is missing, or nothing follows the File Meta Information.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        try:
            read_preamble(file, force=False)
            meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_is_past_file_meta)
            uids = _identifiers(meta)
        except (InvalidDicomError, EOFError, ValueError, KeyError, NotImplementedError) as exc:
            raise NotDicom(f"file {path.name}: no DICOM file with File Meta Information (PS3.10 7.1)") from exc
        offset_bytes = file.tell()
    missing = [keyword for keyword, uid in uids.items() if not uid]
    if missing:
        raise NotDicom(f"file {path.name}: File Meta Information lacks {', '.join(missing)}")
    if offset_bytes >= size_bytes:
        raise NotDicom(f"file {path.name}: cut after its File Meta Information; obtain it again")
    return FileHead(
        sop_class_uid=uids["MediaStorageSOPClassUID"],
        sop_instance_uid=uids["MediaStorageSOPInstanceUID"],
        transfer_syntax_uid=uids["TransferSyntaxUID"],
        offset_bytes=offset_bytes,
        size_bytes=size_bytes,
    )


def _is_past_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    """Return whether `tag` belongs to the data set."""
    del vr, length
    return tag.group != FILE_META_GROUP


def _identifiers(meta: Dataset) -> dict[str, str]:
    """Return the three identifiers by keyword, empty where absent."""
    keywords = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    return {keyword: str(meta.get(keyword) or "") for keyword in keywords}
