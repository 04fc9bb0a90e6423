"""`results check` on folders: what is true is called right, and each damage that the originals tell is named."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from node.domain.frame_groups import MAX_FRAMES
from node.domain.result import ResultKind
from node.errors import NotFound
from tests.analyses import ct_case, known, make_slices
from tests.changes import CASES, encoded, put, rewrite
from tests.damages import DAMAGES, Damage
from tests.enhanced import enhance_case
from workers.encoding.encoder import EncodedResult
from workers.inspection import InspectedObject, Report, inspect_folder, run_inspection

Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return what gives the folder of originals of a Case, written once a test run."""
    folder = tmp_path_factory.mktemp("originals")

    def write(name: str) -> Path:
        if not (folder / name).exists():
            write_originals(folder / name, encoded(name)[0].inputs)
        return folder / name

    return write


def write_originals(folder: Path, inputs: Mapping[str, Sequence[Dataset]]) -> Path:
    """Write the inputs of a Case, each role in a folder of its own."""
    for role, datasets in inputs.items():
        (folder / role).mkdir(parents=True)
        for number, ds in enumerate(datasets):
            dcmwrite(folder / role / f"{number}.dcm", ds, enforce_file_format=True)
    return folder


def write_results(folder: Path, results: Sequence[EncodedResult]) -> Path:
    folder.mkdir(exist_ok=True)
    for result in results:
        (folder / f"{result.kind}.dcm").write_bytes(result.content)
    return folder


def find(report: Report, kind: ResultKind) -> InspectedObject:
    return next(one for one in report.objects if one.path.stem == kind)


def verdicts(report: Report) -> dict[str, str]:
    return {one.kind: one.verdict for one in report.objects}


@pytest.mark.parametrize("name", CASES)
def test_true_objects_are_right(name: str, originals: Folders, tmp_path: Path) -> None:
    _, results = encoded(name)
    report = inspect_folder(write_results(tmp_path, results), originals(name))
    assert [one for one in report.objects if one.verdict != "right"] == []
    assert len(report.objects) == len(results)
    assert report.exit_code == 0


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
def test_a_damage_is_named_where_the_originals_tell(damage: Damage, originals: Folders, tmp_path: Path) -> None:
    _, results = damage.apply()
    # The other objects tell nothing of it, and the picture is large.
    concerned = [one for one in results if one.kind in {damage.kind, ResultKind.SEG, ResultKind.SR}]
    report = inspect_folder(write_results(tmp_path, concerned), originals(damage.case))
    told = "\n".join(str(complaint) for one in report.objects for complaint in one.contradictions)
    if damage.is_seen_by_anybody:
        assert re.search(damage.said, told), told
        assert report.exit_code == 1
    else:
        assert told == ""
        assert report.exit_code == 0


def test_objects_beside_their_originals_are_told_apart(tmp_path: Path) -> None:
    case, results = known("ct")
    write_originals(tmp_path / "study", case.inputs)
    write_results(tmp_path / "study", results)
    report = inspect_folder(tmp_path / "study", tmp_path / "study")
    assert verdicts(report) == {"SEG": "right", "SR": "right", "SC": "right"}
    assert report.originals == len(case.inputs["ct"])


def test_without_its_originals_an_object_is_not_proven(tmp_path: Path) -> None:
    _, results = known("ct")
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "results", results)
    report = inspect_folder(tmp_path / "results", tmp_path / "empty")
    assert verdicts(report) == {"SEG": "not proven", "SR": "not proven", "SC": "not proven"}
    assert report.exit_code == 3


def test_another_series_of_the_study_proves_the_patient_only(tmp_path: Path) -> None:
    _, results = known("ct")
    write_originals(tmp_path / "other", {"ct": make_slices(series="another")})
    seg = [one for one in results if one.kind is ResultKind.SEG]
    report = inspect_folder(write_results(tmp_path / "results", seg), tmp_path / "other")
    reasons = [str(one) for one in report.objects[0].unproven]
    assert report.exit_code == 3
    assert any("source slice is not among the originals" in reason for reason in reasons), reasons
    assert not any("patient" in reason for reason in reasons)


def test_two_objects_of_one_uid_are_both_wrong(originals: Folders, tmp_path: Path) -> None:
    _, results = known("ct")
    write_results(tmp_path, results)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "SEG.dcm").read_bytes())
    report = inspect_folder(tmp_path, originals("ct"))
    assert [one.path.name for one in report.objects if one.verdict == "WRONG"] == ["SEG.dcm", "copy.dcm"]


