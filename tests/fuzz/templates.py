"""What is damaged: sound data sets of every encoding, cut into their elements."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import pydicom

from node.header.elements import ElementReader
from node.header.part10 import read_part10
from tests.instances import BIG_ENDIAN, CT_IMAGE_STORAGE, DEFLATED, EXPLICIT, IMPLICIT, JPEG_2000, ct_slice, encode

SOP_INSTANCE_UID, STUDY_INSTANCE_UID = 0x00080018, 0x0020000D
OWN_UIDS = frozenset({SOP_INSTANCE_UID, STUDY_INSTANCE_UID})
# Small files of pydicom, each odd in another way.
LIBRARY = (
    "test_files/test-SR.dcm",
    "test_files/reportsi.dcm",
    "test_files/rtplan.dcm",
    "test_files/rtdose_1frame.dcm",
    "test_files/JPEG2000.dcm",
    "test_files/MR_small_RLE.dcm",
    "test_files/MR_small_bigendian.dcm",
    "test_files/MR_small_padded.dcm",
    "test_files/image_dfl.dcm",
    "test_files/SC_rgb_small_odd.dcm",
    "test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "charset_files/chrH32.dcm",
    "charset_files/chrKoreanMulti.dcm",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A data set that becomes an Instance of its own.

    Attributes
    ----------
    slots
        Each top-level element, encoded, before the whole is deflated; the tag alone where a UID goes.
    """

    slots: tuple[bytes | int, ...]
    transfer_syntax_uid: str
    sop_class_uid: str

    @property
    def elements(self) -> list[bytes]:
        """The elements that every Instance of this template has."""
        return [slot for slot in self.slots if isinstance(slot, bytes)]

    def parts(self, sop_instance_uid: str, study_instance_uid: str) -> list[bytes]:
        """Return the elements of an Instance with these UIDs."""
        uids = {SOP_INSTANCE_UID: sop_instance_uid, STUDY_INSTANCE_UID: study_instance_uid}
        return [slot if isinstance(slot, bytes) else self._uid(slot, uids[slot]) for slot in self.slots]

    def _uid(self, tag: int, uid: str) -> bytes:
        raw = uid.encode() + b"\0" * (len(uid) % 2)
        group, number = tag >> 16, tag & 0xFFFF
        if self.transfer_syntax_uid == IMPLICIT:
            return struct.pack("<HHI", group, number, len(raw)) + raw
        order = ">" if self.transfer_syntax_uid == BIG_ENDIAN else "<"
        return struct.pack(order + "HH2sH", group, number, b"UI", len(raw)) + raw

    def encoded(self, content: bytes) -> bytes:
        """Return `content` as it is sent in this Transfer Syntax."""
        if self.transfer_syntax_uid != DEFLATED:
            return content
        deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        return deflater.compress(content) + deflater.flush()


class _Every:
    """Contains whatever tag there is."""

    def __contains__(self, tag: object) -> bool:
        return True


def load_templates() -> tuple[Template, ...]:
    """Return every template, always in the same order."""
    own = [
        _cut_up(encode(ct_slice(), EXPLICIT if syntax == DEFLATED else syntax), syntax, CT_IMAGE_STORAGE)
        for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_2000)
    ]
    return (*own, *map(_from_library, LIBRARY))


def _from_library(name: str) -> Template:
    content = (Path(pydicom.__file__).parent / "data" / name).read_bytes()
    part10 = read_part10(content)
    data_set = content[part10.data_set_offset :]
    if part10.transfer_syntax_uid == DEFLATED:
        data_set = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set)
    return _cut_up(data_set, part10.transfer_syntax_uid, part10.sop_class_uid)


def _cut_up(data_set: bytes, transfer_syntax_uid: str, sop_class_uid: str) -> Template:
    reader = ElementReader(
        data_set, implicit=transfer_syntax_uid == IMPLICIT, little_endian=transfer_syntax_uid != BIG_ENDIAN
    )
    slots: list[bytes | int] = []
    begin = 0
    for element in reader.find(_Every()):
        end = reader.end_of(element)
        slots.append(element.tag if element.tag in OWN_UIDS else data_set[begin:end])
        begin = end
    return Template(slots=tuple(slots), transfer_syntax_uid=transfer_syntax_uid, sop_class_uid=sop_class_uid)
