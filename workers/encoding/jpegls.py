"""JPEG-LS without loss, for labels; the only door to the codec."""

import jpeg_ls
import numpy as np
from numpy.typing import NDArray

BITS = 8


def compress_labels(labels: NDArray[np.uint8]) -> bytes:
    """Return (rows, columns) uint8 as one JPEG-LS image.

    References
    ----------
    DICOM PS3.5 8.2.3, A.4.3
    """
    rows, columns = labels.shape
    return bytes(jpeg_ls.encode_buffer(labels.tobytes(), rows, columns, samples_per_pixel=1, bits_stored=BITS))


def expand_labels(image: bytes) -> NDArray[np.uint8]:
    """Return the labels of one JPEG-LS image, (rows, columns) uint8.

    Raises
    ------
    ValueError
        If `image` is no JPEG-LS, or holds more than one gray value of 8 bits a pixel.
    """
    try:
        pixels, header = jpeg_ls.decode_buffer(image)
    except RuntimeError as exc:
        raise ValueError("no JPEG-LS image") from exc
    if (header["components"], header["bits_per_sample"]) != (1, BITS):
        raise ValueError(f"{header['components']} components of {header['bits_per_sample']} bits in a JPEG-LS image")
    return np.frombuffer(pixels, np.uint8).reshape(header["height"], header["width"])