@pytest.mark.parametrize("part", [0.3, 0.6, 0.999])
@pytest.mark.parametrize("kind", ["SEG", "SR", "SC", "KO", "PR", "DOC"])
def test_a_cut_file_is_wrong(kind: str, part: float, originals: Folders, tmp_path: Path) -> None:
    _, results = encoded("ct")
    whole = next(one.content for one in results if one.kind == kind)
    write_results(tmp_path, results)
    (tmp_path / f"{kind}.dcm").write_bytes(whole[: int(len(whole) * part)])
    assert find(inspect_folder(tmp_path, originals("ct")), ResultKind(kind)).verdict == "WRONG"


def test_what_is_no_dicom_is_passed_over(originals: Folders, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" * 100)
    report = inspect_folder(tmp_path, originals("ct"))
    assert report.objects == ()
    assert report.exit_code == 3


def test_one_file_can_be_named(originals: Folders, tmp_path: Path) -> None:
    _, results = known("ct")
    write_results(tmp_path, results)
    report = inspect_folder(tmp_path / "SEG.dcm", originals("ct"))
    assert verdicts(report) == {"SEG": "right"}


def test_a_folder_that_is_not_there_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        inspect_folder(tmp_path / "nowhere", tmp_path)


def test_originals_of_odd_headers_do_not_stop_it(tmp_path: Path) -> None:
    case, results = known("ct")
    write_originals(tmp_path / "originals", case.inputs)
    thickness = b"\x18\x00\x50\x00DS\x04\x00"
    for path in (tmp_path / "originals").rglob("*.dcm"):
        content = path.read_bytes()
        assert thickness + b"3.0 " in content
        path.write_bytes(content.replace(thickness + b"3.0 ", thickness + b"thin"))
    report = inspect_folder(write_results(tmp_path / "results", results), tmp_path / "originals")
    assert verdicts(report) == {"SEG": "right", "SR": "right", "SC": "right"}


def read_back(ds: Dataset, folder: Path) -> Dataset:
    path = folder / "copy.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return dcmread(path)


def test_no_file_of_pydicom_stops_it(tmp_path: Path) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    report = inspect_folder(folder, tmp_path)
    assert len(report.objects) > 50
    assert "right" not in {one.verdict for one in report.objects}


def test_undecodable_originals_leave_the_attenuation_unproven(tmp_path: Path) -> None:
    case, results = known("ct")
    inputs = {"ct": [read_back(ds, tmp_path) for ds in case.inputs["ct"]]}
    for ds in inputs["ct"]:
        ds.PixelData = ds.PixelData[:100]
    write_originals(tmp_path / "originals", inputs)
    report = inspect_folder(write_results(tmp_path / "results", results), tmp_path / "originals")
    assert find(report, ResultKind.SR).verdict == "not proven"
    assert "attenuation" in str(find(report, ResultKind.SR).unproven[0])


def test_originals_of_too_many_frames_leave_the_attenuation_unproven(tmp_path: Path) -> None:
    case = enhance_case(ct_case())
    results = [one for one in case.encode() if one.kind is not ResultKind.SC]
    for ds in case.inputs["ct"]:
        ds.NumberOfFrames = MAX_FRAMES + 1
    write_originals(tmp_path / "originals", case.inputs)
    report = inspect_folder(write_results(tmp_path / "results", results), tmp_path / "originals")
    assert find(report, ResultKind.SR).verdict == "not proven"
    assert f"at most {MAX_FRAMES}" in str(find(report, ResultKind.SR).unproven[0])


def test_the_report_names_object_expectation_finding_and_remedy(
    originals: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, results = known("ct")
    damaged = [rewrite(one, put("PatientID", "T-2")) if one.kind is ResultKind.SEG else one for one in results]
    write_results(tmp_path, damaged)
    assert run_inspection(tmp_path, originals("ct"), as_json=False) == 1
    told = capsys.readouterr().out
    assert f"WRONG       SEG  {tmp_path / 'SEG.dcm'}\n" in told
    assert "  1. PatientID: expected what the originals say, found another value. Copy it from the source" in told
    assert f"right       SR   {tmp_path / 'SR.dcm'}\n" in told
    assert told.endswith("2 right, 1 WRONG; 12 originals\n")
    assert run_inspection(tmp_path, originals("ct"), as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    wrong = next(one for one in document["objects"] if one["verdict"] == "WRONG")
    assert wrong["kind"] == "SEG"
    assert set(wrong["contradictions"][0]) == {"thing", "expected", "found", "remedy"}
    assert "T-2" not in told
    assert "T-1" not in told
