"""Stored values of one Instance as one array, or a refusal; and what the Modality LUT makes of them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag
from pydicom.uid import UID

from node.codecs import DECODER_ERRORS, MAX_PIXELS, PLUGINS
from node.errors import PixelsUndecodable

# Values that are cast and shifted at a time, so that the second pass finds them in the cache of its core.
CHUNK_VALUES = 64 * 1024


class StoredHeader(FileDataset):
    """Everything of an Instance but its Pixel Data, which lies in the store until somebody asks for it.

    Attributes
    ----------
    decode_stored
        Returns the stored values as `decode_pixels` does. A function, which copies of the header share.
    """

    decode_stored: Callable[[], NDArray[np.generic]]

    def __init__(self, header: FileDataset, decode_stored: Callable[[], NDArray[np.generic]]) -> None:
        super().__init__(
            header.filename or "",
            header,
            preamble=header.preamble,
            file_meta=header.file_meta,
            is_implicit_VR=header.original_encoding[0] is True,
            is_little_endian=header.original_encoding[1] is True,
        )
        is_implicit, is_little_endian = header.original_encoding
        self.set_original_encoding(is_implicit, is_little_endian, header.original_character_set)
        self.decode_stored = decode_stored


class FrameHeader(Dataset):
    """What is said of one Frame of a multi-frame Instance, at one level as of a single-frame one (`workers.frames`).

    Attributes
    ----------
    frame_number
        From 1, as Referenced Frame Number (0008,1160) counts.
    frame_count
        How many Frames its Instance holds.
    whole
        Returns the header of the Instance.
    decode_stored
        Returns the stored values as `decode_pixels` does. Both are functions, which copies share.
    """

    frame_number: int
    frame_count: int
    whole: Callable[[], Dataset]
    decode_stored: Callable[[], NDArray[np.generic]]

    def __init__(
        self,
        elements: dict[BaseTag, DataElement | RawDataElement],
        whole: Dataset,
        *,
        number: int,
        count: int,
        decode: Callable[[int], NDArray[np.generic]],
    ) -> None:
        super().__init__(elements)
        self.file_meta = whole.file_meta
        is_implicit, is_little_endian = whole.original_encoding
        self.set_original_encoding(is_implicit, is_little_endian, whole.original_character_set)
        self.frame_number, self.frame_count = number, count
        self.whole = lambda: whole
        # A partial would be copied with all that it holds.
        self.decode_stored = lambda: decode(number)


def decode_pixels(ds: Dataset) -> NDArray[np.generic]:
    """Return the stored values of a single-frame grayscale Instance.

    Returns
    -------
    NDArray
        (rows, columns), stored values before any rescale; signed as Pixel Representation says.

    Raises
    ------
    PixelsUndecodable
        If Pixel Data is absent, cut, too large, coded as no decoder here understands, or of more than one frame or
        sample.

    References
    ----------
    DICOM PS3.3 C.7.6.3, PS3.5 8.2
    """
    if isinstance(ds, StoredHeader | FrameHeader):
        return ds.decode_stored()
    if int(ds.get("NumberOfFrames") or 1) != 1:
        raise PixelsUndecodable(
            f"instance {_name(ds)}: expected one grayscale frame; send single-frame grayscale Instances"
        )
    return _decode_gray(ds, lambda plugin: _read_only_frame(ds, plugin))


def decode_frame(ds: Dataset, number: int) -> NDArray[np.generic]:
    """Return the stored values of one Frame of an Instance with its Pixel Data; as `decode_pixels`.

    Parameters
    ----------
    number
        From 1.
    """

    def decode(plugin: str) -> NDArray[np.generic]:
        pixels: NDArray[np.generic]
        pixels, _ = get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds, index=number - 1, decoding_plugin=plugin)
        return pixels

    return _decode_gray(ds, decode)


def _decode_gray(ds: Dataset, decode: Callable[[str], NDArray[np.generic]]) -> NDArray[np.generic]:
    uid = _name(ds)
    if int(ds.get("SamplesPerPixel") or 1) != 1:
        raise PixelsUndecodable(f"instance {uid}: expected one grayscale frame; send single-frame grayscale Instances")
    if int(ds.get("Rows") or 0) * int(ds.get("Columns") or 0) > MAX_PIXELS:
        raise PixelsUndecodable(
            f"instance {uid}: {ds.Rows} x {ds.Columns} pixels, at most {MAX_PIXELS} are read; send a smaller image"
        )
    pixels = _try_plugins(ds, installed_plugins(ds.file_meta.TransferSyntaxUID), decode)
    if pixels.shape != (ds.Rows, ds.Columns):
        raise PixelsUndecodable(
            f"instance {uid}: {pixels.shape} decoded where the header says {ds.Rows} x {ds.Columns}"
        )
    return pixels


def rescale_pixels(ds: Dataset) -> NDArray[np.float32]:
    """Return the output of the Modality LUT: HU for CT, arbitrary units else.

    Returns
    -------
    NDArray
        (rows, columns) float32.

    Raises
    ------
    PixelsUndecodable
        As `decode_pixels`, and if Rescale Slope or Intercept is no number.

    References
    ----------
    DICOM PS3.3 C.11.1
    """
    stored = decode_pixels(ds)
    rescaled = np.empty(stored.shape, np.float32)
    slope, intercept = read_rescale(ds)
    rescale(stored, rescaled, slope=slope, intercept=intercept)
    return rescaled


def read_rescale(ds: Dataset) -> tuple[float, float]:
    """Return Rescale Slope (0028,1053) and Rescale Intercept (0028,1052); 1 and 0 where there are none.

    Raises
    ------
    PixelsUndecodable
        If one of them is no number, or the slope is 0.
    """
    slope, intercept = _number(ds, "RescaleSlope", absent=1.0), _number(ds, "RescaleIntercept", absent=0.0)
    if slope == 0.0:
        raise PixelsUndecodable(f"instance {ds.SOPInstanceUID}: RescaleSlope is 0; correct it at the sender")
    return slope, intercept


def rescale(stored: NDArray[np.generic], target: NDArray[np.float32], *, slope: float, intercept: float) -> None:
    """Write what the Modality LUT makes of stored values, each step rounded to float32.

    Parameters
    ----------
    stored
        (rows, columns), integers.
    target
        Of the same shape, contiguous.
    """
    step = max(1, CHUNK_VALUES // stored.shape[1])
    for begin in range(0, stored.shape[0], step):
        part = target[begin : begin + step]
        np.copyto(part, stored[begin : begin + step], casting="unsafe")
        if slope != 1.0:
            part *= np.float32(slope)
        if intercept != 0.0:
            part += np.float32(intercept)


def installed_plugins(transfer_syntax_uid: UID) -> tuple[str, ...]:
    """Return the decoders to try, in this order; pydicom chooses where the name is empty."""
    named = PLUGINS.get(transfer_syntax_uid)
    if named is None:
        return ("",)
    installed = get_decoder(transfer_syntax_uid).available_plugins
    return tuple(plugin for plugin in named if plugin in installed) or named[:1]


def _read_only_frame(ds: Dataset, plugin: str) -> NDArray[np.generic]:
    ds.pixel_array_options(decoding_plugin=plugin)
    pixels: NDArray[np.generic] = ds.pixel_array
    return pixels


def _try_plugins(
    ds: Dataset, plugins: Sequence[str], decode: Callable[[str], NDArray[np.generic]]
) -> NDArray[np.generic]:
    first, *others = plugins
    try:
        return decode(first)
    except DECODER_ERRORS as exc:
        if others:
            return _try_plugins(ds, others, decode)
        raise PixelsUndecodable(
            f"instance {_name(ds)}: Pixel Data in {ds.file_meta.TransferSyntaxUID.name} cannot be decoded; resend it "
            f"from its source ({type(exc).__name__})"
        ) from exc


def _name(ds: Dataset) -> str:
    return str(ds.get("SOPInstanceUID", "without UID"))


def _number(ds: Dataset, keyword: str, *, absent: float) -> float:
    value = ds.get(keyword)
    if value is None or value == "":
        return absent
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise PixelsUndecodable(f"instance {ds.SOPInstanceUID}: {keyword} is no number; correct it at the sender")
    return number
