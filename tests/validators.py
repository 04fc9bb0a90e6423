"""Independent programs judge Results: dicom3tools, dcmtk, dcmqi, PixelMed; docs/validation.md says who judges what."""

import gzip
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)

from tests.peers import require_pixelmed, require_program
from workers.volume import Volume

# Label Map Segmentation; pydicom 3.0.2 has no name for it.
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
RUN_LIMIT_S = 120.0
# dicom3tools of 2022 is older than the Label Map Segmentation IOD: it knows neither the object nor that an SR may
# name segments of it, and wants Segment Number 1 where background has 0.
LABELMAP_IS_UNKNOWN = (
    "Information Object Not found",
    "SegmentNumber not monotonically increasing from one by one",
    "Shall not be present for Referenced SOP Class that is not segmentation",
)
# PixelMed's rule leaves out "paired body part" of PS3.3 C.7.3.1.
PIXELMED_LATERALITY = "Error: GeneralSeriesModule/Laterality/: : Missing conditional attribute"
# Java 17 refuses stylesheets as large as PixelMed's without these.
JAVA_OPTIONS = ("-Djdk.xml.xpathExprGrpLimit=0", "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0")
# What it is about and how it ended, and a name that is allowed to be empty (type 2, PS3.3 C.7.1.1).
DCMPSCHK_SAYS_ANYHOW = ("W: Testing: ", "W: Test ", "W: patientName absent or empty")
NRRD_TYPES = {"short": "<i2", "unsigned char": "u1", "unsigned short": "<u2"}
# A voxel that two programs place apart by more than this part of its size is another voxel.
SAME_VOXEL = 0.02
MEASUREMENTS = "measurements.json"
VOLUME_CODE = "118565006"
SEGMENTATIONS = (SegmentationStorage, LABELMAP_STORAGE)
DUMPED = (Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One Segment as dcmqi reads it.

    Attributes
    ----------
    label
        Segment Number (0062,0004).
    tracking_uid
        Tracking UID (0062,0021).
    centers_mm
        (voxels, 3) LPS.
    voxel_mm3
        Volume of one voxel.
    """

    label: int
    tracking_uid: str
    centers_mm: NDArray[np.float64]
    voxel_mm3: float

    def mark_in(self, volume: Volume) -> NDArray[np.bool_]:
        """Return the voxels of a volume that this Region takes; none may lie between two or outside."""
        inverse = np.linalg.inv(volume.affine)
        places = self.centers_mm @ inverse[:3, :3].T + inverse[:3, 3]
        index = np.rint(places).astype(int)
        assert np.abs(places - index).max() < SAME_VOXEL
        mask = np.zeros(volume.voxels.shape, bool)
        mask[tuple(index.T)] = True
        assert mask.sum() == len(index)
        return mask


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a program by its name to its end; absent, the test is skipped."""
    program = require_program(str(command[0]))
    arguments = [program, *map(str, command[1:])]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)


def list_complaints(path: Path, folder: Path) -> list[str]:
    """Return what every program that can judge this object holds against it, but for PixelMed.

    Parameters
    ----------
    folder
        For what they write.
    """
    ds = dcmread(path, stop_before_pixels=True)
    complaints = list_errors(path, is_labelmap_known=not speaks_of_labelmap(ds))
    if ds.SOPClassUID == Comprehensive3DSRStorage:
        complaints += _dcmqi_errors(_convert_report(path, folder))
    if ds.SOPClassUID in DUMPED and not speaks_of_labelmap(ds):
        complaints += _list_dcmtk("dsrdump", path) + _list_dcmtk("dsr2html", path)
    if ds.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage:
        complaints += _list_presentation(path)
    if ds.SOPClassUID == EncapsulatedPDFStorage:
        complaints += _list_pdf(path, folder)
    # A heat map of a radiograph lies on an image plane without a place in space: dcmqi cannot make a volume of it.
    if ds.SOPClassUID in SEGMENTATIONS and ds.SegmentationType != "FRACTIONAL":
        complaints += _dcmqi_errors(_convert_segments(path, folder))
    return complaints


def speaks_of_labelmap(ds: Dataset) -> bool:
    """Return whether an object is a LABELMAP SEG or names one."""
    if ds.SOPClassUID == LABELMAP_STORAGE:
        return True
    return any(element.value == LABELMAP_STORAGE for element in ds.iterall() if element.VR == "UI")


def list_errors(path: Path, *, is_labelmap_known: bool = True) -> list[str]:
    """Return what dciodvfy calls an error.

    Parameters
    ----------
    is_labelmap_known
        False leaves out what it holds against LABELMAP itself.
    """
    ended = run("dciodvfy", "-new", path)
    lines = (ended.stdout + ended.stderr).splitlines()
    assert lines, "dciodvfy said nothing at all"
    forgiven = () if is_labelmap_known else LABELMAP_IS_UNKNOWN
    errors = [line for line in lines if line.startswith(("Error", "Abort"))]
    return [line for line in errors if not any(text in line for text in forgiven)]


