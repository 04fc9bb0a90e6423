"""The images that a Result speaks of, as their headers tell them: identity, geometry, and pixels when asked for."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from workers.encoding.header_values import read_numbers, read_plain, read_text

IDENTITY_KEYWORDS = (
    "PatientID",
    "PatientName",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
)
# With the character set in which they are written.
IDENTITY_TAGS = tuple(Tag(keyword) for keyword in ("SpecificCharacterSet", *IDENTITY_KEYWORDS))
# What `OriginalReader` needs of a file.
HEADER_KEYWORDS = (
    *IDENTITY_KEYWORDS,
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
POSITION_LENGTH, ORIENTATION_LENGTH, SPACING_LENGTH = 3, 6, 2
# A step so much longer than the others is a gap between slices that are at hand.
GAP = 1.5
SAME_PLACE_MM = 1e-3
ORIENTATION_TOLERANCE = 1e-3

Values = NDArray[np.float32]
# SOP Instance UID, and which Frame of the Instance, from 1.
SlicePlace = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where one Frame lies, as written.

    Attributes
    ----------
    position_mm
        Image Position (Patient) (0020,0032), LPS.
    orientation
        Image Orientation (Patient) (0020,0037), six cosines.
    spacing_mm
        Pixel Spacing (0028,0030): between rows, between columns.
    slice_thickness_mm
        Slice Thickness (0018,0050); None where it is absent.
    """

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slice_thickness_mm: float | None

    def locate(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where pixel centers lie, (n, 3) in LPS mm.

        References
        ----------
        DICOM PS3.3 C.7.6.2.1.1
        """
        along, down = np.reshape(self.orientation, (2, 3))
        steps = np.outer(columns * self.spacing_mm[1], along) + np.outer(rows * self.spacing_mm[0], down)
        placed: NDArray[np.float64] = steps + np.asarray(self.position_mm)
        return placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One source Instance.

    Attributes
    ----------
    identity
        Values of `IDENTITY_KEYWORDS`, empty where absent.
    planes
        One a Frame; empty where the header does not place the pixels in the patient.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    modality: str
    identity: tuple[str, ...]
    rows: int
    columns: int
    planes: tuple[Plane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSlice:
    """One Frame of a source Instance.

    Attributes
    ----------
    frame_number
        From 1, as Referenced Frame Number counts; 1 of an Instance of one Frame.
    """

    original: Original
    frame_number: int

    @property
    def place(self) -> SlicePlace:
        """SOP Instance UID and number of the Frame."""
        return self.original.sop_instance_uid, self.frame_number

    @property
    def plane(self) -> Plane | None:
        """Where it lies; None where the header does not tell."""
        planes = self.original.planes
        return planes[self.frame_number - 1] if 0 < self.frame_number <= len(planes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Originals:
    """All source Instances at hand.

    Attributes
    ----------
    read_values
        Gives (rows, columns) float32 of a Frame after the Modality LUT (HU for CT); raises PixelsUndecodable.
    """

    by_uid: Mapping[str, Original]
    by_series: Mapping[str, tuple[Original, ...]]
    read_values: Callable[[SlicePlace], Values]

    def measure_distance(self, series_instance_uid: str) -> float | None:
        """Return the distance between neighboring slices of a Series, mm, from Image Position (Patient) alone.

        None where there are not two slices of one orientation.
        """
        planes = [plane for one in self.by_series.get(series_instance_uid, ()) for plane in one.planes]
        if not planes:
            return None
        orientations = np.array([plane.orientation for plane in planes])
        is_parallel = np.abs(orientations - orientations[0]).max(axis=1) < ORIENTATION_TOLERANCE
        normal = np.cross(orientations[0, :3], orientations[0, 3:])
        places = np.sort(np.array([plane.position_mm for plane in planes])[is_parallel] @ normal)
        steps = np.diff(places)
        steps = steps[steps > SAME_PLACE_MM]
        return float(steps[steps <= GAP * np.median(steps)].mean()) if steps.size else None


def gather_originals(originals: Iterable[Original], read_values: Callable[[SlicePlace], Values]) -> Originals:
    """Return Originals by Instance and by Series."""
    by_uid = {one.sop_instance_uid: one for one in originals}
    by_series: dict[str, list[Original]] = defaultdict(list)
    for one in by_uid.values():
        by_series[one.series_instance_uid].append(one)
    return Originals(
        by_uid=by_uid, by_series={uid: tuple(some) for uid, some in by_series.items()}, read_values=read_values
    )


class OriginalReader:
    """Reads headers of source Instances; a patient is decoded once, not for each of a thousand slices."""

    def __init__(self) -> None:
        self._identities: dict[tuple[bytes | str, ...], tuple[str, ...]] = {}

    def read(self, ds: Dataset) -> Original:
        """Return what the header of a source Instance tells; odd values of real headers count as absent."""
        written = tuple(_read_written(ds, tag) for tag in IDENTITY_TAGS)
        if written not in self._identities:
            self._identities[written] = tuple(read_text(ds, keyword) for keyword in IDENTITY_KEYWORDS)
        return _read_original(ds, self._identities[written])


def _read_written(ds: Dataset, tag: BaseTag) -> bytes | str:
    """Return the value of an element as it was written, or as it was decoded already."""
    value = ds.get_item(tag).value if tag in ds else None
    return value if isinstance(value, bytes) else str(value)


def _read_original(ds: Dataset, identity: tuple[str, ...]) -> Original:
    return Original(
        sop_instance_uid=read_plain(ds, "SOPInstanceUID"),
        sop_class_uid=read_plain(ds, "SOPClassUID"),
        series_instance_uid=read_plain(ds, "SeriesInstanceUID"),
        study_instance_uid=read_plain(ds, "StudyInstanceUID"),
        frame_of_reference_uid=read_plain(ds, "FrameOfReferenceUID"),
        modality=read_plain(ds, "Modality"),
        identity=identity,
        rows=int(ds.get("Rows") or 0),
        columns=int(ds.get("Columns") or 0),
        planes=_read_planes(ds),
    )


def read_plane(*groups: Dataset) -> Plane | None:
    """Return the Plane that is spread over several items of functional groups, or stands in one header.

    Parameters
    ----------
    groups
        Where to look, in this order.
    """
    found = {
        keyword: next((numbers for ds in groups if (numbers := read_numbers(ds, keyword, length))), ())
        for keyword, length in (
            ("ImagePositionPatient", POSITION_LENGTH),
            ("ImageOrientationPatient", ORIENTATION_LENGTH),
            ("PixelSpacing", SPACING_LENGTH),
        )
    }
    if not all(found.values()):
        return None
    thickness = next((numbers for ds in groups if (numbers := read_numbers(ds, "SliceThickness", 1))), ())
    return Plane(
        position_mm=found["ImagePositionPatient"],
        orientation=found["ImageOrientationPatient"],
        spacing_mm=found["PixelSpacing"],
        slice_thickness_mm=thickness[0] if thickness else None,
    )


def spread_groups(frame: Dataset, shared: Dataset) -> list[Dataset]:
    """Return the first item of each functional group that places a Frame (PS3.3 C.7.6.16.2)."""
    macros = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    return [items[0] for keyword in macros for ds in (frame, shared) if (items := ds.get(keyword))]


def _read_planes(ds: Dataset) -> tuple[Plane, ...]:
    frames = ds.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        plane = read_plane(ds)
        return () if plane is None else (plane,)
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    planes = [read_plane(*spread_groups(frame, shared)) for frame in frames]
    return tuple(plane for plane in planes if plane is not None) if None not in planes else ()
