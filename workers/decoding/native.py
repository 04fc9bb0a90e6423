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
        if self._pixels.nbytes != form.size_bytes:
            self._pixels = np.empty(form.size_bytes, np.uint8)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            count = os.preadv(descriptor, [self._head, self._pixels.data], 0)
        finally:
            os.close(descriptor)
        if count != form.offset + form.size_bytes or not bears_out(self._head, form):
            return None
        dtype = form.dtype
        stored = self._pixels.view(dtype).reshape(form.rows, form.columns)
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
