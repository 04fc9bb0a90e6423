"""Rules on Studies as messy as real ones are."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.decision import Decision, Outcome
from node.domain.study import KEPT_KEYWORDS, StudyFacts
from node.rules.evaluate import evaluate, matching_series
from node.rules.explain import explain, refusal_of
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from tests.shipped import PIPELINES, Needs, shipped_rules
from tests.studies import (
    CORONAL,
    DOSE_REPORT,
    SAGITTAL,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    brain_mr_series,
    chest_ct_series,
    chest_xray_series,
    make_series,
    make_study,
)

SHIPPED = shipped_rules()


def make_rule(**table: Any) -> Rule:
    pipelines = {**PIPELINES, "fusion": Needs("first", "second", optional_roles=("third", "fourth"))}
    (rule,) = parse_rules(
        [{"name": "R", "run": ["lung_nodules"], **table}], pipelines=pipelines, destinations=("pacs",)
    )
    return rule


def numbers(decision: Decision) -> dict[str, int]:
    """Return role to Series Number."""
    return {role: int(uid.rpartition(".")[2]) for role, uid in decision.inputs.items()}


# Each: Series, the Pipeline whose shipped rule is asked, outcome, inputs, and a word that the reason holds.
MESSY: dict[str, tuple[Callable[[], StudyFacts], str, Outcome, dict[str, int], str]] = {
    "scout, axial, coronal reformat and dose report": (
        lambda: make_study(
            chest_ct_series(1, count=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            chest_ct_series(2, spacing_mm=1.0),
            chest_ct_series(3, spacing_mm=0.7, ImageOrientationPatient=list(CORONAL)),
            make_series(99, DOSE_REPORT, count=1, Modality="SR"),
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "thin and thick": (
        lambda: make_study(chest_ct_series(2, spacing_mm=2.5), chest_ct_series(3, spacing_mm=1.0, count=300)),
        "lung_nodules", Outcome.MATCH, {"ct": 3}, "Series 3",
    ),
    "thick only": (
        lambda: make_study(chest_ct_series(2, spacing_mm=5.0)),
        "lung_nodules", Outcome.NO_MATCH, {}, "found: 5 mm",
    ),
    "another body part": (
        lambda: make_study(chest_ct_series(2, BodyPartExamined="ABDOMEN", SeriesDescription="Abdomen pv")),
        "lung_nodules", Outcome.NO_MATCH, {}, "ABDOMEN; Abdomen pv",
    ),
    "body part in a free text": (
        lambda: make_study(
            chest_ct_series(2, BodyPartExamined="TH CT CHEST WO C", SeriesDescription="Thorax  2.0  B31f")
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Thorax 2.0 B31f",
    ),
    "no body part, so that the pipeline says what is wrong": (
        lambda: make_study(
            chest_ct_series(
                9089, count=5, spacing_mm=0.4, BodyPartExamined=None,
                SeriesDescription="SliceTh-0.8_SliceInc-0.4_ReconFilter-C", StudyDescription="Scanner-Philips_Exp-200",
            )
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 9089}, "Series 9089",
    ),
    "Secondary Capture that says CT": (
        lambda: make_study(make_series(1, SECONDARY_CAPTURE, count=2, Modality="CT", BodyPartExamined="CHEST")),
        "lung_nodules", Outcome.NO_MATCH, {}, "Secondary Capture",
    ),
    "Secondary Capture that says DX": (
        lambda: make_study(chest_xray_series(1, SECONDARY_CAPTURE)),
        "chest_xray", Outcome.NO_MATCH, {}, "Secondary Capture",
    ),
    "own Results that came back": (
        lambda: make_study(
            chest_ct_series(2), make_series(9101, SEGMENTATION, count=1, Modality="SEG", is_own_result=True)
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "an own Result alone": (
        lambda: make_study(chest_ct_series(9301, is_own_result=True)),
        "lung_nodules", Outcome.NO_MATCH, {}, "own Result",
    ),
    "four sequences of a brain": (
        lambda: make_study(
            brain_mr_series(
                11, "T1post", ProtocolName="B Ax T1 +C", ContrastBolusAgent="10ml multihance",
                RequestedProcedureDescription="MR RCBV SEQUENCE-FH",
            ),
            brain_mr_series(26401, "T1pre_reg", ProtocolName="B Ax T1"),
            brain_mr_series(36468, "FLAIR_reg", ProtocolName="B Ax Flair(10000 TR)"),
            brain_mr_series(37870, "T2_reg", ProtocolName="B Ax T2"),
            StudyDescription="Mr Rcbv Sequence-Fh",
        ),
        "brain_tumour", Outcome.MATCH, {"flair": 36468, "t1": 26401, "t1c": 11}, "Series 36468",
    ),
    "FLAIR alone": (
        lambda: make_study(brain_mr_series(4, "AX FLAIR")),
        "brain_tumour", Outcome.MATCH, {"flair": 4}, "Series 4",
    ),
    "a brain without FLAIR": (
        lambda: make_study(brain_mr_series(3, "AX T1 pre"), brain_mr_series(5, "AX T2")),
        "brain_tumour", Outcome.NO_MATCH, {}, "input flair",
    ),
    "a FLAIR that does not tell its plane": (
        lambda: make_study(brain_mr_series(4, "AX FLAIR", ImageOrientationPatient=None)),
        "brain_tumour", Outcome.UNDETERMINED, {}, "input flair",
    ),
    "a head that does not say so": (
        lambda: make_study(brain_mr_series(4, "FLAIR", BodyPartExamined=None, SeriesDescription=None)),
        "brain_tumour", Outcome.UNDETERMINED, {}, "nothing is guessed",
    ),
    "PA and lateral": (
        lambda: make_study(chest_xray_series(1, ViewPosition="LL"), chest_xray_series(2)),
        "chest_xray", Outcome.MATCH, {"image": 2}, "Series 2",
    ),
    "a hand": (
        lambda: make_study(chest_xray_series(1, BodyPartExamined="HAND", SeriesDescription="Hand ap")),
        "chest_xray", Outcome.NO_MATCH, {}, "HAND",
    ),
    "bone and soft kernel, thin and thick": (
        lambda: make_study(
            chest_ct_series(2, spacing_mm=1.0, count=300, ConvolutionKernel="Br40"),
            chest_ct_series(3, spacing_mm=1.0, count=300, ConvolutionKernel="Br64"),
            chest_ct_series(4, spacing_mm=3.0, count=100, ConvolutionKernel="Br40"),
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "a thin MIP by its Image Type": (
        lambda: make_study(
            chest_ct_series(2, spacing_mm=1.5),
            chest_ct_series(5, spacing_mm=0.7, ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"]),
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "a MIP alone, by its description": (
        lambda: make_study(chest_ct_series(5, SeriesDescription="Thorax MIP 10/1")),
        "lung_nodules", Outcome.NO_MATCH, {}, "mip",
    ),
    "a derived axial stack beside the original": (
        lambda: make_study(
            chest_ct_series(2, spacing_mm=2.0, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]),
            chest_ct_series(6, spacing_mm=0.6, ImageType=["DERIVED", "SECONDARY", "AXIAL"]),
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "coronal and sagittal reformats alone": (
        lambda: make_study(
            chest_ct_series(3, ImageOrientationPatient=list(CORONAL)),
            chest_ct_series(4, ImageOrientationPatient=list(SAGITTAL)),
        ),
        "lung_nodules", Outcome.NO_MATCH, {}, "orientation = axial",
    ),
    "bolus tracking at one place, then the chest": (
        lambda: make_study(chest_ct_series(2, count=20, spacing_mm=0.0), chest_ct_series(3)),
        "lung_nodules", Outcome.MATCH, {"ct": 3}, "Series 3",
    ),
    "every position twice": (
        lambda: make_study(chest_ct_series(2, count=80, spacing_mm=0.0)),
        "lung_nodules", Outcome.NO_MATCH, {}, "found: 0 mm",
    ),
    "a stack tilted by the gantry": (
        lambda: make_study(chest_ct_series(2, ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 0.8, -0.6])),
        "lung_nodules", Outcome.NO_MATCH, {}, "oblique, tilted by 36.9 deg",
    ),
    "one slice": (
        lambda: make_study(chest_ct_series(2, count=1)),
        "lung_nodules", Outcome.NO_MATCH, {}, "slice_count >= 3",
    ),
    "chest by the code of its region, words in Czech": (
        lambda: make_study(
            chest_ct_series(
                2, BodyPartExamined=None, AnatomicRegionSequence=["SCT:51185008"], SeriesDescription="Hrudnik 1.0"
            )
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "chest, abdomen and pelvis in one, told by its description": (
        lambda: make_study(
            chest_ct_series(2, BodyPartExamined="CHESTABDPELVIS", SeriesDescription="Chest Abd Pelvis 1.0")
        ),
        "lung_nodules", Outcome.MATCH, {"ct": 2}, "Series 2",
    ),
    "an abdomen whose positions are absent": (
        lambda: make_study(chest_ct_series(2, spacing_mm=None)),
        "lung_nodules", Outcome.UNDETERMINED, {}, "slice_spacing",
    ),
    "FLAIR in sagittal and axial, and a diffusion": (
        lambda: make_study(
            brain_mr_series(3, "SAG FLAIR 3D", ImageOrientationPatient=list(SAGITTAL)),
            brain_mr_series(4, "AX FLAIR"),
            brain_mr_series(5, "AX DWI b1000", DiffusionBValue=1000.0),
        ),
        "brain_tumour", Outcome.MATCH, {"flair": 4}, "Series 4",
    ),
    "subtraction beside T1 before and after contrast": (
        lambda: make_study(
            brain_mr_series(3, "AX FLAIR"),
            brain_mr_series(4, "AX T1 pre"),
            brain_mr_series(5, "AX T1 post Gd", ContrastBolusAgent="Gadovist"),
            brain_mr_series(6, "AX T1 SUB", ContrastBolusAgent="Gadovist"),
        ),
        "brain_tumour", Outcome.MATCH, {"flair": 3, "t1": 4, "t1c": 5}, "Series 3",
    ),
    "a lateral chest alone": (
        lambda: make_study(chest_xray_series(1, ViewPosition="LL")),
        "chest_xray", Outcome.MATCH, {"image": 1}, "Series 1",
    ),
    "no Series at all": (
        make_study,
        "lung_nodules", Outcome.NO_MATCH, {}, "holds no Series",
    ),
    "two patients": (
        lambda: make_study(chest_ct_series(2, PatientID="CANARY1"), chest_ct_series(3, PatientID="CANARY2")),
        "lung_nodules", Outcome.UNDETERMINED, {}, "2 different Patient IDs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSY)
def test_messy_study(name: str) -> None:
    make, pipeline, outcome, inputs, word = MESSY[name]
    decision = evaluate(SHIPPED[pipeline], make())
    assert (decision.outcome, numbers(decision)) == (outcome, inputs)
    assert word in decision.reason
    assert "CANARY" not in f"{decision}"


@pytest.mark.parametrize("name", MESSY)
def test_every_study_is_explained_with_its_deciding_clause(name: str) -> None:
    study = MESSY[name][0]()
    for rule in SHIPPED.values():
        decision = evaluate(rule, study)
        lines = explain([decision])
        assert lines[0] == f"{rule.name}: {decision.outcome.value}"
        marked = [line for line in lines if line.startswith(">>")]
        assert len(marked) == 1
        assert decision.clause in marked[0]


def test_the_deciding_clause_is_the_first_that_failed_on_the_series_that_came_furthest() -> None:
    rule = make_rule(when={"modality": "CT", "orientation": "axial", "slice_spacing": "<= 3 mm"})
    study = make_study(
        make_series(1, Modality="MR"),
        chest_ct_series(2, spacing_mm=5.0),
        chest_ct_series(3, ImageOrientationPatient=list(CORONAL)),
    )
    decision = evaluate(rule, study)
    assert (decision.outcome, decision.clause, decision.found) == (Outcome.NO_MATCH, "slice_spacing <= 3 mm", "5 mm")
    assert (
        decision.reason == "Series 2 (Thorax 1.0) came nearest, but does not meet slice_spacing <= 3 mm (found: 5 mm)."
    )


def test_one_undetermined_series_keeps_the_rule_undetermined() -> None:
    rule = make_rule(when={"modality": "CT", "slice_thickness": "<= 3 mm"})
    study = make_study(chest_ct_series(2, SliceThickness=5.0), chest_ct_series(3))
    decision = evaluate(rule, study)
    assert (decision.outcome, decision.clause, decision.found) == (
        Outcome.UNDETERMINED,
        "slice_thickness <= 3 mm",
        "absent",
    )


def test_a_match_goes_before_an_undetermined_series() -> None:
    rule = make_rule(when={"modality": "CT", "slice_thickness": "<= 3 mm"})
    study = make_study(chest_ct_series(2), chest_ct_series(3, SliceThickness=1.0))
    assert numbers(evaluate(rule, study)) == {"ct": 3}


def test_a_localizer_is_named_in_the_trace() -> None:
    study = make_study(chest_ct_series(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), chest_ct_series(2))
    decision = evaluate(SHIPPED["lung_nodules"], study)
    excluded = [clause for clause in decision.trace if clause.text == "a localizer never feeds a pipeline"]
    assert [clause.outcome for clause in excluded] == [Outcome.NO_MATCH]
    assert excluded[0].found == "Series 1 (Thorax 1.0), 40 Instances"


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ({"spacing_mm": 1.0}, {"spacing_mm": 2.0, "count": 400}, "smaller slice spacing"),
        ({"spacing_mm": 2.0}, {"spacing_mm": 0.0}, "smaller slice spacing"),
        ({"count": 60}, {"count": 50}, "more slices"),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"], "spacing_mm": 0.5}, "original where the next is derived"),
    ],
)
def test_the_better_series_is_taken_and_the_trace_says_why(
    better: dict[str, Any], worse: dict[str, Any], why: str
) -> None:
    rule = make_rule(when={"modality": "CT"})
    decision = evaluate(rule, make_study(chest_ct_series(8, **better), chest_ct_series(3, **worse)))
    assert numbers(decision) == {"ct": 8}
    assert why in decision.trace[-1].found


def test_equal_series_are_taken_by_series_number() -> None:
    decision = evaluate(make_rule(when={"modality": "CT"}), make_study(chest_ct_series(8), chest_ct_series(3)))
    assert numbers(decision) == {"ct": 3}
    assert "lower Series Number" in decision.trace[-1].found


FUSION = {"when": {"modality": "CT"}, "run": ["fusion"]}


def test_alternatives_go_before_every_other_preference() -> None:
    wanted = [{"protocol": "best"}, {"protocol": "good"}]
    rule = make_rule(**FUSION, inputs={"first": wanted, "second": {"protocol": "other"}})
    study = make_study(
        chest_ct_series(1, ProtocolName="good", spacing_mm=0.5),
        chest_ct_series(2, ProtocolName="best", spacing_mm=3.0),
        chest_ct_series(3, ProtocolName="other"),
    )
    assert numbers(evaluate(rule, study)) == {"first": 2, "second": 3}


def test_no_series_fills_two_roles_even_if_both_prefer_it() -> None:
    rule = make_rule(**FUSION, inputs={"first": {"protocol": "a|b"}, "second": {"protocol": "a"}})
    study = make_study(chest_ct_series(1, ProtocolName="a", spacing_mm=0.5), chest_ct_series(2, ProtocolName="b"))
    assert numbers(evaluate(rule, study)) == {"first": 2, "second": 1}


def test_a_role_whose_only_series_is_taken_is_missing() -> None:
    rule = make_rule(**FUSION, inputs={"first": {"protocol": "a"}, "second": {"protocol": "a"}})
    decision = evaluate(rule, make_study(chest_ct_series(1, ProtocolName="a")))
    assert (decision.outcome, decision.clause) == (Outcome.NO_MATCH, "input second")
    assert decision.found == "no Series left, already taken as input first"


def test_an_optional_role_never_takes_a_series_from_a_required_one() -> None:
    rule = make_rule(
        **FUSION, inputs={"third": {"protocol": "a"}, "first": {"protocol": "a|b"}, "second": {"protocol": "c"}}
    )
    study = make_study(
        chest_ct_series(1, ProtocolName="a", spacing_mm=0.5),
        chest_ct_series(2, ProtocolName="b"),
        chest_ct_series(3, ProtocolName="c"),
    )
    decision = evaluate(rule, study)
    assert numbers(decision) == {"first": 1, "second": 3}
    assert any(clause.text == "input third" and "optional" in clause.found for clause in decision.trace)


def test_optional_roles_make_room_for_each_other() -> None:
    inputs = {
        "first": {"protocol": "c"},
        "second": {"protocol": "d"},
        "third": {"protocol": "a|b"},
        "fourth": {"protocol": "a"},
    }
    rule = make_rule(**FUSION, inputs=inputs)
    study = make_study(*(chest_ct_series(n, ProtocolName=word) for n, word in enumerate("abcd", start=1)))
    assert numbers(evaluate(rule, study)) == {
        "first": 3,
        "second": 4,
        "third": 2,
        "fourth": 1,
    }


def test_two_pipelines_of_one_role_read_the_same_series() -> None:
    rule = make_rule(when={"modality": "CT"}, run=["lung_nodules", "chest_xray"])
    assert numbers(evaluate(rule, make_study(chest_ct_series(2)))) == {"ct": 2, "image": 2}


def test_a_series_lacks_what_its_study_says_only_in_the_header() -> None:
    rule = make_rule(when={"study_description": "thorax", "age": ">= 18 years"})
    study = make_study(chest_ct_series(2), StudyDescription="CT Thorax", PatientAge="045Y")
    assert evaluate(rule, study).outcome is Outcome.MATCH


def test_a_forwarding_rule_takes_reports_but_never_own_results() -> None:
    rule = make_rule(when={"any": [{"modality": "SR"}, {"modality": "SEG"}]}, run=[], forward=["pacs"])
    study = make_study(
        make_series(98, DOSE_REPORT, count=1, Modality="SR"),
        make_series(9101, SEGMENTATION, count=1, Modality="SEG", is_own_result=True),
    )
    assert evaluate(rule, study).outcome is Outcome.MATCH
    assert matching_series(rule, study) == ("1.2.3.98",)


PET: dict[str, Any] = {"Modality": "PT"}


def test_a_rule_may_ask_for_another_series_of_the_study() -> None:
    rule = make_rule(when={"modality": "CT", "study_has": {"modality": "PT"}})
    alone, beside = make_study(chest_ct_series(2)), make_study(chest_ct_series(2), make_series(3, **PET))
    assert evaluate(rule, alone).outcome is Outcome.NO_MATCH
    assert evaluate(rule, alone).found == "none of 1 Series"
    decision = evaluate(rule, beside)
    assert decision.outcome is Outcome.MATCH
    assert numbers(decision) == {"ct": 2}
    assert "Series 3" in decision.found


def test_a_rule_may_ask_that_the_study_lacks_a_series() -> None:
    rule = make_rule(when={"modality": "CT", "not": {"study_has": {"modality": "PT"}}})
    assert evaluate(rule, make_study(chest_ct_series(2))).outcome is Outcome.MATCH
    assert evaluate(rule, make_study(chest_ct_series(2), make_series(3, **PET))).outcome is Outcome.NO_MATCH


def test_a_series_that_does_not_say_what_it_is_leaves_it_open() -> None:
    rule = make_rule(when={"modality": "CT", "study_has": {"modality": "PT"}})
    decision = evaluate(rule, make_study(chest_ct_series(2), make_series(3)))
    assert decision.outcome is Outcome.UNDETERMINED
    assert "Series 3" in decision.found


def test_own_results_are_not_series_that_a_study_has() -> None:
    rule = make_rule(when={"modality": "CT", "study_has": {"modality": "SEG"}})
    result = make_series(9101, SEGMENTATION, count=1, Modality="SEG", is_own_result=True)
    assert evaluate(rule, make_study(chest_ct_series(2), result)).outcome is Outcome.NO_MATCH


def test_a_role_may_ask_for_another_series_of_the_study() -> None:
    wanted = [{"study_has": {"modality": "PT"}, "slice_spacing": "< 0.8 mm"}, {"modality": "CT"}]
    rule = make_rule(when={"modality": "CT"}, inputs={"ct": wanted})
    thin, thick = chest_ct_series(2, spacing_mm=0.5), chest_ct_series(1, spacing_mm=1.0)
    assert numbers(evaluate(rule, make_study(thick, thin, make_series(3, **PET)))) == {"ct": 2}


def test_series_of_two_sop_classes_are_not_taken_for_one() -> None:
    rule = make_rule(when={"sop_class": "CT Image Storage"})
    two = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")
    assert evaluate(rule, make_study(replace(chest_ct_series(2), sop_class_uids=two))).outcome is Outcome.UNDETERMINED


class TestRefusal:
    def test_a_match_is_no_refusal(self) -> None:
        study = make_study(chest_ct_series(2))
        assert refusal_of([evaluate(rule, study) for rule in SHIPPED.values()]) is None

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("thick only", "no-rule-matched"),
            ("a brain without FLAIR", "input-missing"),
            ("a head that does not say so", "rules-undetermined"),
            ("two patients", "rules-undetermined"),
            ("Secondary Capture that says CT", "no-rule-matched"),
        ],
    )
    def test_the_code_says_what_kind_of_refusal_it_is(self, name: str, code: str) -> None:
        study = MESSY[name][0]()
        refusal = refusal_of([evaluate(rule, study) for rule in SHIPPED.values()])
        assert refusal is not None
        assert refusal["code"] == code
        assert all(rule.name in refusal["text"] for rule in SHIPPED.values())

    def test_without_rules_it_says_so(self) -> None:
        assert refusal_of([]) == {
            "code": "no-rule-matched",
            "text": "There are no rules; add [[rules]] to the settings.",
        }


words = st.text("aT1 +-_/.^\\Äß\u30ac\x00", max_size=12)
anything = st.none() | st.integers() | st.floats() | words | st.lists(st.floats() | words, max_size=7)


@given(st.lists(st.dictionaries(st.sampled_from(KEPT_KEYWORDS), anything, max_size=8), max_size=3))
def test_no_header_stops_a_rule(headers: list[dict[str, Any]]) -> None:
    series = [
        make_series(number, **{**header, "SeriesNumber": float(number)}) for number, header in enumerate(headers, 1)
    ]
    for rule in SHIPPED.values():
        decision = evaluate(rule, make_study(*series))
        assert decision.reason
        assert explain([decision])
