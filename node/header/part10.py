"""The DICOM File Format around a data set: reading where it begins, writing what stands before it (PS3.10 7)."""

from dataclasses import dataclass
from struct import pack

from node.errors import NotDicom
from node.header.elements import ElementReader, Encoded

# uuid5 of "radnode implementation" below radnode's own namespace; never changes.
IMPLEMENTATION_CLASS_UID = "2.25.197689398889285903398818774128443609421"
IMPLEMENTATION_VERSION_NAME = "RADNODE"
PREAMBLE = b"\0" * 128 + b"DICM"
FILE_META_GROUP = 0x0002
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
SENDING_APPLICATION_ENTITY_TITLE = 0x00020017
AET_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Part10:
    """Where the data set of a file begins, how it is encoded, and which Instance the file says it is.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        Media Storage SOP Class UID (0002,0002) and SOP Instance UID (0002,0003); empty where absent.
    sending_aet
        Sending Application Entity Title (0002,0017); empty where absent.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sending_aet: str
    data_set_offset: int


def has_prefix(content: Encoded) -> bool:
    """Return whether `content`, the first bytes of a file, claims to be DICOM (PS3.10 7.1)."""
    return content[: len(PREAMBLE)][128:] == b"DICM"


def read_part10(content: Encoded) -> Part10:
    """Return what the File Meta Information says.

    The data set is found by reading the group, because its Group Length (0002,0000) is sometimes wrong.

    Parameters
    ----------
    content
        The file, at least up to and into the data set.

    Raises
    ------
    NotDicom
        If the file has no preamble, its File Meta Information is cut or names no Transfer Syntax, or nothing follows.
    """
    if not has_prefix(content):
        raise NotDicom("the file has no DICM prefix at byte 128; it is no DICOM file")
    reader = ElementReader(content, implicit=False, little_endian=True)
    wanted = (
        MEDIA_STORAGE_SOP_CLASS_UID,
        MEDIA_STORAGE_SOP_INSTANCE_UID,
        TRANSFER_SYNTAX_UID,
        SENDING_APPLICATION_ENTITY_TITLE,
    )
    found = dict.fromkeys(wanted, "")
    at = len(PREAMBLE)
    while at < len(content) and int.from_bytes(content[at : at + 2], "little") == FILE_META_GROUP:
        element = reader.element_at(at)
        at = reader.end_of(element)
        if element.tag in found:
            found[element.tag] = content[element.offset : at].decode("latin-1").strip("\0 ")
    if not found[TRANSFER_SYNTAX_UID]:
        raise NotDicom("File Meta Information names no Transfer Syntax UID (0002,0010); export the file again")
    if at >= len(content):
        raise NotDicom("the file is cut after its File Meta Information; obtain it again")
    return Part10(
        sop_class_uid=found[MEDIA_STORAGE_SOP_CLASS_UID],
        sop_instance_uid=found[MEDIA_STORAGE_SOP_INSTANCE_UID],
        transfer_syntax_uid=found[TRANSFER_SYNTAX_UID],
        sending_aet=found[SENDING_APPLICATION_ENTITY_TITLE],
        data_set_offset=at,
    )


def file_meta(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sending_aet: str = "") -> bytes:
    """Return preamble and File Meta Information for a data set that follows exactly as it was received.

    Parameters
    ----------
    sending_aet
        AE title of the sender, for Sending Application Entity Title (0002,0017); "" when nobody sent it.

    References
    ----------
    DICOM PS3.10 7.1
    """
    group = b"".join((
        pack("<HH2sxxI", 2, 1, b"OB", 2) + b"\0\1",
        _element(0x0002, b"UI", sop_class_uid),
        _element(0x0003, b"UI", sop_instance_uid),
        _element(0x0010, b"UI", transfer_syntax_uid),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        _aet_element(0x0017, sending_aet),
    ))  # fmt: skip
    return PREAMBLE + pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


def _element(number: int, vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii")
    if len(raw) % 2:
        raw += b"\0" if vr == b"UI" else b" "
    return pack("<HH2sH", FILE_META_GROUP, number, vr, len(raw)) + raw


def _aet_element(number: int, aet: str) -> bytes:
    # Always of one length: then the data set of an Instance lies at one offset, whoever sent it.
    shown = aet.encode("ascii", "replace")[:AET_BYTES].ljust(AET_BYTES)
    return _element(number, b"AE", shown.decode("ascii")) if aet else b""
