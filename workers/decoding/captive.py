"""A process of the decoder pool: puts the stored values of one slice after the other into the window it was given."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from node.cage.inmate import build_parser, serve_requests
from node.codecs import DECODER_ERRORS
from node.errors import PixelsUndecodable
from workers.decoding.form import Form, bears_out
from workers.decoding.window import ODD, UNREAD, map_window
from workers.memory import keep_freed_memory
from workers.pixels import decode_pixels, installed_plugins


def main() -> None:
    """Answer requests until there are no more."""
    parser = build_parser("python -m workers.decoding.captive")
    parser.add_argument("--window", type=int, required=True, help="descriptor of the shared memory")
    limits = parser.parse_args()
    # Each slice takes the same memory again; to give it back and fill it with zeros took a tenth of decoding JPEG-LS.
    keep_freed_memory()
    desk = _Desk(limits.window)
    serve_requests(limits, {"decode": desk.decode, "frame": desk.decode_frame, "read": desk.read})


class _Desk:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._window = np.empty(0, np.uint8)

    def decode(self, request: Mapping[str, Any]) -> bytes:
        """Decode a file that the ledger knows."""
        form = Form(**request["form"])
        try:
            content = Path(request["path"]).read_bytes()
        except OSError as exc:
            return _tell_unread(exc)
        if not bears_out(content[: form.offset], form):
            return ODD
        return self._show(_decode(BytesIO(content), form))

    def decode_frame(self, request: Mapping[str, Any]) -> bytes:
        """Decode one Frame of a file, whose pieces are told."""
        try:
            codestream = _gather(Path(request["path"]), request["pieces"])
        except OSError as exc:
            return _tell_unread(exc)
        # A file of one Frame, for the decoder.
        form = replace(Form(**request["form"]), offset=0)
        return self._show(_decode(BytesIO(encapsulate([codestream], has_bot=False)), form))

    def read(self, request: Mapping[str, Any]) -> bytes:
        """Decode a file by its own header."""
        try:
            content = Path(request["path"]).read_bytes()
        except OSError as exc:
            return _tell_unread(exc)
        return self._show(decode_pixels(dcmread(BytesIO(content))))

    def _show(self, pixels: NDArray[np.generic]) -> bytes:
        told = json.dumps({"dtype": pixels.dtype.str, "shape": pixels.shape}).encode()
        if self._window.size < pixels.nbytes:
            self._window = map_window(self._descriptor)
        # Too small a window is an error of numpy here, which is answered as any other.
        self._window[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)[:] = pixels
        return told


def _tell_unread(exc: OSError) -> bytes:
    """Keep a share that fails apart from a codestream that does: decoders raise OSError too."""
    return UNREAD + str(exc.errno or errno.EIO).encode()


def _gather(path: Path, pieces: Sequence[tuple[int, int]]) -> bytes:
    with path.open("rb") as file:
        return b"".join(os.pread(file.fileno(), length, at) for at, length in pieces)


def _decode(file: BinaryIO, form: Form) -> NDArray[np.generic]:
    uid = UID(form.transfer_syntax_uid)
    options: dict[str, Any] = {
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "photometric_interpretation": form.photometric_interpretation,
        "rows": form.rows,
        "columns": form.columns,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "pixel_representation": form.pixel_representation,
    }
    why: Exception | None = None
    for plugin in installed_plugins(uid):
        file.seek(form.offset)
        try:
            pixels, _ = get_decoder(uid).as_array(file, decoding_plugin=plugin, **options)
        except DECODER_ERRORS as exc:
            why = exc
            continue
        if pixels.shape != (form.rows, form.columns):
            raise PixelsUndecodable(f"{pixels.shape} decoded where the header says {form.rows} x {form.columns}")
        return pixels
    raise PixelsUndecodable(
        f"Pixel Data in {uid.name} cannot be decoded; resend it from its source ({type(why).__name__})"
    ) from why


if __name__ == "__main__":
    main()
