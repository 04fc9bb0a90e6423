"""Data sets of normalized services: between their encoding and the DICOM JSON Model (PS3.18 F)."""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pydicom import Dataset, config
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from node.domain.workitem import SPECIFIC_CHARACTER_SET, DataSet
from node.errors import NotDicom

UTF_8 = "ISO_IR 192"
# What pydicom raises on values that are not what their VR says.
UNREADABLE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, OSError, RecursionError,
    NotImplementedError, struct.error, BytesLengthException,
)  # fmt: skip


def read_model(encoded: bytes, *, is_implicit: bool) -> DataSet:
    """Return a data set in the DICOM JSON Model, its text in Unicode; groups' lengths are left out.

    Parameters
    ----------
    encoded
        In Little Endian.

    Raises
    ------
    NotDicom
        If a value is not what its VR says.
    """
    _tolerate()
    try:
        ds = read_dataset(BytesIO(encoded), is_implicit, is_little_endian=True)
        ds.decode()
        model: Mapping[str, Any] = ds.to_json_dict()
    except UNREADABLE as exc:
        raise NotDicom(f"the data set cannot be read ({type(exc).__name__})") from exc
    return {tag: value for tag, value in model.items() if tag != SPECIFIC_CHARACTER_SET and not tag.endswith("0000")}


def write_model(model: DataSet, *, is_implicit: bool) -> bytes:
    """Return a data set in Little Endian, its text in UTF-8.

    Raises
    ------
    NotDicom
        If a value is not what its VR says.
    """
    _tolerate()
    try:
        ds = Dataset.from_json(dict(model))
        ds.SpecificCharacterSet = UTF_8
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = is_implicit, True
        write_dataset(stream, ds)
    except UNREADABLE as exc:
        raise NotDicom(f"the data set cannot be written ({type(exc).__name__})") from exc
    return stream.getvalue()


def _tolerate() -> None:
    # What is wrong with a value is told to its sender, not to the log.
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
