"""Content items of an SR as bytes: a report has hundreds, and highdicom takes a second for them (PS3.3 C.17.3)."""

import math
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from node.domain.codes import Code
from node.errors import ResultCheckFailed
from workers.encoding.frames import refer_to_images
from workers.encoding.raw_elements import write_element, write_long_text, write_sequence, write_text

CONTAINS = "CONTAINS"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
SELECTED_FROM = "SELECTED FROM"
# Code Value and Coding Scheme Designator are SH, Code Meaning is LO (PS3.5 6.2).
MAX_SH, MAX_LO = 16, 64
# Graphic Data is FL, 4 bytes each; an element of FL holds less than 64 KiB (PS3.5 7.1.2).
MAX_POINTS = 0xFFFE // 8


def write_code(
    name: Code, value: Code, *, version: str = "", relationship: str = CONTAINS, children: Iterable[bytes] = ()
) -> bytes:
    """Return a CODE item.

    Parameters
    ----------
    version
        Coding Scheme Version (0008,0103) of `value`; empty where its scheme needs none.
    children
        Content items below it.

    Raises
    ------
    ResultCheckFailed
        If a code is too long for its elements.
    """
    answer = write_sequence("ConceptCodeSequence", [write_concept(value, version=version)])
    return _start(name, "CODE", relationship) + answer + _write_children(children)


def write_statement(name: Code, text: str, *, relationship: str = CONTAINS) -> bytes:
    """Return a TEXT item."""
    return _start(name, "TEXT", relationship) + write_long_text("TextValue", "UT", text)


def write_uid(name: Code, uid: str, *, relationship: str = CONTAINS) -> bytes:
    """Return a UIDREF item."""
    return _start(name, "UIDREF", relationship) + write_text("UID", "UI", uid)


def write_number(
    name: Code,
    value: float,
    unit: Code,
    *,
    relationship: str = CONTAINS,
    children: Iterable[bytes] = (),
) -> bytes:
    """Return a NUM item.

    Raises
    ------
    ResultCheckFailed
        If `value` is no finite number: a report cannot state it.
    """
    if not math.isfinite(value):
        raise ResultCheckFailed(f"{name.meaning} is {value}, which no report can state; the Pipeline is at fault")
    measured = (
        write_sequence("MeasurementUnitsCodeSequence", [write_concept(unit)])
        + write_element("FloatingPointValue", "FD", struct.pack("<d", value))
        + write_text("NumericValue", "DS", format_number_as_ds(float(value)))
    )
    return (
        _start(name, "NUM", relationship)
        + write_sequence("MeasuredValueSequence", [measured])
        + _write_children(children)
    )


def write_image(
    name: Code,
    image: Dataset,
    *,
    relationship: str = CONTAINS,
    segment_number: int | None = None,
    children: Iterable[bytes] = (),
) -> bytes:
    """Return an IMAGE item that refers to `image`, an Instance or a Frame, or to one Segment of it."""
    (reference,) = refer_to_images([image])
    if segment_number is not None:
        reference += write_element("ReferencedSegmentNumber", "US", struct.pack("<H", segment_number))
    start = write_sequence("ReferencedSOPSequence", [reference]) + _start(name, "IMAGE", relationship)
    return start + _write_children(children)


def write_outline(name: Code, points: NDArray[np.float64], image: bytes) -> bytes:
    """Return a SCOORD item, a POLYLINE.

    Parameters
    ----------
    points
        (points, 2) float64 of (column, row); the corner of the first pixel is (0, 0).
    image
        The IMAGE item that it was selected from.

    Raises
    ------
    ResultCheckFailed
        If it has more points than an element can hold.

    References
    ----------
    DICOM PS3.3 C.18.6
    """
    if len(points) > MAX_POINTS:
        raise ResultCheckFailed(f"an outline has {len(points)} corners, {MAX_POINTS} can be written; the mask is noise")
    graphic = write_element("GraphicData", "FL", points.astype("<f4").tobytes())
    return (
        _start(name, "SCOORD", CONTAINS)
        + _write_children([image])
        + graphic
        + write_text("GraphicType", "CS", "POLYLINE")
    )


def write_container(name: Code, children: Iterable[bytes], *, template: str = "", is_continuous: bool = True) -> bytes:
    """Return a CONTAINER item.

    Parameters
    ----------
    template
        Template Identifier (0040,DB00), such as ``1411``; empty for none.
    """
    continuity = "CONTINUOUS" if is_continuous else "SEPARATE"
    start = _start(name, "CONTAINER", CONTAINS) + write_text("ContinuityOfContent", "CS", continuity)
    if template:
        identified = write_text("MappingResource", "CS", "DCMR") + write_text("TemplateIdentifier", "CS", template)
        start += write_sequence("ContentTemplateSequence", [identified])
    return start + _write_children(children)


def write_concept(code: Code, *, version: str = "") -> bytes:
    """Return the elements of a coded concept.

    Raises
    ------
    ResultCheckFailed
        If it is incomplete or too long for its elements.

    References
    ----------
    DICOM PS3.3 8.8
    """
    check_code(code)
    stated = write_text("CodingSchemeVersion", "SH", version) if version else b""
    named = (
        write_text("CodingSchemeDesignator", "SH", code.scheme) + stated + write_text("CodeMeaning", "LO", code.meaning)
    )
    # What does not fit into Code Value goes elsewhere, not away (PS3.3 8.1).
    if len(code.value) > MAX_SH:
        return named + write_long_text("LongCodeValue", "UC", code.value)
    return write_text("CodeValue", "SH", code.value) + named


def check_code(code: Code) -> None:
    """Go on when a code can be written.

    Raises
    ------
    ResultCheckFailed
        If it is incomplete or too long for its elements.
    """
    if not is_writable(code):
        raise ResultCheckFailed(f"{code} is no code that DICOM can hold (PS3.3 8.8); correct it in the model")


def is_line(text: str) -> bool:
    """Return whether LO and SH can hold a text of this kind: not blank, and all of it can be printed (PS3.5 6.2)."""
    # A backslash would part the value in two (PS3.5 6.1.2.3).
    return bool(text.strip()) and text.isprintable() and "\\" not in text


def is_writable(code: Code) -> bool:
    """Return whether a code is complete and fits into its elements (PS3.3 8.8)."""
    is_whole = all(is_line(part) for part in (code.value, code.scheme, code.meaning))
    return is_whole and len(code.scheme) <= MAX_SH and len(code.meaning) <= MAX_LO


def _start(name: Code, value_type: str, relationship: str) -> bytes:
    return (
        write_text("RelationshipType", "CS", relationship)
        + write_text("ValueType", "CS", value_type)
        + write_sequence("ConceptNameCodeSequence", [write_concept(name)])
    )


def _write_children(children: Iterable[bytes]) -> bytes:
    items = list(children)
    return write_sequence("ContentSequence", items) if items else b""
