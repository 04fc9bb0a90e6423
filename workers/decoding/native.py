"""Slices that lie in their files as they are: one system call brings header and pixels."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.decoding.form import BITS_OF_A_BYTE, Form, bears_out


class NativeReader:
    """Reads slices into a buffer that is used again: first touches of fresh memory would take longer than reading."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._pixels = np.empty(0, np.uint8)

    def read(self, path: Path, form: Form) -> NDArray[np.generic] | None:
        """Return the stored values of a slice; None where the file is not as its Form says.

        Parameters
        ----------
        form
            Of a native Transfer Syntax.

        Returns
        -------
        NDArray
            (rows, columns), in this machine's order of bytes, bits above Bits Stored cleared or filled with the sign as
            pydicom does it; valid until the next call.

        Raises
        ------
        OSError
            If the file cannot be read.

        References
        ----------
        DICOM PS3.5 8.1.1, 8.2
        """
        if len(self._head) != form.offset:
            self._head = bytearray(form.offset)
        count = self._fill(path, form, [self._head], 0)
        if count != form.offset + form.size_bytes or not bears_out(self._head, form):
            return None
        return self._view(form)

    def read_frame(self, path: Path, form: Form) -> NDArray[np.generic] | None:
        """Return the stored values at the offset of a Form, as `read`; None where the file ends before."""
        return self._view(form) if self._fill(path, form, [], form.offset) == form.size_bytes else None

    def _fill(self, path: Path, form: Form, before: list[bytearray], start: int) -> int:
        """Read what stands before the pixels, and the pixels, by one call; return how many bytes came."""
        if self._pixels.nbytes != form.size_bytes:
            self._pixels = np.empty(form.size_bytes, np.uint8)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.preadv(descriptor, [*before, self._pixels.data], start)
        finally:
            os.close(descriptor)

    def _view(self, form: Form) -> NDArray[np.generic]:
        dtype = form.dtype
        stored: NDArray[np.generic] = self._pixels.view(dtype).reshape(form.rows, form.columns)
        if not dtype.isnative:
            stored = stored.byteswap(inplace=True).view(dtype.newbyteorder("="))
        drop_unused_bits(stored, form.bits_stored)
        return stored


def drop_unused_bits(stored: NDArray[np.generic], bits_stored: int) -> None:
    """Clear the bits above Bits Stored, or fill them with the sign: nobody knows what a sender left there.

    References
    ----------
    DICOM PS3.5 8.1.1
    """
    unused = stored.dtype.itemsize * BITS_OF_A_BYTE - bits_stored
    if unused:
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
