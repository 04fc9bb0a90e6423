"""Objects that no node should take: hostile UIDs, a command that says otherwise, cut and random data sets."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from struct import pack

from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite

from node.header.part10 import read_part10

STUDY_INSTANCE_UID = b"\x20\x00\x0d\x00UI"
SOP_INSTANCE_UID = b"\x08\x00\x18\x00UI"
LENGTH_BYTES = 2
CUT_BYTES = 4096
RANDOM_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One C-STORE as it goes over the wire.

    Attributes
    ----------
    words
        What is wrong with it.
    command_uid
        Affected SOP Instance UID (0000,1000).
    data_set
        In Explicit VR Little Endian.
    """

    words: str
    sop_class_uid: str
    command_uid: str
    data_set: bytes


def whole(ds: FileDataset) -> Offer:
    """Return an Instance with nothing wrong."""
    return Offer(
        words="nothing",
        sop_class_uid=str(ds.SOPClassUID),
        command_uid=str(ds.SOPInstanceUID),
        data_set=_encode(ds),
    )


def wrongs(ds: FileDataset) -> Iterator[Offer]:
    """Yield an Instance in every form that must be refused.

    References
    ----------
    DICOM PS3.5 9.1 (what a UID is), PS3.7 9.3.1.1 (the command names the Instance), PS3.4 B.2.3 (the refusals)
    """
    right, sop_class_uid = _encode(ds), str(ds.SOPClassUID)
    for words, uid in (
        ("a SOP Instance UID that climbs out of a folder", "../../../../../../tmp/radnode"),
        ("a SOP Instance UID with a shell command", "1.2.3;touch /tmp/radnode"),
        ("a SOP Instance UID of 80 characters", "1." + "2" * 78),
        ("an empty SOP Instance UID", ""),
    ):
        data_set = _with_uid(right, SOP_INSTANCE_UID, uid)
        yield Offer(words=words, sop_class_uid=sop_class_uid, command_uid=uid, data_set=data_set)
    own = str(ds.SOPInstanceUID)
    climbing = _with_uid(right, STUDY_INSTANCE_UID, "../../../../../../tmp/radnode")
    for words, command_uid, data_set in (
        ("a Study Instance UID that climbs out of a folder", own, climbing),
        ("a command that names another Instance than its data set", f"{own[:40]}.1", right),
        (f"Pixel Data {CUT_BYTES} bytes shorter than they say", own, right[:-CUT_BYTES]),
        ("random bytes for a data set", own, random.Random(0).randbytes(RANDOM_BYTES)),  # noqa: S311 - no secret
    ):
        yield Offer(words=words, sop_class_uid=sop_class_uid, command_uid=command_uid, data_set=data_set)


def _encode(ds: FileDataset) -> bytes:
    """Return the data set of a file in Explicit VR Little Endian."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    content = buffer.getvalue()
    return content[read_part10(content).data_set_offset :]


def _with_uid(data_set: bytes, tag: bytes, uid: str) -> bytes:
    """Return a data set with another value in one element of top level, whatever the value is."""
    at = data_set.index(tag) + len(tag)
    length = int.from_bytes(data_set[at : at + LENGTH_BYTES], "little")
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return data_set[:at] + pack("<H", len(value)) + value + data_set[at + LENGTH_BYTES + length :]
