"""A Series read as it is read without us, in a process as everybody has it: `python -m workers.benchmark.naive`."""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

Voxels = NDArray[np.float32]
# Of Pixel Data in Explicit VR: what stands before its value (PS3.5 7.1.2).
ELEMENT_HEADER_BYTES = 12


def read_naively(paths: Sequence[Path], *, plugin: str = "") -> Voxels:
    """Return (slices, rows, columns), HU: whole files one by one, and a copy of all at the end.

    Parameters
    ----------
    plugin
        The decoder that pydicom takes; unless given, the one that it prefers.
    """
    datasets = sorted((dcmread(path) for path in paths), key=lambda ds: float(ds.ImagePositionPatient[2]))
    for ds in datasets:
        ds.pixel_array_options(decoding_plugin=plugin)
    planes = [ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in datasets]
    return np.stack(planes)


def read_by_headers(paths: Sequence[Path]) -> Voxels:
    """Return the same of int16 in Explicit VR Little Endian: headers by pydicom, pixels from where they end."""
    headers: list[tuple[Dataset, Path, int]] = []
    for path in paths:
        with path.open("rb") as file:
            headers.append((dcmread(file, stop_before_pixels=True), path, file.tell() + ELEMENT_HEADER_BYTES))
    headers.sort(key=lambda one: float(one[0].ImagePositionPatient[2]))
    rows, columns = headers[0][0].Rows, headers[0][0].Columns
    voxels = np.empty((len(paths), rows, columns), np.float32)
    plane = np.empty((rows, columns), np.int16)
    for target, (ds, path, offset) in zip(voxels, headers, strict=True):
        descriptor = os.open(path, os.O_RDONLY)
        os.preadv(descriptor, [plane.data], offset)
        os.close(descriptor)
        target[:] = plane
        target *= np.float32(ds.RescaleSlope)
        target += np.float32(ds.RescaleIntercept)
    return voxels


WAYS: Mapping[str, Callable[[Sequence[Path]], Voxels]] = {"naive": read_naively, "headers": read_by_headers}


def main() -> None:
    """Read a folder in one way, after a first time that does not count; tell seconds and a digest of the voxels."""
    parser = argparse.ArgumentParser(prog="python -m workers.benchmark.naive")
    parser.add_argument("way", choices=tuple(WAYS))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    read, paths = WAYS[arguments.way], sorted(arguments.folder.iterdir())
    read(paths)
    cpu_start, start = time.process_time(), time.perf_counter()
    voxels = read(paths)
    spent = time.perf_counter() - start, time.process_time() - cpu_start
    sys.stdout.write(json.dumps([*spent, digest(voxels)]))


def digest(voxels: Voxels) -> str:
    """Return what tells voxels apart, bit by bit."""
    return hashlib.sha256(voxels.data).hexdigest()


if __name__ == "__main__":
    main()
