"""`results check` on objects of dcmqi, and of highdicom as its manual calls it: the classic mistakes are caught."""

import copy
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from tests.analyses import Ball, fill_ball
from tests.peers import require_program
from tests.phantoms import small_chest_ct
from workers.inspection import Report, inspect_folder
from workers.volume import Volume, read_volume

WRITE_LIMIT_S = 60.0
# As real scanners have it: slices thicker than they are apart.
SLICE_THICKNESS_MM = "3.0"
NODULE = Code("27925004", "SCT", "Nodule")
STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LUNG = Code("39607008", "SCT", "Lung")
VOLUME, CUBIC_MILLIMETER = Code("118565006", "SCT", "Volume"), Code("mm3", "UCUM", "cubic millimeter")
ATTENUATION, HOUNSFIELD = Code("112031", "DCM", "Attenuation Coefficient"), Code("[hnsf'U]", "UCUM", "Hounsfield unit")
MEAN = Code("373098007", "SCT", "Mean")
TRACKING_UID, TRACKING_ID = "2.25.7777", "Nodule 1"

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A CT with one nodule, and what somebody measured of it."""

    volume: Volume
    mask: Mask
    volume_mm3: float
    mean_hu: float


@cache
def scan() -> Scan:
    """Return the phantom's first nodule, measured as it should be."""
    chest = small_chest_ct()
    datasets = [copy.deepcopy(ds) for ds in chest.datasets]
    for ds in datasets:
        ds.SliceThickness = SLICE_THICKNESS_MM
    nodule = chest.nodules[0]
    return measure(read_volume(datasets), Ball(center_mm=nodule.center_mm, radius_mm=nodule.diameter_mm / 2))


def measure(volume: Volume, ball: Ball) -> Scan:
    """Return what is measured, as it should be, of a ball."""
    mask = fill_ball(volume, ball).astype(np.uint8)
    return Scan(
        volume=volume,
        mask=mask,
        volume_mm3=float(mask.sum()) * float(np.prod(volume.spacing_mm)),
        mean_hu=float(volume.voxels[mask > 0].mean()),
    )


def by_slice_thickness(one: Scan) -> Scan:
    """Return what one measures who takes Slice Thickness for the distance between slices."""
    thickness_mm = float(one.volume.datasets[0].SliceThickness)
    return replace(one, volume_mm3=one.volume_mm3 * thickness_mm / one.volume.spacing_mm[0])


def upside_down(one: Scan) -> Scan:
    """Return a mask in the order of a reversed list of slices, with what was measured before."""
    return replace(one, mask=one.mask[::-1])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    for number, ds in enumerate(scan().volume.datasets):
        dcmwrite(folder / f"{number}.dcm", ds, enforce_file_format=True)
    return folder


def run(*command: str | Path) -> None:
    words = [require_program(str(command[0])), *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WRITE_LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def as_json(code: Code) -> dict[str, str]:
    return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme_designator, "CodeMeaning": code.meaning}


def write_nrrd(path: Path, one: Scan) -> Path:
    """Write a mask as ITK reads it; the format counts columns first."""
    columns = one.volume.affine[:3, :3].T[::-1]
    directions = " ".join("(" + ",".join(f"{value:.9g}" for value in column) + ")" for column in columns)
    origin = ",".join(f"{value:.9g}" for value in one.volume.affine[:3, 3])
    sizes = " ".join(str(size) for size in one.mask.shape[::-1])
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {sizes}\nspace directions: {directions}\nkinds: domain domain domain\n"
        f"encoding: raw\nspace origin: ({origin})\n\n"
    )
    path.write_bytes(header.encode() + np.ascontiguousarray(one.mask).tobytes())
    return path


def write_by_dcmqi(one: Scan, originals: Path, folder: Path) -> Path:
    """Write SEG and SR with dcmqi; return their folder."""
    work, results = folder / "work", folder / "results"
    work.mkdir()
    results.mkdir()
    (work / "seg.json").write_text(json.dumps(describe_segment()))
    run(
        "itkimage2segimage",
        *("--inputImageList", write_nrrd(work / "mask.nrrd", one)),
        *("--inputDICOMDirectory", originals),
        *("--inputMetadata", work / "seg.json"),
        *("--outputDICOM", results / "seg.dcm"),
        "--skip",
    )
    seg = dcmread(results / "seg.dcm")
    (work / "sr.json").write_text(json.dumps(describe_measurements(one, seg, originals)))
    run(
        "tid1500writer",
        *("--inputMetadata", work / "sr.json"),
        *("--inputImageLibraryDirectory", originals),
        *("--inputCompositeContextDirectory", results),
        *("--outputDICOM", results / "sr.dcm"),
    )
    return results


