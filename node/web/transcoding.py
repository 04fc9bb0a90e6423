"""A whole Instance in Explicit VR Little Endian, whatever it is stored in; runs in a process of the pool only."""

from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from node.decoding import BITS_OF_A_BYTE, WORD_BYTES, open_file, open_source, read_whole, swap, try_decoders

PIXEL_DATA = 0x7FE00010
# Of a pixel that is two words.
WIDE_BITS = 32


def transcode(path: str) -> bytes:
    """Return the Instance of a file as a Part 10 file in Explicit VR Little Endian.

    Raises
    ------
    FileUnreadable
        If it is absent, or no Part 10 file.
    PixelsUndecodable
        If no decoder understands its pixels, or a Frame is larger than `MAX_PIXELS`.
    """
    with open_file(path) as file:
        ds: Dataset = dcmread(BytesIO(read_whole(file)))
    uid = UID(ds.file_meta.TransferSyntaxUID)
    if uid.is_encapsulated:
        with open_source(path) as source:
            try_decoders(source, lambda _, plugin: ds.decompress(decoding_plugin=plugin, generate_instance_uid=False))
    elif uid == ExplicitVRBigEndian:
        ds = _turned(ds)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = BytesIO()
    ds.save_as(written, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return written.getvalue()


def _turned(ds: Dataset) -> Dataset:
    """Return a data set of Big Endian as one that can be written in Little Endian; pydicom leaves words as they are."""
    turned = Dataset()
    turned.file_meta = ds.file_meta
    for element in ds.iterall():
        if element.VR == "OW" and element.value:
            is_wide = element.tag == PIXEL_DATA and ds.get("BitsAllocated") == WIDE_BITS
            element.value = swap(element.value, WIDE_BITS // BITS_OF_A_BYTE if is_wide else WORD_BYTES)
    turned.update({element.tag: element for element in ds})
    return turned
