"""What it costs to make a Volume of the files of a Series: `radnode bench pipeline --part read`."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from statistics import median
from typing import Any

import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

from node.domain.study import InstanceFacts
from node.domain.uids import derive_uid
from node.errors import Broken
from node.header.scan import scan_file
from workers.benchmark.naive import digest, read_naively
from workers.decoding.pool import DecoderLimits, DecoderPool
from workers.instances import StoredInstance, StoredSeries
from workers.memory import keep_freed_memory
from workers.pixels import rescale
from workers.volume import read_volume

LIBRARIES = ("pydicom", "pyjpegls", "numpy")
SLICES, MATRIX = 300, 512
COMPRESSED_SLICES = 100
SLICE_MM, PIXEL_MM = 0.8, 0.7
INTERCEPT = -1024.0
# Standard deviation of the noise, HU: of a thin slice.
NOISE_HU, SEED = 20.0, 11
LIMIT = "preadv into a warm buffer (the limit)"
ONE, TWO = "radnode, one thread", "radnode, two threads"
HEADERS, NAIVE = "pydicom headers, then preadv", "naive pydicom loop, float32"
CODEC, CODEC_HU = "pyjpegls on the codestreams", "pyjpegls, values to float32"
STORED, WITH_PYDICOM = "radnode, one decoder", "pydicom with pyjpegls"

Voxels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What one round took, and the digest of the voxels; empty where none were made."""

    elapsed: float
    cpu: float
    digest: str = ""


Way = Callable[[], _Round]
Measured = Mapping[str, Sequence[_Round]]


def measure_reading(*, rounds: int, slices: int = SLICES, compressed_slices: int = COMPRESSED_SLICES) -> dict[str, Any]:
    """Return what reading takes, in the form that `radnode bench` shows; whatever makes voxels makes the same.

    Parameters
    ----------
    rounds
        How often each way is measured; >= 1.
    slices, compressed_slices
        Of 512 × 512 pixels, 16 bits; >= 3.
    """
    # As a worker does; by itself glibc would make everybody here touch fresh memory each time.
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        native = _measure_native(_write_series(Path(folder) / "native", slices), rounds)
        with _decoders() as pool:
            paths = _write_series(Path(folder) / "jpegls", compressed_slices, JPEGLSLossless)
            coded = _measure_coded(paths, pool, rounds)
    titles = f"{slices} slices uncompressed", f"{compressed_slices} slices in JPEG-LS"
    return {
        "bench": "pipeline read",
        "rounds": rounds,
        "unit": "elapsed and CPU seconds",
        "tables": [
            {"title": f"{title}, {clock}", "rows": [_row(name, taken, clock) for name, taken in measured.items()]}
            for title, measured in zip(titles, (native, coded), strict=True)
            for clock in ("elapsed", "cpu")
        ],
        "ratios": [
            *(_compare(native, LIMIT, name, clock) for name in (ONE, TWO) for clock in ("elapsed", "cpu")),
            *(_compare(native, name, other, "elapsed") for name in (ONE, TWO) for other in (NAIVE, HEADERS)),
            *(_compare(coded, name, STORED, "cpu") for name in (CODEC, CODEC_HU)),
            _compare(coded, STORED, WITH_PYDICOM, "cpu"),
        ],
        "versions": {"Python": python_version()} | {library: version(library) for library in LIBRARIES},
    }


def _measure_native(paths: Sequence[Path], rounds: int) -> Measured:
    stored = [_learn(path) for path in paths]
    offsets = [facts.pixel_data_offset or 0 for facts in stored]
    warm = np.zeros((len(paths), MATRIX, MATRIX), np.int16)
    ways = {LIMIT: _timed(partial(_fill, warm, paths, offsets))}
    for name, threads in ((ONE, 1), (TWO, 2)):
        pool = DecoderPool(DecoderLimits(processes=threads))
        ways[name] = _timed(partial(_read_stored, stored, pool))
    others = {HEADERS: "headers", NAIVE: "naive"}
    ways |= {name: partial(_run_alone, way, paths[0].parent) for name, way in others.items()}
    return _measure(ways, rounds)


def _measure_coded(paths: Sequence[Path], pool: DecoderPool, rounds: int) -> Measured:
    stored = [_learn(path) for path in paths]
    streams = [next(generate_frames(dcmread(path).PixelData, number_of_frames=1)) for path in paths]
    ways = {
        CODEC: _timed(partial(_decode, streams)),
        CODEC_HU: _timed(partial(_decode_to_hu, streams)),
        STORED: _timed(partial(_read_stored, stored, pool), pool),
        WITH_PYDICOM: _timed(partial(read_naively, paths, plugin="pyjpegls")),
    }
    return _measure(ways, rounds)


def _timed(read: Callable[[], Voxels | None], pool: DecoderPool | None = None) -> Way:
    """Return a way that reads in this process, with help of a pool whose CPU counts too."""

    def run() -> _Round:
        # The rubbish of the one before is not this one's.
        gc.collect()
        cpu_start, start = _cpu(pool), time.perf_counter()
        voxels = read()
        spent_s, spent_cpu_s = time.perf_counter() - start, _cpu(pool) - cpu_start
        return _Round(elapsed=spent_s, cpu=spent_cpu_s, digest="" if voxels is None else digest(voxels))

    return run