def describe_segment() -> dict[str, Any]:
    segment = {
        "labelID": 1,
        "SegmentDescription": "Nodule",
        "SegmentAlgorithmType": "SEMIAUTOMATIC",
        "SegmentAlgorithmName": "Pen",
        "SegmentedPropertyCategoryCodeSequence": as_json(STRUCTURE),
        "SegmentedPropertyTypeCodeSequence": as_json(NODULE),
        "recommendedDisplayRGBValue": [255, 128, 0],
        "TrackingIdentifier": TRACKING_ID,
        "TrackingUniqueIdentifier": TRACKING_UID,
    }
    return {
        "ContentCreatorName": "Reader^One",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [[segment]],
    }


def describe_measurements(one: Scan, seg: Dataset, originals: Path) -> dict[str, Any]:
    items = [
        {"value": f"{one.volume_mm3:.3f}", "quantity": as_json(VOLUME), "units": as_json(CUBIC_MILLIMETER)},
        {
            "value": f"{one.mean_hu:.3f}",
            "quantity": as_json(ATTENUATION),
            "units": as_json(HOUNSFIELD),
            "derivationModifier": as_json(MEAN),
        },
    ]
    group = {
        "TrackingIdentifier": TRACKING_ID,
        "TrackingUniqueIdentifier": TRACKING_UID,
        "ReferencedSegment": 1,
        "SourceSeriesForImageSegmentation": str(one.volume.datasets[0].SeriesInstanceUID),
        "segmentationSOPInstanceUID": str(seg.SOPInstanceUID),
        "Finding": as_json(NODULE),
        "FindingSite": as_json(LUNG),
        "measurementAlgorithmIdentification": {"AlgorithmName": "Pen", "AlgorithmVersion": "1"},
        "measurementItems": items,
    }
    return {
        "SeriesDescription": "Measurements",
        "SeriesNumber": "301",
        "InstanceNumber": "1",
        "compositeContext": ["seg.dcm"],
        "imageLibrary": sorted(path.name for path in originals.iterdir()),
        "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "Reader^One"},
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": [group],
    }


def write_by_highdicom(
    one: Scan, folder: Path, form: str = "BINARY", *, sources: Sequence[Dataset] | None = None
) -> Path:
    """Write SEG and SR with highdicom; return their folder."""
    images = list(sources or one.volume.datasets)
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=one.mask.astype(float) if form == "FRACTIONAL" else one.mask,
        segmentation_type=form,
        segment_descriptions=[describe_to_highdicom()],
        series_instance_uid=hd.UID(),
        series_number=300,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Somebody",
        manufacturer_model_name="Tool",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    sr = hd.sr.Comprehensive3DSR(
        evidence=[*images, seg],
        content=report_to_highdicom(one, seg),
        series_instance_uid=hd.UID(),
        series_number=301,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Somebody",
    )
    for name, ds in (("seg", seg), ("sr", sr)):
        ds.save_as(folder / f"{name}.dcm")
    return folder


def describe_to_highdicom() -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Nodule",
        segmented_property_category=STRUCTURE,
        segmented_property_type=NODULE,
        algorithm_type="MANUAL",
        tracking_uid=TRACKING_UID,
        tracking_id=TRACKING_ID,
    )


def report_to_highdicom(one: Scan, seg: Dataset) -> hd.sr.MeasurementReport:
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=TRACKING_UID, identifier=TRACKING_ID),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation(one.volume.datasets[0].SeriesInstanceUID),
        ),
        finding_type=NODULE,
        measurements=[
            hd.sr.Measurement(VOLUME, one.volume_mm3, CUBIC_MILLIMETER),
            hd.sr.Measurement(ATTENUATION, one.mean_hu, HOUNSFIELD, derivation=MEAN),
        ],
    )
    person = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121006", "DCM", "Person"),
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Reader^One"),
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=person),
        procedure_reported=Code("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=[group],
    )


def told(report: Report) -> str:
    return "\n".join(str(one) for ds in report.objects for one in (*ds.contradictions, *ds.unproven))


@pytest.mark.needs("itkimage2segimage", "tid1500writer")
def test_objects_of_dcmqi_are_right(originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_dcmqi(scan(), originals, tmp_path), originals)
    assert told(report) == ""
    assert [one.kind for one in report.objects] == ["SEG", "SR"]


