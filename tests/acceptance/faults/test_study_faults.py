"""Studies that are not as they should be: each is answered rightly, or refused with a reason, and never guessed at.

All of them go through rules and Pipelines in one run of `radnode process`; what is about time and senders has tests
elsewhere, which docs/faults.md names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import cos, dist, radians, sin, tan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileDataset
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from node.domain.uids import derive_uid
from node.rehearsal.headers import write_datasets
from tests.enhanced import enhance
from tests.node_process import run_radnode
from tests.phantoms import SMALL_NODULES, small_chest_ct, small_chest_xray

Series = list[FileDataset]
STEP_MM, TILT = 2.0, radians(15)
WITHIN_MM = 5.0
MANY = 5000
REFUSED_SOME = 3


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is wrong here is wrong with Studies."""


def study(name: str, datasets: Sequence[FileDataset]) -> Series:
    """Return copies as if of another Study."""
    made = deepcopy(list(datasets))
    study_uid, series_uid = derive_uid("test", "study", name), derive_uid("test", "series", name)
    for number, ds in enumerate(made):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
        ds.FrameOfReferenceUID = derive_uid("test", "frame", name)
        set_uid(ds, derive_uid("test", "instance", f"{name} {number}"))
    return made


def set_uid(ds: FileDataset, uid: str) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(uid)


def set_class(ds: FileDataset, uid: str) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(uid)


def add(series: Series, source: FileDataset, name: str) -> FileDataset:
    """Return one more Instance of a Series, made of another one."""
    ds = deepcopy(source)
    set_uid(ds, derive_uid("test", "instance", f"{source.SOPInstanceUID} {name}"))
    series.append(ds)
    return ds


def position(ds: Dataset) -> list[float]:
    return [float(value) for value in ds.ImagePositionPatient]


def shift(ds: Dataset, *, y_mm: float = 0.0, z_mm: float = 0.0) -> None:
    x, y, z = position(ds)
    ds.ImagePositionPatient = [x, round(y + y_mm, 4), round(z + z_mm, 4)]


def as_it_is(series: Series) -> Series:
    return series


def tilt_gantry(series: Series) -> Series:
    """Lean the stack as a CT does whose gantry is tilted: planes that lean, and a table that moves along z."""
    for ds in series:
        ds.GantryDetectorTilt = 15.0
        ds.ImageOrientationPatient = [1, 0, 0, 0, round(cos(TILT), 6), round(-sin(TILT), 6)]
    return series


def shear(series: Series) -> Series:
    """Lean the stack, and none of its planes."""
    for number, ds in enumerate(series):
        shift(ds, y_mm=number * STEP_MM * tan(TILT))
    return series


def vary_spacing(series: Series) -> Series:
    """Bring the last slices to half the distance, as where a second block begins."""
    for number, ds in enumerate(series[30:], 1):
        shift(ds, z_mm=-number * STEP_MM / 2)
    return series


def grow_apart(series: Series) -> Series:
    for number, ds in enumerate(series):
        shift(ds, z_mm=0.01 * number * number)
    return series


def lose_one(series: Series) -> Series:
    return series[:20] + series[21:]


def double_one(series: Series) -> Series:
    add(series, series[20], "again")
    return series


def two_phases(series: Series) -> Series:
    for number, ds in enumerate(series[:]):
        phase = add(series, ds, f"phase {number}")
        phase.AcquisitionNumber, phase.TemporalPositionIdentifier = 2, 2
    return series


def mixed_matrix(series: Series) -> Series:
    small = series[20]
    pixels = np.frombuffer(small.PixelData, np.uint16).reshape(small.Rows, small.Columns)
    small.PixelData, small.Rows = pixels[:128].tobytes(), 128
    return series


def mixed_orientation(series: Series) -> Series:
    series[20].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return series


def localizer_and_dose_report(series: Series) -> Series:
    """Beside the axial slices, in Series of their own: what a scanner sends along."""
    localizer, report = deepcopy(series[0]), deepcopy(series[0])
    for number, (ds, name) in enumerate(((localizer, "localizer"), (report, "dose report")), 1):
        ds.SeriesInstanceUID = derive_uid("test", name, str(ds.SeriesInstanceUID))
        ds.SeriesNumber, ds.SeriesDescription = 100 + number, name
        set_uid(ds, f"{ds.SeriesInstanceUID}.1"[:64].rstrip("."))
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    set_class(report, XRayRadiationDoseSRStorage)
    report.Modality = "SR"
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(report, keyword)
    return [localizer, report, *series]


