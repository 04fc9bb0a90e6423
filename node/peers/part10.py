"""What must be known of a Part 10 file to send its data set as it is."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from node.errors import NotDicom
from node.header.part10 import Part10, has_prefix, read_part10

# File Meta Information has a few hundred bytes, unless Private Information (0002,0102) is in it.
HEAD_BYTES = 16 * 1024


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

    Raises
    ------
    NotDicom
        If there is no DICM prefix, an identifier is missing, or nothing follows the File Meta Information.
    OSError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            part10 = _read_beginning(file)
    except NotDicom as exc:
        raise NotDicom(f"file {path.name}: {exc}") from exc
    if not (part10.sop_class_uid and part10.sop_instance_uid):
        raise NotDicom(f"file {path.name}: File Meta Information lacks (0002,0002) or (0002,0003); export it again")
    return FileHead(
        sop_class_uid=part10.sop_class_uid,
        sop_instance_uid=part10.sop_instance_uid,
        transfer_syntax_uid=part10.transfer_syntax_uid,
        offset_bytes=part10.data_set_offset,
        size_bytes=size_bytes,
    )


def _read_beginning(file: BinaryIO) -> Part10:
    """Return what the File Meta Information says, reading more than its usual length only where it is longer."""
    content = file.read(HEAD_BYTES)
    try:
        return read_part10(content)
    except NotDicom:
        if len(content) < HEAD_BYTES or not has_prefix(content):
            raise
    return read_part10(content + file.read())
