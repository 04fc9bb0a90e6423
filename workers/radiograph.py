"""A projection X-ray becomes a Radiograph on which bright means dense."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import NotEligible, PixelsUndecodable
from workers.frames import number_frame, whole_of
from workers.pixels import rescale_pixels

# Half a percent at either end: collimator edges, markers and burnt-in letters.
CLIP_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiograph:
    """One projection image.

    Attributes
    ----------
    pixels
        (rows, columns) float32, 0..1; bright is dense, whatever the Photometric Interpretation was.
    dataset
        The source Instance.
    """

    pixels: NDArray[np.float32]
    dataset: Dataset


def read_radiograph(ds: Dataset) -> Radiograph:
    """Decode one Instance and bring its gray values to 0..1.

    Raises
    ------
    NotEligible
        If it is one Frame of several.
    PixelsUndecodable
        If Pixel Data cannot be decoded, or holds a single gray value.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.2 (Photometric Interpretation)
    """
    if number_frame(ds) is not None:
        raise NotEligible(
            f"instance {ds.SOPInstanceUID} holds {whole_of(ds).NumberOfFrames} Frames, and one projection image is "
            "read; send single-frame Instances"
        )
    pixels = rescale_pixels(ds)
    low, high = (float(v) for v in np.percentile(pixels, CLIP_PERCENTILES))
    if not high > low:
        raise PixelsUndecodable(f"instance {ds.SOPInstanceUID}: every pixel has one gray value; resend the image")
    pixels = np.clip((pixels - low) / (high - low), 0.0, 1.0).astype(np.float32)
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = np.float32(1.0) - pixels
    return Radiograph(pixels=pixels, dataset=ds)
