"""The only place where Pixel Data is decoded: one Instance to one array, or a refusal."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless, RLELossless

from node.errors import PixelsUndecodable

# What pydicom tries first is not what is fastest: RLE 2.0 against 6.3 ms a slice, JPEG-LS 5.6 against 6.6.
FASTEST_PLUGIN = {
    UID(RLELossless): "pylibjpeg",
    UID(JPEGLSLossless): "pyjpegls",
    UID(JPEGLSNearLossless): "pyjpegls",
}


def decode_pixels(ds: Dataset) -> NDArray[np.generic]:
    """Return the stored values of a single-frame grayscale Instance.

    Returns
    -------
    NDArray
        (rows, columns), stored values before any rescale; signed as Pixel Representation says.

    Raises
    ------
    PixelsUndecodable
        If Pixel Data is absent, cut, coded as no decoder here understands, or of more than one frame or sample.

    References
    ----------
    DICOM PS3.3 C.7.6.3, PS3.5 8.2
    """
    uid = ds.get("SOPInstanceUID", "without UID")
    if int(ds.get("NumberOfFrames") or 1) != 1 or int(ds.get("SamplesPerPixel") or 1) != 1:
        raise PixelsUndecodable(f"instance {uid}: expected one grayscale frame; send single-frame grayscale Instances")
    plugin = FASTEST_PLUGIN.get(ds.file_meta.TransferSyntaxUID, "")
    try:
        ds.pixel_array_options(decoding_plugin=plugin)
        pixels: NDArray[np.generic] = ds.pixel_array
    except (
        ValueError,
        RuntimeError,
        AttributeError,
        NotImplementedError,
        TypeError,
        KeyError,
        OSError,
    ) as exc:
        # Each decoder fails in its own way; the first line of its complaint is about the codestream, not the patient.
        raise PixelsUndecodable(
            f"instance {uid}: Pixel Data in {ds.file_meta.TransferSyntaxUID.name} cannot be decoded; resend it "
            f"from its source ({type(exc).__name__})"
        ) from exc
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
        As `decode_pixels`.

    References
    ----------
    DICOM PS3.3 C.11.1
    """
    stored = decode_pixels(ds).astype(np.float32)
    slope, intercept = (
        float(ds.get("RescaleSlope") or 1.0),
        float(ds.get("RescaleIntercept") or 0.0),
    )
    if slope != 1.0:
        stored *= np.float32(slope)
    if intercept != 0.0:
        stored += np.float32(intercept)
    return stored
