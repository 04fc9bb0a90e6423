"""Cases whose sources hold what somebody sent: bytes in any character set, values that no standard allows."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from tests.analyses import Case, ct_case, make_radiograph, make_slices, put, resend, xray_case
from workers.encoding.quiet import quiet_libraries
from workers.radiograph import read_radiograph

Change = Callable[[Dataset], None]
CHARACTER_SET = Tag("SpecificCharacterSet")


def ct_of(change: Change, *, with_nodules: bool = True) -> Case:
    """Return the chest CT after `change` to each of its Instances."""
    case = ct_case(with_nodules=with_nodules)
    sent = {ds.SOPInstanceUID: _send(ds, change) for ds in make_slices(BodyPartExamined="CHEST")}
    volume = case.analysis.reference
    assert volume is not None
    volume = replace(volume, datasets=tuple(sent[ds.SOPInstanceUID] for ds in volume.datasets))
    return replace(case, inputs={"ct": list(sent.values())}, analysis=replace(case.analysis, reference=volume))


def xray_of(change: Change) -> Case:
    """Return the chest X-ray after `change` to its Instance."""
    case = xray_case()
    sent = _send(make_radiograph(), change)
    return replace(case, inputs={"image": [sent]}, analysis=replace(case.analysis, radiograph=read_radiograph(sent)))


def with_bytes(character_set: bytes | None, values: Mapping[str, bytes]) -> Change:
    """Return a change that puts bytes under keywords.

    Parameters
    ----------
    character_set
        Value of Specific Character Set (0008,0005); None to leave it out.
    """

    def change(ds: Dataset) -> None:
        del ds[CHARACTER_SET]
        if character_set is not None:
            _put_bytes(ds, CHARACTER_SET, character_set)
        for keyword, value in values.items():
            _put_bytes(ds, Tag(keyword), value)

    return change


def with_header(header: Dataset) -> Change:
    """Return a change that puts all text of `header` as it was read, Sequences and character set included."""
    kept = [tag for tag in header.keys() if tag.group in (0x0008, 0x0010, 0x0032) and not tag.is_private]  # noqa: SIM118

    def change(ds: Dataset) -> None:
        del ds[CHARACTER_SET]
        for tag in kept:
            if tag not in ds or dictionary_VR(tag) not in ("UI", "DA", "TM", "CS"):
                ds[tag] = header.get_item(tag)

    return change


def with_values(**elements: Any) -> Change:
    """Return a change that sets elements by keyword, as a sender that checks nothing: bytes are written as they are."""

    def change(ds: Dataset) -> None:
        put(ds, {keyword: value for keyword, value in elements.items() if not isinstance(value, bytes)})
        for keyword, value in elements.items():
            if isinstance(value, bytes):
                _put_bytes(ds, Tag(keyword), value)

    return change


def without(*keywords: str) -> Change:
    """Return a change that takes elements away."""

    def change(ds: Dataset) -> None:
        for keyword in keywords:
            if keyword in ds:
                delattr(ds, keyword)

    return change


def item(**elements: Any) -> Dataset:
    """Return a Sequence Item."""
    ds = Dataset()
    put(ds, elements)
    return ds


def _put_bytes(ds: Dataset, tag: BaseTag, value: bytes) -> None:
    padded = value + b" " * (len(value) % 2)
    ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)


def _send(ds: Dataset, change: Change) -> Dataset:
    """Return what is read after `ds` was written with the bytes that `change` put."""
    ds = resend(ds)
    change(ds)
    with quiet_libraries():
        # The bytes are in the character set that they say: pydicom is to write them as they are.
        encodings = convert_encodings(ds.get("SpecificCharacterSet"))
        ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings)
        return resend(ds)