@pytest.mark.needs("itkimage2segimage", "tid1500writer")
@pytest.mark.parametrize("name", ["ct-lungfcp-0001", "mr-pgbm-003/36468-FLAIRreg-58706"], ids=["CT", "tilted MR"])
def test_objects_of_dcmqi_on_real_images_hold_no_contradiction(name: str, data_dir: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in (data_dir / name).glob("*.dcm"):
        shutil.copy(path, images)
    volume = read_volume([dcmread(path) for path in sorted(images.iterdir())])
    center = volume.to_patient_mm([n / 2 for n in volume.voxels.shape])
    one = measure(volume, Ball(center_mm=center, radius_mm=14.0))
    report = inspect_folder(write_by_dcmqi(one, images, tmp_path), images)
    attenuation = [] if volume.datasets[0].Modality == "CT" else ["the originals are no CT"]
    assert [line for ds in report.objects for line in map(str, ds.contradictions)] == []
    assert [line.reason for ds in report.objects for line in ds.unproven] == attenuation
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    report = inspect_folder(write_by_dcmqi(by_slice_thickness(one), images, wrong), images)
    assert report.exit_code == 1


@pytest.mark.needs("itkimage2segimage", "tid1500writer")
def test_volume_by_slice_thickness_of_dcmqi_is_caught(originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_dcmqi(by_slice_thickness(scan()), originals, tmp_path), originals)
    assert "which Slice Thickness gives" in told(report)
    assert report.exit_code == 1


@pytest.mark.needs("itkimage2segimage", "tid1500writer")
def test_mask_upside_down_of_dcmqi_is_caught(originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_dcmqi(upside_down(scan()), originals, tmp_path), originals)
    assert "mean attenuation of group 1 (segment 1): expected" in told(report)
    assert report.exit_code == 1


@pytest.mark.parametrize("form", ["BINARY", "LABELMAP"])
def test_objects_of_highdicom_are_right(form: str, originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_highdicom(scan(), tmp_path, form), originals)
    assert told(report) == ""
    assert report.exit_code == 0


def test_volume_of_a_fractional_seg_is_not_proven(originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_highdicom(scan(), tmp_path, "FRACTIONAL"), originals)
    assert told(report) == "volume of group 1 (segment 1): the SEG is FRACTIONAL"
    assert report.exit_code == 3


def test_volume_by_slice_thickness_of_highdicom_is_caught(originals: Path, tmp_path: Path) -> None:
    report = inspect_folder(write_by_highdicom(by_slice_thickness(scan()), tmp_path), originals)
    assert "which Slice Thickness gives" in told(report)


def test_reversed_list_of_slices_that_highdicom_takes_silently_is_caught(originals: Path, tmp_path: Path) -> None:
    reversed_list = list(reversed(scan().volume.datasets))
    report = inspect_folder(write_by_highdicom(scan(), tmp_path, sources=reversed_list), originals)
    assert "mean attenuation of group 1 (segment 1): expected" in told(report)
    assert report.exit_code == 1


def test_a_seg_upside_down_alone_tells_nobody(originals: Path, tmp_path: Path) -> None:
    """Without a number that was measured elsewhere a displaced mask is as good as another: this cannot be proven."""
    reversed_list = list(reversed(scan().volume.datasets))
    write_by_highdicom(scan(), tmp_path, sources=reversed_list)
    (tmp_path / "sr.dcm").unlink()
    assert inspect_folder(tmp_path, originals).exit_code == 0


def enhance(one: Scan) -> Dataset:
    """Return the same slices as one Enhanced CT Image, geometry and rescaling in functional groups."""
    slices = one.volume.datasets
    enhanced = copy.deepcopy(slices[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(enhanced, keyword)
    enhanced.SOPClassUID, enhanced.SOPInstanceUID = EnhancedCTImageStorage, hd.UID()
    enhanced.NumberOfFrames = len(slices)
    enhanced.PixelData = b"".join(ds.PixelData for ds in slices)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, SLICE_THICKNESS_MM
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    enhanced.SharedFunctionalGroupsSequence = [shared]
    enhanced.PerFrameFunctionalGroupsSequence = [place(ds) for ds in slices]
    return enhanced


def place(ds: Dataset) -> Dataset:
    plane, frame = Dataset(), Dataset()
    plane.ImagePositionPatient = ds.ImagePositionPatient
    frame.PlanePositionSequence = [plane]
    return frame


def test_a_multi_frame_original_places_frames_and_gives_volumes(tmp_path: Path) -> None:
    enhanced = enhance(scan())
    (tmp_path / "originals").mkdir()
    (tmp_path / "results").mkdir()
    dcmwrite(tmp_path / "originals" / "enhanced.dcm", enhanced, enforce_file_format=True)
    report = inspect_folder(
        write_by_highdicom(scan(), tmp_path / "results", sources=[enhanced]), tmp_path / "originals"
    )
    assert [one.verdict for one in report.objects] == ["right", "right"]
    write_by_highdicom(by_slice_thickness(scan()), tmp_path / "results", sources=[enhanced])
    assert "which Slice Thickness gives" in told(inspect_folder(tmp_path / "results", tmp_path / "originals"))


def test_originals_of_another_patient_are_told(originals: Path, tmp_path: Path) -> None:
    others = [copy.deepcopy(ds) for ds in scan().volume.datasets]
    for ds in others:
        ds.PatientID = "somebody else"
    report = inspect_folder(write_by_highdicom(scan(), tmp_path, sources=others), originals)
    assert [str(one.contradictions[0].thing) for one in report.objects] == ["PatientID", "PatientID"]
