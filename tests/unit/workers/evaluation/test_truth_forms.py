"""Truth from every form in which it may come, placed on the Series that it is of."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ComprehensiveSRStorage, ExplicitVRLittleEndian

from node.domain.result import ResultKind
from node.errors import TruthInvalid
from node.rehearsal.headers import code_item, codes
from tests.analyses import TILTED, ct_case, known
from workers.evaluation.case import Case
from workers.evaluation.truth import Truth, split_lesions
from workers.evaluation.truth_book import open_truth
from workers.volume import Volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def tilted_volume() -> Volume:
    volume = ct_case(orientation=TILTED).analysis.reference
    assert volume is not None
    return volume


def marked(volume: Volume) -> NDArray[np.uint8]:
    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[2:5, 4:10, 6:15] = 1
    mask[9, 35:48, 20:43] = 2
    return mask


def find(path: Path, name: str = "case", *, label: str = "", unlisted_are_healthy: bool = False) -> Truth | None:
    case = Case(study_instance_uid="1", series_instance_uid="2", patient="p", names=frozenset({name}), read=dict)
    return open_truth(path, label=label, unlisted_are_healthy=unlisted_are_healthy).find(case)


def labels_of(path: Path, volume: Volume, name: str = "case", *, label: str = "") -> NDArray[np.uint16]:
    truth = find(path, name, label=label)
    assert truth is not None
    assert truth.marks is not None
    return truth.marks(volume)


@pytest.mark.parametrize("name", ["ct", "tilted", "mr"])
def test_a_seg_comes_back_voxel_by_voxel(name: str, tmp_path: Path) -> None:
    case, results = known(name)
    seg = next(result for result in results if result.kind is ResultKind.SEG)
    (tmp_path / "truth.dcm").write_bytes(seg.content)
    volume, mask = case.analysis.reference, case.analysis.mask
    assert volume is not None
    assert mask is not None
    uid = str(volume.datasets[0].SeriesInstanceUID)
    assert np.array_equal(labels_of(tmp_path, volume, uid), mask)
    assert np.array_equal(labels_of(tmp_path, volume, uid, label="2") > 0, mask == 2)
    assert find(tmp_path, "another Series") is None
    with pytest.raises(TruthInvalid, match="no Segment 'Spleen'"):
        labels_of(tmp_path, volume, uid, label="Spleen")


def test_a_seg_of_another_place_is_refused(tmp_path: Path) -> None:
    case, results = known("ct")
    seg = next(result for result in results if result.kind is ResultKind.SEG)
    (tmp_path / "truth.dcm").write_bytes(seg.content)
    volume = case.analysis.reference
    assert volume is not None
    uid = str(volume.datasets[0].SeriesInstanceUID)
    far = volume.affine.copy()
    far[2, 3] += 5000
    moved = Volume(
        voxels=volume.voxels,
        affine=far,
        spacing_mm=volume.spacing_mm,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        datasets=volume.datasets,
    )
    with pytest.raises(TruthInvalid, match="outside of the Series"):
        labels_of(tmp_path, moved, uid)


def test_nifti_is_placed_by_its_affine_whatever_its_axes(tmp_path: Path) -> None:
    volume = tilted_volume()
    # Columns, rows, slices, the first mirrored: as converters write it.
    swap = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, volume.voxels.shape[2] - 1], [0, 0, 0, 1.0]])
    data = marked(volume).transpose(2, 1, 0)[::-1]
    image = nibabel.Nifti1Image(np.ascontiguousarray(data), RAS @ volume.affine @ swap)  # type: ignore[no-untyped-call]  # nibabel annotates half
    nibabel.save(image, tmp_path / "case.nii.gz")
    assert np.array_equal(labels_of(tmp_path, volume), marked(volume))
    assert np.array_equal(labels_of(tmp_path, volume, label="2") > 0, marked(volume) == 2)


def test_npz_needs_the_grid_or_an_affine(tmp_path: Path) -> None:
    volume = tilted_volume()
    np.savez(tmp_path / "case.npz", mask=marked(volume))
    assert np.array_equal(labels_of(tmp_path, volume), marked(volume))
    np.savez(tmp_path / "case.npz", mask=marked(volume)[2:], affine=volume.affine @ shift_slices(2))
    assert np.array_equal(labels_of(tmp_path, volume), marked(volume))
    np.savez(tmp_path / "case.npz", mask=marked(volume)[2:])
    with pytest.raises(TruthInvalid, match="without a place"):
        labels_of(tmp_path, volume)
    np.savez(tmp_path / "case.npz", other=marked(volume))
    with pytest.raises(TruthInvalid, match="no array 'mask'"):
        labels_of(tmp_path, volume)


def shift_slices(count: int) -> NDArray[np.float64]:
    shift = np.eye(4)
    shift[0, 3] = count
    return shift


def test_connected_pieces_are_lesions_where_they_lie() -> None:
    volume = tilted_volume()
    first, second = split_lesions(marked(volume).astype(np.uint16), volume)
    assert first.center_mm == pytest.approx(volume.to_patient_mm((3, 6.5, 10)))
    volume_mm3 = 3 * 6 * 9 * volume.voxel_mm3
    assert first.diameter_mm == pytest.approx((6 * volume_mm3 / np.pi) ** (1 / 3))
    assert second.mask is not None
    assert second.mask.sum() == 13 * 23


def write_sr(path: Path, groups: list[Dataset]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ComprehensiveSRStorage, UID("2.25.77")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = ComprehensiveSRStorage, "2.25.77", "2.25.5"
    ds.Modality, ds.ContentSequence = "SR", groups
    dcmwrite(path, ds, enforce_file_format=True)


def item(value_type: str, name: tuple[str, str], *children: Dataset) -> Dataset:
    ds = Dataset()
    ds.ValueType, ds.ConceptNameCodeSequence = value_type, codes(code_item(*name, "Meaning"))
    if children:
        ds.ContentSequence = list(children)
    return ds


def test_a_report_tells_lesions_by_points_in_space_and_on_slices(tmp_path: Path) -> None:
    volume = tilted_volume()
    point = item("SCOORD3D", ("111030", "DCM"))
    point.GraphicType, point.GraphicData = "POINT", [1.5, -2.5, 30.0]
    diameter = item("NUM", ("81827009", "SCT"))
    measured = Dataset()
    measured.NumericValue = "7.5"
    diameter.MeasuredValueSequence = [measured]
    image = item("IMAGE", ("111040", "DCM"))
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = volume.datasets[4].SOPInstanceUID
    image.ReferencedSOPSequence = [reference]
    line = item("SCOORD", ("111030", "DCM"), image)
    line.GraphicType, line.GraphicData = "POLYLINE", [10.5, 20.5, 14.5, 20.5]
    group = ("125007", "DCM")
    write_sr(tmp_path / "report.dcm", [item("CONTAINER", group, point, diameter), item("CONTAINER", group, line)])
    truth = find(tmp_path, "2.25.5")
    assert truth is not None
    assert truth.lesions is not None
    first, second = truth.lesions(volume)
    assert first.center_mm == pytest.approx((1.5, -2.5, 30.0))
    assert first.diameter_mm == 7.5
    assert second.center_mm == pytest.approx(volume.to_patient_mm((4, 20, 12)))
    assert second.diameter_mm == pytest.approx(4 * volume.spacing_mm[2])


def test_a_table_of_points_is_that_of_luna16(tmp_path: Path) -> None:
    table = tmp_path / "annotations.csv"
    table.write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,-128.6,-175.3,-298.4,5.65\n1.2,103.8,-211.9,-227.1,4.22\n"
    )
    truth = find(table, "1.2")
    assert truth is not None
    assert truth.lesions is not None
    lesions = truth.lesions(tilted_volume())
    assert [one.center_mm for one in lesions] == [(-128.6, -175.3, -298.4), (103.8, -211.9, -227.1)]
    assert [one.diameter_mm for one in lesions] == [5.65, 4.22]
    assert find(table, "1.3") is None
    healthy = find(table, "1.3", unlisted_are_healthy=True)
    assert healthy is not None
    assert healthy.lesions is not None
    assert healthy.lesions(tilted_volume()) == ()


def test_a_line_without_coordinates_says_that_there_is_nothing(tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("series_instance_uid,x,y,z,diameter,kernel\n1.2,,,,,soft\n")
    truth = find(table, "1.2")
    assert truth is not None
    assert truth.lesions is not None
    assert truth.lesions(tilted_volume()) == ()
    assert truth.columns == {"kernel": "soft"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,label\ncase,1\n", {"Pneumonia": True, "Effusion": True}),
        ("file,label\ncase,normal\n", {"Pneumonia": False, "Effusion": False}),
        ("file,label\ncase,Pneumonia\n", {"Pneumonia": True, "Effusion": False}),
        ("file,Pneumonia,kind\ncase,0,x\n", {"Pneumonia": False, "Effusion": None}),
    ],
)
def test_labels_are_ones_and_zeros_or_names(text: str, expected: dict[str, bool | None], tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(text)
    truth = find(tmp_path)
    assert truth is not None
    assert {name: truth.find_label(name) for name in expected} == expected


def test_a_table_names_masks_and_subgroups(tmp_path: Path) -> None:
    volume = tilted_volume()
    np.savez(tmp_path / "drawn.npz", mask=marked(volume))
    (tmp_path / "truth.csv").write_text("study_instance_uid,mask,center\ncase,drawn.npz,B\n")
    truth = find(tmp_path / "truth.csv")
    assert truth is not None
    assert truth.marks is not None
    assert np.array_equal(truth.marks(volume), marked(volume))
    assert truth.columns == {"center": "B"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,z,diameter\n1,2,3,4\n", "no column names the case"),
        ("file,label\n", "no line below its header"),
        ("file,x,y,z,diameter\ncase,1,two,3,4\n", "a coordinate that is no number"),
        ("file,x,y,z,diameter\ncase,1,2,3,0\n", "a lesion of 0 mm"),
        ("file,kind\ncase,viral\n", "has no label"),
        ("file,mask\ncase,truth.csv\n", "is no mask"),
    ],
)
def test_a_table_that_cannot_be_read_says_what_to_write(text: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text(text)
    with pytest.raises(TruthInvalid, match=said):
        find(table)


def test_no_truth_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(TruthInvalid, match="does not exist"):
        open_truth(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(TruthInvalid, match="holds no truth"):
        open_truth(tmp_path)
