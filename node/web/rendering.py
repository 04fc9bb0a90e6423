"""Pictures for people: what a Frame looks like on a screen (PS3.3 C.11, PS3.18 8.3.5); runs in the pool only."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from node.codecs import DECODER_ERRORS
from node.decoding import Source, decode_frame
from node.errors import PixelsUndecodable
from node.web.look import PNG, Look, Viewport, Window

WHITE = 255
PALETTE = "PALETTE COLOR"
INVERTED = "MONOCHROME1"
# What holds, in Enhanced objects, the values that others have at the top (PS3.3 C.7.6.16.2).
TRANSFORMATION = "PixelValueTransformationSequence"
VOI = "FrameVOILUTSequence"
VOI_KEYWORDS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
MODALITY_KEYWORDS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")


def render_frame(source: Source, number: int, look: Look) -> bytes:
    """Return a picture of a Frame as a PNG or JPEG file.

    Raises
    ------
    NotFound
        If there is no such Frame.
    PixelsUndecodable
        If it cannot be decoded, or its header cannot be followed.
    """
    try:
        picture = Image.fromarray(_shades(source, number, look.window))
    except DECODER_ERRORS as exc:
        raise PixelsUndecodable(
            f"instance {source.uid}: Frame {number} cannot be shown as its header says ({type(exc).__name__})"
        ) from exc
    if look.viewport is not None:
        picture = _fit(picture, look.viewport)
    written = BytesIO()
    if look.media_type == PNG:
        picture.save(written, "PNG", compress_level=3)
    else:
        picture.save(written, "JPEG", quality=look.quality)
    return written.getvalue()


def _shades(source: Source, number: int, window: Window | None) -> NDArray[np.uint8]:
    """Return the Frame as it is shown, (rows, columns) or (rows, columns, 3), 0-255."""
    stored, header = decode_frame(source, number), source.header
    if header.get("PhotometricInterpretation") == PALETTE:
        return _to_bytes(apply_color_lut(stored, header)[..., :3])
    if stored.ndim > 2:
        return _to_bytes(stored[..., :3], bits=int(header.get("BitsStored") or 8))
    gray = _presentation(stored, _of_frame(header, number), window)
    return WHITE - gray if header.get("PhotometricInterpretation") == INVERTED else gray


def _presentation(stored: NDArray[np.generic], frame: Dataset, window: Window | None) -> NDArray[np.uint8]:
    values = apply_modality_lut(stored, frame) if _has(frame, MODALITY_KEYWORDS) else stored
    if window is None and frame.get("VOILUTSequence"):
        shown = apply_voi(values, frame)
        bits = int(frame.VOILUTSequence[0].LUTDescriptor[2])
        return _scale(shown.astype(np.float32), 0.0, float(2**bits - 1))
    chosen = window or _own_window(frame)
    floats = values.astype(np.float32)
    if chosen is None:
        finite = floats[np.isfinite(floats)]
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        return _scale(floats, lowest, highest)
    return _apply_window(floats, chosen)


def _apply_window(values: NDArray[np.float32], window: Window) -> NDArray[np.uint8]:
    """Return shades by PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            shades: NDArray[np.float32] = WHITE / (1.0 + np.exp(-4.0 * (values - window.center) / window.width))
        return _rounded(shades)
    if window.function == "LINEAR_EXACT":
        return _scale(values, window.center - window.width / 2, window.center + window.width / 2)
    begin = window.center - 0.5 - (window.width - 1) / 2
    return _scale(values, begin, begin + max(window.width - 1, 0.0))


def _scale(values: NDArray[np.float32], lowest: float, highest: float) -> NDArray[np.uint8]:
    """Return `values` from black at `lowest` to white at `highest`; what is no number is black."""
    if highest <= lowest:
        return np.where(values > lowest, WHITE, 0).astype(np.uint8)
    values -= np.float32(lowest)
    values *= np.float32(WHITE / (highest - lowest))
    np.clip(values, 0, WHITE, out=values)
    return _rounded(values)


def _rounded(shades: NDArray[np.float32]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.nan_to_num(np.rint(shades)).astype(np.uint8)
    return rounded


def _own_window(frame: Dataset) -> Window | None:
    center, width = (_first(frame.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    return Window(center=center, width=width, function=str(frame.get("VOILUTFunction") or "LINEAR").upper())


def _first(value: Any) -> float | None:
    """Return the first of one or more numbers; None where there is none."""
    if value is None or value == "":
        return None
    first = value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value
    return float(first)


def _of_frame(header: Dataset, number: int) -> Dataset:
    """Return what the Modality and VOI LUT of one Frame are, wherever the header keeps it."""
    frame = Dataset()
    # By its Transfer Syntax, tables are read.
    frame.file_meta = header.file_meta
    for keyword in (*MODALITY_KEYWORDS, *VOI_KEYWORDS, "BitsStored", "PixelRepresentation", "BitsAllocated"):
        if keyword in header:
            frame[keyword] = header[keyword]
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*(header.get("SharedFunctionalGroupsSequence") or [])[:1], *own[number - 1 : number]]
    for group in groups:
        for macro in (TRANSFORMATION, VOI):
            for item in (group.get(macro) or [])[:1]:
                frame.update({element.tag: element for element in item})
    return frame


def _has(frame: Dataset, keywords: tuple[str, ...]) -> bool:
    return any(frame.get(keyword) not in (None, "") for keyword in keywords)


def _to_bytes(samples: NDArray[np.generic], *, bits: int | None = None) -> NDArray[np.uint8]:
    depth = samples.dtype.itemsize * 8 if bits is None else bits
    if depth <= 8:
        return samples.astype(np.uint8)
    return (samples.astype(np.uint32) >> (depth - 8)).astype(np.uint8)


def _fit(picture: Image.Image, viewport: Viewport) -> Image.Image:
    left, top = viewport.x, viewport.y
    width = picture.width - left if viewport.region_width is None else viewport.region_width
    height = picture.height - top if viewport.region_height is None else viewport.region_height
    right, bottom = min(left + abs(width), picture.width), min(top + abs(height), picture.height)
    if left >= right or top >= bottom:
        raise PixelsUndecodable(f"the viewport shows nothing of {picture.width} x {picture.height} pixels")
    cut = picture.crop(
        (round(left), round(top), max(round(right), round(left) + 1), max(round(bottom), round(top) + 1))
    )
    for extent, flip in ((width, Image.Transpose.FLIP_LEFT_RIGHT), (height, Image.Transpose.FLIP_TOP_BOTTOM)):
        if extent < 0:
            cut = cut.transpose(flip)
    ratio = min(viewport.width / cut.width, viewport.height / cut.height)
    size = max(round(cut.width * ratio), 1), max(round(cut.height * ratio), 1)
    return cut.resize(size, Image.Resampling.BILINEAR if ratio > 1 else Image.Resampling.BOX)