def localizer_in_the_series(series: Series) -> Series:
    localizer = add(series, series[0], "localizer")
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return series


def feet_first(series: Series) -> Series:
    """As a scanner writes it: patient coordinates stay what they are, and the slices come from the other end."""
    for number, ds in enumerate(reversed(series), 1):
        ds.PatientPosition, ds.InstanceNumber = "FFS", number
    return series


def rescale_each(series: Series) -> Series:
    """Give each slice an intercept of its own, and all of them another slope; the HU stay the same."""
    for number, ds in enumerate(series):
        hu = np.frombuffer(ds.PixelData, np.int16 if ds.PixelRepresentation else np.uint16).astype(np.int32)
        hu = hu * int(ds.RescaleSlope) + int(ds.RescaleIntercept)
        intercept = -2048 - number
        ds.RescaleSlope, ds.RescaleIntercept, ds.PixelRepresentation = 0.5, intercept, 0
        ds.BitsStored, ds.HighBit = 16, 15
        ds.PixelData = ((hu - intercept) * 2).astype(np.uint16).tobytes()
    return series


def frames_of_one_instance(series: Series) -> Series:
    """The first Frame lies in the middle of the stack."""
    whole = enhance(series[20:] + series[:20])
    return [FileDataset("", whole, file_meta=whole.file_meta)]


def frames_without_place(series: Series) -> Series:
    ds = series[0]
    set_class(ds, EnhancedCTImageStorage)
    ds.NumberOfFrames, ds.PixelData = 4, ds.PixelData * 4
    return [ds]


def one_slice(series: Series) -> Series:
    return series[20:21]


def other_patient(series: Series) -> Series:
    """Half of the slices with the identity that the patient has after a merge."""
    for ds in series[24:]:
        ds.PatientID, ds.PatientName = "MERGED-2", "Merged^Two"
    return series


def says_ct_and_is_a_capture(series: Series) -> Series:
    for ds in series:
        set_class(ds, SecondaryCaptureImageStorage)
    return series


ANSWERED: Mapping[str, Callable[[Series], Series]] = {
    "as it should be": as_it_is,
    "localizer and dose report beside axial": localizer_and_dose_report,
    "feet first": feet_first,
    "rescale of each slice": rescale_each,
    "Frames of one Enhanced CT": frames_of_one_instance,
}
REFUSED: Mapping[str, tuple[Callable[[Series], Series], str]] = {
    "gantry tilt": (tilt_gantry, "mixed-geometry"),
    "slices that lean sideways": (shear, "mixed-geometry"),
    "variable spacing": (vary_spacing, "mixed-geometry"),
    "spacing that grows": (grow_apart, "slice-missing"),
    "slice missing": (lose_one, "slice-missing"),
    "slice doubled": (double_one, "slice-doubled"),
    "mixed matrix": (mixed_matrix, "mixed-geometry"),
    "mixed orientation": (mixed_orientation, "mixed-geometry"),
}
UNMATCHED: Mapping[str, tuple[Callable[[Series], Series], str]] = {
    "one slice": (one_slice, "no-rule-matched"),
    "phases in one Series": (two_phases, "no-rule-matched"),
    "localizer in the Series": (localizer_in_the_series, "no-rule-matched"),
    "Frames that nothing places": (frames_without_place, "rules-undetermined"),
    "patient merged half way": (other_patient, "rules-undetermined"),
    "secondary capture that says CT": (says_ct_and_is_a_capture, "no-rule-matched"),
}


def films() -> dict[str, Series]:
    """Return one film in four ways to write it."""
    source = small_chest_xray(with_opacity=True).dataset
    plain, negative, table, window = (deepcopy(source) for _ in range(4))
    negative.PhotometricInterpretation = "MONOCHROME1"
    negative.PresentationLUTShape = "INVERSE"
    highest = 2**source.BitsStored - 1
    negative.PixelData = (highest - np.frombuffer(source.PixelData, np.uint16)).astype(np.uint16).tobytes()
    lookup = Dataset()
    lookup.LUTDescriptor, lookup.LUTData = [256, 0, 8], np.arange(255, -1, -1, dtype=np.uint16).tobytes()
    lookup.LUTExplanation = "upside down"
    table.VOILUTSequence = [lookup]
    window.WindowCenter, window.WindowWidth = 10, 1
    ways = {"MONOCHROME2": plain, "MONOCHROME1": negative, "VOI LUT": table, "VOI window": window}
    return {name: study(name, [ds]) for name, ds in ways.items()}


