"""The gate bites: each damage a Result could have is seen and stops it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from node.domain.finding import Presence
from node.domain.result import ResultKind
from node.errors import ResultCheckFailed
from tests.analyses import known, make_slices, xray_case
from tests.changes import CASES, encoded, put, rewrite
from tests.damages import DAMAGES, Damage
from workers.encoding.encoder import EncodedResult
from workers.proving.check import check_results

SEG, SR, SC = ResultKind.SEG, ResultKind.SR, ResultKind.SC


@pytest.mark.parametrize("name", CASES)
def test_true_results_pass(name: str) -> None:
    case, results = encoded(name)
    check_results(results, case.analysis, case.inputs)


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
def test_damage_is_seen(damage: Damage) -> None:
    case, results = damage.apply()
    with pytest.raises(ResultCheckFailed, match=damage.said):
        check_results(results, case.analysis, case.inputs)


@pytest.mark.parametrize("name", CASES)
def test_rewriting_alone_is_no_damage(name: str) -> None:
    case, results = encoded(name)
    check_results([rewrite(result, lambda ds: None) for result in results], case.analysis, case.inputs)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    case, results = encoded("ct")
    damaged = [rewrite(result, put("PatientID", "T-2")) for result in results]
    with pytest.raises(ResultCheckFailed) as caught:
        check_results(damaged, case.analysis, case.inputs)
    assert str(caught.value).count("PatientID") == len(results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A volume that the Pipeline reports, against what its voxels hold."""

    factor: float
    passes: bool


@pytest.mark.parametrize(
    "reported",
    [
        Reported(factor=1.0, passes=True),
        Reported(factor=1.009, passes=True),
        Reported(factor=1.011, passes=False),
        Reported(factor=0.985, passes=False),
        Reported(factor=3.0 / 2.0, passes=False),
    ],
    ids=["true", "0.9 % off", "1.1 % off", "1.5 % less", "slice thickness for distance"],
)
def test_volume_is_held_against_the_voxels_within_one_percent(reported: Reported) -> None:
    case, _ = known("ct")
    first_one = case.analysis.findings[0]
    measured = {**first_one.measurements, "volume_mm3": first_one.measurements["volume_mm3"] * reported.factor}
    findings = (replace(first_one, measurements=measured), *case.analysis.findings[1:])
    changed = replace(case, analysis=replace(case.analysis, findings=findings))
    results = changed.encode()
    if reported.passes:
        check_results(results, changed.analysis, changed.inputs)
        return
    with pytest.raises(ResultCheckFailed, match=r"volume of group 1 \(segment 1\)"):
        check_results(results, changed.analysis, changed.inputs)


def test_attenuation_is_held_against_the_voxels() -> None:
    case, _ = known("ct")
    first_one = case.analysis.findings[0]
    measured = {**first_one.measurements, "mean_hu": first_one.measurements["mean_hu"] + 1.2}
    findings = (replace(first_one, measurements=measured), *case.analysis.findings[1:])
    changed = replace(case, analysis=replace(case.analysis, findings=findings))
    with pytest.raises(ResultCheckFailed, match="attenuation of group 1"):
        check_results(changed.encode(), changed.analysis, changed.inputs)


def test_inputs_of_two_patients_are_refused() -> None:
    case, results = known("mr")
    mixed = dict(case.inputs)
    mixed["t1"] = [copy.deepcopy(ds) for ds in mixed["t1"]]
    mixed["t1"][3].PatientID = "T-2"
    with pytest.raises(ResultCheckFailed, match="originals of one patient"):
        check_results(results, case.analysis, mixed)


def test_reference_that_was_no_input_is_refused() -> None:
    case, results = known("ct")
    with pytest.raises(ResultCheckFailed, match="were no input"):
        check_results(results, case.analysis, {"ct": make_slices(series="another")})


def only(results: Sequence[EncodedResult], *kinds: ResultKind) -> list[EncodedResult]:
    return [result for result in results if result.kind in kinds]


def test_missing_or_doubled_results_are_refused() -> None:
    case, results = known("ct")
    doubled = [*results, *only(results, SR)]
    for some in (only(results, SEG), only(results, SR), only(results, SC), [], doubled):
        with pytest.raises(ResultCheckFailed):
            check_results(some, case.analysis, case.inputs)


def test_seg_beside_nothing_found_is_refused() -> None:
    case, results = known("ct")
    nothing = replace(case.analysis, findings=(), mask=None)
    with pytest.raises(ResultCheckFailed, match="1 SEG, 0 expected"):
        check_results(results, nothing, case.inputs)


@pytest.mark.parametrize("kind", [SEG, SR, SC])
def test_cut_and_foreign_bytes_are_refused(kind: ResultKind) -> None:
    case, results = known("ct")
    whole = only(results, kind)[0].content
    for content in (b"", b"no DICOM at all" * 20, whole[:140], whole[:1000], whole[: len(whole) // 2], whole[:-2]):
        broken = [replace(one, content=content) if one.kind is kind else one for one in results]
        with pytest.raises(ResultCheckFailed):
            check_results(broken, case.analysis, case.inputs)


def test_label_that_the_analysis_does_not_have_is_refused() -> None:
    case = xray_case(Presence.ABSENT)
    results = case.encode()
    renamed = replace(case.analysis.findings[0], label="Effusion")
    with pytest.raises(ResultCheckFailed, match="Effusion"):
        check_results(results, replace(case.analysis, findings=(renamed,)), case.inputs)


def test_complaints_name_no_patient_value() -> None:
    case, results = known("ct")
    damaged = [rewrite(result, put("PatientName", "Canary^Bird")) for result in results]
    with pytest.raises(ResultCheckFailed) as caught:
        check_results(damaged, case.analysis, case.inputs)
    assert "Canary" not in str(caught.value)
    assert str(case.inputs["ct"][0].PatientName) not in str(caught.value)
