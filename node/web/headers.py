"""Whole headers in the DICOM JSON Model, with bulk data elsewhere (PS3.18 F); runs in the pool only."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement

from node.codecs import DECODER_ERRORS
from node.decoding import find_pixels, open_file, read_header
from node.errors import FileUnreadable, NodeError, NotFound

Model = dict[str, dict[str, Any]]

# Longer values have an address of their own.
MAX_INLINE_BYTES = 1024
BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
CHARACTER_SET = "00080005"
UTF_8 = "ISO_IR 192"


def read_models(paths: Sequence[str], bulk_urls: Sequence[str]) -> bytes:
    """Return the headers of files as the inside of a JSON array, behind a line that tells which are left out.

    The line is JSON: for each file that cannot be read, its place among `paths` from 0, code and text of the error.

    Parameters
    ----------
    bulk_urls
        For each file, what the tag of a value that is left out is put behind.
    """
    models: list[bytes] = []
    unread: list[tuple[int, str, str]] = []
    for place, (path, url) in enumerate(zip(paths, bulk_urls, strict=True)):
        try:
            models.append(_dump(_read_model(path, url)))
        except NodeError as exc:
            unread.append((place, exc.code, str(exc)))
        except (*DECODER_ERRORS, MemoryError) as exc:
            text = f"{Path(path).name} of the store cannot be told ({type(exc).__name__}); look at it"
            unread.append((place, FileUnreadable.code, text))
    return json.dumps(unread).encode() + b"\n" + b",".join(models)


def read_value(path: str, steps: Sequence[str]) -> bytes:
    """Return one value of a header.

    Parameters
    ----------
    steps
        Tag, or tag of a sequence, number of its item from 0, and so on to the tag of the value.

    Raises
    ------
    FileUnreadable
        If the file cannot be read.
    NotFound
        If there is no such value, or it is none of bytes.
    """
    with open_file(path) as file:
        found: Any = read_header(file)
    try:
        for step in steps:
            found = found[int(step, 16)] if isinstance(found, Dataset) else found.value[int(step)]
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as exc:
        raise NotFound("there are no bulk data of this address; take it from the metadata") from exc
    if not isinstance(found, DataElement) or found.VR not in BINARY_VRS:
        raise NotFound("there are no bulk data of this address; take it from the metadata")
    return bytes(found.value or b"")


def _read_model(path: str, bulk_url: str) -> Model:
    with open_file(path) as file:
        header = read_header(file)
        pixels = find_pixels(file, header)
    model = _of_data_set(header, bulk_url)
    if pixels is not None:
        keyword, vr = pixels
        tag = f"{tag_for_keyword(keyword):08X}"
        model[tag] = {"vr": vr, "BulkDataURI": f"{bulk_url}/{tag}"}
    return model


def _of_data_set(ds: Dataset, bulk_url: str) -> Model:
    model: Model = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0:
            # Group lengths are those of another encoding (PS3.18 F.2.2).
            continue
        model[f"{tag:08X}"] = _of_element(ds, tag, f"{bulk_url}/{tag:08X}")
    if CHARACTER_SET in model:
        model[CHARACTER_SET] = {"vr": "CS", "Value": [UTF_8]}
    return model


def _of_element(ds: Dataset, tag: Any, bulk_url: str) -> dict[str, Any]:
    try:
        element = ds[tag]
        if element.VR == "SQ":
            items = [_of_data_set(item, f"{bulk_url}/{number}") for number, item in enumerate(element.value)]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        if element.VR in BINARY_VRS and len(element.value or b"") > MAX_INLINE_BYTES:
            return {"vr": element.VR, "BulkDataURI": bulk_url}
        told: dict[str, Any] = element.to_json_dict(None, 0)
    except DECODER_ERRORS:
        # What contradicts its representation is told as the bytes that it is.
        return _as_text(ds.get_item(tag))
    if "Value" in told:
        told["Value"] = [
            None if isinstance(value, float) and not math.isfinite(value) else value for value in told["Value"]
        ]
    return told


def _as_text(raw: Any) -> dict[str, Any]:
    value = raw.value if isinstance(raw.value, bytes) else str(raw.value).encode()
    return {"vr": "UT", "Value": [value.decode("ascii", "backslashreplace")]}


def _dump(model: Mapping[str, Any]) -> bytes:
    return json.dumps(model, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
