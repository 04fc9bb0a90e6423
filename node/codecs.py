"""Which decoder reads which Transfer Syntax, how decoders fail, and what is too large for any of them."""

import struct
import zlib
from collections.abc import Mapping

from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

# In this order, as far as they are installed. pyjpegls is faster than what pydicom tries first (5.6 against 6.6 ms a
# slice), but does not read a codestream with padding in front. GDCM aborts the whole process on some damaged JPEG 2000,
# and pylibjpeg-rle panics on damaged RLE; pydicom's own decoder only refuses.
PLUGINS: Mapping[UID, tuple[str, ...]] = {
    RLELossless: ("pydicom",),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    JPEG2000: ("pylibjpeg", "pillow"),
    JPEG2000Lossless: ("pylibjpeg", "pillow"),
    HTJ2K: ("pylibjpeg",),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
}
# Each decoder fails in its own way.
DECODER_ERRORS = (
    ValueError, RuntimeError, AttributeError, TypeError, LookupError, ArithmeticError, EOFError, OSError, struct.error,
    zlib.error, InvalidDicomError,
)  # fmt: skip
# Of one Frame. The largest radiographs have 30 million; a header may claim 4 billion.
MAX_PIXELS = 100_000_000
