"""PixelMed's validators find no error in one document of each kind; slow, so `make validate-slow` runs them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from node.domain.result import OptionalResult, ResultKind, SegmentationForm
from node.domain.retraction import RejectionReason
from tests.analyses import Case, ct_case, mr_case, rejection_note, xray_case
from tests.changes import name_of
from tests.validators import judge_instance, judge_report

pytestmark = [pytest.mark.slow, pytest.mark.needs("java")]

IMAGING_MEASUREMENTS, REFERENCED_SEGMENT = "126010", "121191"
CASES: dict[str, Callable[[], Case]] = {
    "CT": ct_case,
    "CT nothing found": lambda: ct_case(with_nodules=False),
    "MR": mr_case,
    "X-ray": xray_case,
}


def write(case: Case, kind: ResultKind, folder: Path, form: SegmentationForm = SegmentationForm.BINARY) -> Path:
    """Write one Result of a Case and return its file."""
    results = case.encode(OptionalResult.KEY_OBJECTS, segmentation=form)
    (content,) = (result.content for result in results if result.kind is kind)
    path = folder / f"{kind}.dcm"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", CASES)
def test_no_sr_has_an_error(name: str, tmp_path: Path) -> None:
    assert judge_report(write(CASES[name](), ResultKind.SR, tmp_path)) == []


def test_the_sr_of_a_label_map_has_no_error(tmp_path: Path) -> None:
    assert judge_report(write(ct_case(), ResultKind.SR, tmp_path, SegmentationForm.LABELMAP)) == []


def test_key_objects_have_no_error(tmp_path: Path) -> None:
    assert judge_report(write(ct_case(), ResultKind.KO, tmp_path)) == []


def test_a_rejection_note_has_no_error(tmp_path: Path) -> None:
    path = tmp_path / "note.dcm"
    path.write_bytes(rejection_note(ct_case(), RejectionReason.QUALITY).content)
    assert judge_report(path) == []


@pytest.mark.parametrize("name", ["CT", "MR"])
def test_no_seg_has_an_error(name: str, tmp_path: Path) -> None:
    assert judge_instance(write(CASES[name](), ResultKind.SEG, tmp_path)) == []


def test_a_volume_without_its_segment_is_seen(tmp_path: Path) -> None:
    path = write(ct_case(), ResultKind.SR, tmp_path)
    ds = dcmread(path)
    (measured,) = (item for item in ds.ContentSequence if name_of(item) == IMAGING_MEASUREMENTS)
    group = measured.ContentSequence[0]
    group.ContentSequence = [item for item in group.ContentSequence if name_of(item) != REFERENCED_SEGMENT]
    ds.save_as(path)
    assert judge_report(path)
