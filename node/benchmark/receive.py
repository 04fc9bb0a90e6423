"""How fast Instances are received: radnode beside dcmtk, Orthanc and pynetdicom, in interleaved rounds."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import urandom
from pathlib import Path
from statistics import median
from time import monotonic

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.benchmark.receivers import AET, NODELAY, Receiver, Running, find_dcmtk, receivers
from node.domain.uids import derive_uid

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent in one round.

    Attributes
    ----------
    instances
        How many CT Images.
    rows, columns
        Of each, 16 bits a pixel.
    associations
        Parallel senders, each with its share.
    client
        ``storescu`` or ``radnode send``.
    """

    instances: int
    rows: int
    columns: int
    associations: int
    client: str = "storescu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver did.

    Attributes
    ----------
    instances_per_s
        Median of the rounds.
    ratio
        Of its rate to that of the base in the same round; median of the rounds.
    cpu_s_per_gb
        Processor time of the receiver per 10^9 bytes of files, median.
    peak_bytes
        Most memory that it held, the highest of the rounds.
    is_complete
        Whether it stored what was sent, in every round.
    """

    receiver: str
    is_durable: bool
    load: Load
    instances_per_s: float
    ratio: float
    cpu_s_per_gb: float
    peak_bytes: int
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    seconds: float
    cpu_s: float
    peak_bytes: int
    stored: int


def compare(load: Load, *, names: Sequence[str], rounds: int, folder: Path) -> Iterator[Row]:
    """Yield one row for each receiver of `names`, after `rounds` in which they took turns.

    The base is the first of `names`. Every round begins with a fresh process and an empty folder.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    """
    files = write_instances(folder / f"load-{load.instances}-{load.rows}", load)
    size_bytes = sum(file.stat().st_size for file in files)
    known = receivers()
    measured: dict[str, list[_Round]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            place = folder / f"round-{number}-{name.replace(' ', '-')}"
            measured[name].append(_measure(known[name], load, files, place))
            shutil.rmtree(place)
    base = measured[names[0]]
    for name in names:
        yield _row(known[name], load, measured[name], base, size_bytes)


def write_instances(folder: Path, load: Load) -> Sequence[Path]:
    """Write the CT Images of `load` as Part 10 files, unless they are there; their pixels are noise."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05}.dcm" for number in range(load.instances)]
    for number, file in enumerate(files):
        if not file.exists():
            _ct_image(number, load).save_as(file, enforce_file_format=True)
    return files


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| receiver | durable | associations | client | Instances/s | ratio | CPU s/GB | peak MB | stored == sent |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (
            row.receiver,
            _yes(row.is_durable),
            str(row.load.associations),
            row.load.client,
            f"{row.instances_per_s:.0f}",
            f"{row.ratio:.2f}",
            f"{row.cpu_s_per_gb:.2f}",
            f"{row.peak_bytes / 1e6:.0f}",
            _yes(row.is_complete),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measure(receiver: Receiver, load: Load, files: Sequence[Path], place: Path) -> _Round:
    with Running(receiver, place) as running:
        commands = [CLIENTS[load.client](running.port, files[part :: load.associations]) for part in _parts(load)]
        before_s, begun = running.cpu_s(), monotonic()
        senders = [_start(command) for command in commands]
        for sender in senders:
            sender.wait()
        seconds = monotonic() - begun
        return _Round(
            seconds=seconds,
            cpu_s=running.cpu_s() - before_s,
            peak_bytes=running.peak_bytes(),
            stored=running.stored,
        )


def _parts(load: Load) -> range:
    return range(load.associations)


def _start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(NODELAY))


def _storescu(port: int, files: Sequence[Path]) -> Sequence[str]:
    return (find_dcmtk("storescu"), "-aec", AET, "127.0.0.1", str(port), *map(str, files))


def _radnode_send(port: int, files: Sequence[Path]) -> Sequence[str]:
    return (sys.executable, "-m", "node", "send", *map(str, files), "--to", f"{AET}@127.0.0.1:{port}")


CLIENTS: Mapping[str, Callable[[int, Sequence[Path]], Sequence[str]]] = {
    "storescu": _storescu,
    "radnode send": _radnode_send,
}


def _row(receiver: Receiver, load: Load, rounds: Sequence[_Round], base: Sequence[_Round], size_bytes: int) -> Row:
    return Row(
        receiver=receiver.name,
        is_durable=receiver.is_durable,
        load=load,
        instances_per_s=median(load.instances / one.seconds for one in rounds),
        ratio=median(other.seconds / one.seconds for one, other in zip(rounds, base, strict=True)),
        cpu_s_per_gb=median(one.cpu_s / (size_bytes / GIGABYTE) for one in rounds),
        peak_bytes=max(one.peak_bytes for one in rounds),
        is_complete=all(one.stored == load.instances for one in rounds),
    )


def _yes(answer: bool) -> str:
    return "yes" if answer else "NO"


def _ct_image(number: int, load: Load) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = UID(CT_IMAGE_STORAGE)
    ds.file_meta.MediaStorageSOPClassUID = UID(CT_IMAGE_STORAGE)
    ds.SOPInstanceUID = UID(derive_uid("benchmark", "instance", str(load.rows), str(number)))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID = derive_uid("benchmark", "study", str(load.rows))
    ds.SeriesInstanceUID = derive_uid("benchmark", "series", str(load.rows))
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "BENCHMARK", "Benchmark^Receive"
    ds.StudyDate, ds.StudyTime, ds.InstanceNumber = "20250114", "120000", number + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel = load.rows, load.columns, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = urandom(load.rows * load.columns * 2)
    return ds