def five_thousand() -> Series:
    """Return half a meter of 16 x 16 pixels in slices of 0.1 mm."""
    source = study("5,000 slices", small_chest_ct().datasets[:1])[0]
    source.Rows = source.Columns = 16
    source.PixelSpacing, source.PixelData = [20, 20], bytes(2 * 16 * 16)
    x, y, _ = position(source)
    made: Series = []
    for number in range(MANY):
        ds = add(made, source, str(number))
        ds.ImagePositionPatient, ds.InstanceNumber = [x, y, round(number * 0.1, 4)], number + 1
    return made


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """Return what `radnode process` says of each Study, by its name here."""
    folder = tmp_path_factory.mktemp("studies")
    ct = small_chest_ct().datasets
    makers = {**ANSWERED, **{name: maker for name, (maker, _) in {**REFUSED, **UNMATCHED}.items()}}
    studies = {name: maker(study(name, ct)) for name, maker in makers.items()} | films()
    for number, datasets in enumerate(studies.values()):
        write_datasets(datasets, folder / "in" / f"{number:02}")
    found = process(folder)
    return {name: found[str(datasets[-1].StudyInstanceUID)] for name, datasets in studies.items()}


def process(folder: Path) -> Mapping[str, dict[str, Any]]:
    """Return what is said of each Study below `folder`, by its UID; some of them are refused."""
    done = run_radnode("process", folder / "in", "--out", folder / "out", limit_s=900.0)
    assert done.returncode == REFUSED_SOME, done.stderr
    report = json.loads((folder / "out" / "report.json").read_text())
    return {told["study_instance_uid"]: told for told in report["studies"]}


def only_job(told: Mapping[str, Any]) -> Mapping[str, Any]:
    (job,) = told["jobs"]
    return dict(job)


@pytest.mark.parametrize("name", ANSWERED)
def test_study_that_is_sound_is_answered_rightly(answers: Mapping[str, dict[str, Any]], name: str) -> None:
    job = only_job(answers[name])
    assert job["state"] == "COMPLETED", job
    for nodule in SMALL_NODULES:
        assert min(dist(one["center_mm"], nodule.center_mm) for one in job["findings"]) <= WITHIN_MM
    usual = only_job(answers["as it should be"])
    assert [one["measurements"] for one in job["findings"]] == [one["measurements"] for one in usual["findings"]]


@pytest.mark.parametrize("name", REFUSED)
def test_study_that_is_not_sound_is_refused_with_its_reason(answers: Mapping[str, dict[str, Any]], name: str) -> None:
    job = only_job(answers[name])
    assert (job["state"], job["reason"]["code"], job["results"]) == ("CANCELED", REFUSED[name][1], [])


@pytest.mark.parametrize("name", UNMATCHED)
def test_study_that_no_pipeline_reads_matches_no_rule(answers: Mapping[str, dict[str, Any]], name: str) -> None:
    told = answers[name]
    assert (told["jobs"], told["refusal"]["code"]) == ([], UNMATCHED[name][1])
    assert all(decision["clause"] for decision in told["decisions"])


@pytest.mark.parametrize("name", ["MONOCHROME1", "VOI LUT", "VOI window"])
def test_film_is_read_as_it_was_exposed_however_it_is_shown(answers: Mapping[str, dict[str, Any]], name: str) -> None:
    plain, other = only_job(answers["MONOCHROME2"]), only_job(answers[name])
    assert (plain["state"], other["state"]) == ("COMPLETED", "COMPLETED")
    assert plain["findings"]
    assert [one["confidence"] for one in other["findings"]] == pytest.approx(
        [one["confidence"] for one in plain["findings"]], abs=0.01
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_study_of_5_000_slices_is_read_whole_and_its_answer_is_no_guess(tmp_path: Path) -> None:
    """Half a meter of nothing at all is no chest; a slice less would be a gap."""
    write_datasets(five_thousand(), tmp_path / "in")
    (told,) = process(tmp_path).values()
    job = only_job(told)
    assert (job["state"], job["reason"]["code"]) == ("CANCELED", "wrong-body-part")