def _run_alone(way: str, folder: Path) -> _Round:
    command = [sys.executable, "-m", "workers.benchmark.naive", way, str(folder)]
    elapsed, cpu, told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return _Round(elapsed=elapsed, cpu=cpu, digest=told)


def _measure(ways: Mapping[str, Way], rounds: int) -> Measured:
    """Run all in turn, after one round that does not count.

    Raises
    ------
    Broken
        If two of them make other voxels, bit by bit.
    """
    taken = [{name: run() for name, run in ways.items()} for _ in range(rounds + 1)]
    digests = {one.digest for turn in taken for one in turn.values()} - {""}
    if len(digests) != 1:
        raise Broken("two ways to read the same files made different voxels")
    return {name: [turn[name] for turn in taken[1:]] for name in ways}


def _fill(warm: NDArray[np.int16], paths: Sequence[Path], offsets: Sequence[int]) -> None:
    for plane, path, offset in zip(warm, paths, offsets, strict=True):
        descriptor = os.open(path, os.O_RDONLY)
        os.preadv(descriptor, [plane.data], offset)
        os.close(descriptor)


def _read_stored(stored: Sequence[InstanceFacts], pool: DecoderPool) -> Voxels:
    return read_volume(StoredSeries([StoredInstance(facts, Path(facts.path), pool) for facts in stored], pool)).voxels


def _decode(streams: Sequence[bytes]) -> None:
    for stream in streams:
        jpeg_ls.decode_pixel_data(stream)


def _decode_to_hu(streams: Sequence[bytes]) -> Voxels:
    voxels = np.empty((len(streams), MATRIX, MATRIX), np.float32)
    for target, stream in zip(voxels, streams, strict=True):
        content, _ = jpeg_ls.decode_pixel_data(stream)
        stored = np.frombuffer(content, np.int16).reshape(MATRIX, MATRIX)
        rescale(stored, target, slope=1.0, intercept=INTERCEPT)
    return voxels


@contextmanager
def _decoders() -> Iterator[DecoderPool]:
    pool = DecoderPool(DecoderLimits(processes=1))
    try:
        yield pool
    finally:
        pool.close()


def _cpu(pool: DecoderPool | None) -> float:
    """Return the CPU seconds of this process and of the decoders so far."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    pids = () if pool is None else pool.list_pids()
    told = (Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in pids)
    # User and system time are the 14th and 15th field, the 12th and 13th behind the name (proc(5)).
    return time.process_time() + tick_s * sum(int(fields[11]) + int(fields[12]) for fields in told)


def _write_series(folder: Path, slices: int, transfer_syntax_uid: UID = ExplicitVRLittleEndian) -> list[Path]:
    folder.mkdir()
    paths = []
    for number, plane in enumerate(_draw(slices)):
        ds = _describe(number)
        ds.PixelData = plane.tobytes()
        if transfer_syntax_uid != ExplicitVRLittleEndian:
            ds.compress(transfer_syntax_uid, generate_instance_uid=False)
        paths.append(folder / f"{number:04}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def _draw(slices: int) -> Iterator[NDArray[np.int16]]:
    """Yield a noisy body in noisy air, stored values."""
    dice = np.random.default_rng(SEED)
    away = np.hypot(*np.meshgrid(np.linspace(-1.2, 1.2, MATRIX), np.linspace(-1.6, 1.6, MATRIX)))
    body = np.where(away < 1, 40.0, -1000.0) - 850.0 * (np.abs(away - 0.5) < 0.25)
    for _ in range(slices):
        yield (body + dice.normal(0, NOISE_HU, body.shape) - INTERCEPT).astype(np.int16)


def _describe(number: int) -> Dataset:
    uid = derive_uid("benchmark", "read", str(number))
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("benchmark", "study"), derive_uid("benchmark", "series")
    ds.FrameOfReferenceUID = derive_uid("benchmark", "frame")
    ds.PatientName, ds.PatientID, ds.Modality, ds.InstanceNumber = "Benchmark", "B-1", "CT", number + 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = MATRIX, MATRIX, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelSpacing, ds.ImageOrientationPatient = [str(PIXEL_MM)] * 2, ["1", "0", "0", "0", "1", "0"]
    ds.ImagePositionPatient = ["-180", "-180", f"{number * SLICE_MM:.2f}"]
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(INTERCEPT), "HU"
    return ds


def _learn(path: Path) -> InstanceFacts:
    """Return what the ledger would keep of a file."""
    content = path.read_bytes()
    header = scan_file(content)
    return InstanceFacts(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes=header.attributes,
        path=str(path),
        size_bytes=len(content),
        digest="",
        pixel_data_offset=header.pixel_data_offset,
        association_id="benchmark",
        calling_aet="",
        received_at=datetime.now(UTC),
    )


def _row(name: str, rounds: Sequence[_Round], clock: str) -> dict[str, Any]:
    seconds = [getattr(one, clock) for one in rounds]
    return {"name": name, "min_s": round(min(seconds), 4), "median_s": round(median(seconds), 4), "size_bytes": None}


def _compare(measured: Measured, one: str, other: str, clock: str) -> dict[str, Any]:
    """Return how much faster one is than the other, by the medians."""
    seconds, others = (median(getattr(turn, clock) for turn in measured[name]) for name in (one, other))
    return {"name": f"{one} against {other}, {clock}", "times_faster": round(others / seconds, 2)}