def list_contradictions(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return where dcentvfy finds two objects to differ about the same patient, Study, Series or Frame of Reference."""
    listed = folder / "objects.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    ended = run("dcentvfy", "-f", listed)
    return [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith(("Error", "Abort"))]


def dump_report(path: Path) -> str:
    """Return the text that dsrdump makes of an SR."""
    ended = run("dsrdump", "--print-all-codes", path)
    assert (ended.returncode, _dcmtk_errors(ended.stderr)) == (0, [])
    return ended.stdout


def read_measurements(path: Path, folder: Path) -> dict[str, Any]:
    """Return what dcmqi's tid1500reader makes of an SR."""
    assert _dcmqi_errors(_convert_report(path, folder)) == []
    found: dict[str, Any] = json.loads((folder / MEASUREMENTS).read_text())
    return found


def volumes_mm3(measurements: Mapping[str, Any]) -> dict[int, float]:
    """Return the volume of each Referenced Segment, as tid1500reader read it."""
    return {
        int(group["ReferencedSegment"]): float(item["value"])
        for group in measurements["Measurements"]
        for item in group["measurementItems"]
        if item["quantity"]["CodeValue"] == VOLUME_CODE and "ReferencedSegment" in group
    }


def read_regions(path: Path, folder: Path) -> dict[int, Region]:
    """Return the Segments as dcmqi's segimage2itkimage reads them, by Segment Number."""
    assert _dcmqi_errors(_convert_segments(path, folder)) == []
    files = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    regions = {}
    for number, segments in enumerate(files, start=1):
        voxels, affine = read_nrrd(folder / f"{number}.nrrd")
        for segment in segments:
            index = np.argwhere(voxels == segment["labelID"])
            regions[int(segment["labelID"])] = Region(
                label=int(segment["labelID"]),
                tracking_uid=segment["TrackingUniqueIdentifier"],
                centers_mm=index @ affine[:3, :3].T + affine[:3, 3],
                voxel_mm3=float(abs(np.linalg.det(affine[:3, :3]))),
            )
    return regions


def read_nrrd(path: Path) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Return voxels (columns, rows, slices) and the affine from these indices to LPS mm."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode("ascii").splitlines() if ": " in line)
    assert (fields["space"], fields["encoding"], fields["endian"]) == ("left-posterior-superior", "gzip", "little")
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = np.frombuffer(gzip.decompress(body), NRRD_TYPES[fields["type"]]).reshape(sizes, order="F")
    affine = np.eye(4)
    for axis, direction in enumerate(fields["space directions"].split()):
        affine[:3, axis] = _read_vector(direction)
    affine[:3, 3] = _read_vector(fields["space origin"])
    return voxels.astype(int), affine


def judge_report(path: Path) -> list[str]:
    """Return what PixelMed's DicomSRValidator calls an error of an SR or a Key Object Selection."""
    said = _run_pixelmed("DicomSRValidator", path)
    assert "Root Template Validation Complete" in said, said
    return [line for line in said.splitlines() if line.startswith("Error")]


def judge_instance(path: Path) -> list[str]:
    """Return what PixelMed's DicomInstanceValidator calls an error, but for a Laterality that nobody asks for."""
    said = _run_pixelmed("DicomInstanceValidator", path)
    assert said.startswith("Found "), said
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    return [line for line in errors if line.strip() != PIXELMED_LATERALITY]


def _run_pixelmed(program: str, path: Path) -> str:
    ended = run("java", *JAVA_OPTIONS, "-cp", require_pixelmed(), f"com.pixelmed.validate.{program}", path)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "IOD validation complete" in said, said
    return said


def _convert_report(path: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    return run("tid1500reader", "--inputDICOM", path, "--outputMetadata", folder / MEASUREMENTS)


def _convert_segments(path: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    readable = _readable(path, folder)
    return run("segimage2itkimage", "--inputDICOM", readable, "--outputDirectory", folder, "-t", "nrrd")


def _readable(path: Path, folder: Path) -> Path:
    """Return the SEG as dcmqi 1.5.7 can read it: it has no JPEG-LS and takes the bytes of a LABELMAP for words."""
    ds = dcmread(path)
    if ds.SOPClassUID != LABELMAP_STORAGE:
        return path
    pixels = ds.pixel_array
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds["PixelData"].is_undefined_length = False
    ds.save_as(folder / "words.dcm")
    return folder / "words.dcm"


def _list_dcmtk(program: str, path: Path) -> list[str]:
    ended = run(program, path)
    return _dcmtk_errors(ended.stderr) + ([f"{program} ended with {ended.returncode}"] if ended.returncode else [])


def _list_presentation(path: Path) -> list[str]:
    said = run("dcmpschk", path).stderr.splitlines()
    assert any(line.startswith("W: Test ") for line in said), said
    return [line for line in said if line.startswith("W: ") and not line.startswith(DCMPSCHK_SAYS_ANYHOW)]


def _list_pdf(path: Path, folder: Path) -> list[str]:
    out = folder / f"{path.stem}.pdf"
    ended = run("dcm2pdf", path, out)
    if ended.returncode or not out.read_bytes().startswith(b"%PDF-"):
        return [f"dcm2pdf takes no PDF out: {ended.stderr}"]
    return []


def _dcmtk_errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("E:", "F:"))]


def _dcmqi_errors(ended: "subprocess.CompletedProcess[str]") -> list[str]:
    said = (ended.stdout + ended.stderr).splitlines()
    errors = [line for line in said if line.startswith(("E:", "F:", "ERROR", "Fatal"))]
    return errors + ([f"dcmqi ended with {ended.returncode}"] if ended.returncode else [])


def _read_vector(text: str) -> list[float]:
    return [float(value) for value in text.strip("()").split(",")]
