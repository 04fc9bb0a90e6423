"""What rules say in vain is told, and nothing that some Study could meet."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.decision import Outcome
from node.rules.evaluate import evaluate
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.rules.scrutiny import Fault, scrutinize
from tests.shipped import PIPELINES, Needs, shipped_rules
from tests.studies import chest_ct_series, make_series, make_study

DESTINATIONS = ("pacs", "archive")


def rules_of(*tables: dict[str, Any]) -> tuple[Rule, ...]:
    pipelines = {**PIPELINES, "fusion": Needs("first", "second")}
    named = [{"name": f"R{number}", **table} for number, table in enumerate(tables, start=1)]
    return parse_rules(
        [table if "forward" in table else {"run": ["lung_nodules"], **table} for table in named],
        pipelines=pipelines,
        destinations=DESTINATIONS,
    )


def told(*tables: dict[str, Any]) -> list[tuple[str, Fault]]:
    return [(remark.rule, remark.fault) for remark in scrutinize(rules_of(*tables))]


CT = {"when": {"modality": "CT"}}


def test_nothing_is_told_of_the_rules_that_are_shipped() -> None:
    assert scrutinize(tuple(shipped_rules().values())) == ()


@pytest.mark.parametrize(
    "when",
    [
        {"modality": "CT", "all": [{"modality": "MR"}]},
        {"slice_spacing": "< 1 mm", "all": [{"slice_spacing": "> 3 mm"}]},
        {"slice_spacing": "< 2 mm", "all": [{"slice_spacing": ">= 2.5 mm"}]},
        {"contrast": "present", "all": [{"contrast": "absent"}]},
        {"kernel": "absent", "all": [{"kernel": "lung"}]},
        {"sex": "F", "all": [{"all": [{"sex": ["M", "O"]}, {"age": "> 3 years"}]}]},
        {"sop_class": "X-Ray Radiation Dose SR Storage"},
        {"sop_class": "Secondary Capture Image Storage"},
    ],
)
def test_what_never_holds_is_told(when: dict[str, Any]) -> None:
    assert told({"when": when}) == [("R1", Fault.IMPOSSIBLE)]


@pytest.mark.parametrize(
    "when",
    [
        {"modality": ["CT", "MR"], "all": [{"modality": "MR"}]},
        {"slice_spacing": "<= 3 mm", "all": [{"slice_spacing": ">= 3 mm"}]},
        {"image_type": "ORIGINAL", "all": [{"image_type": "AXIAL"}]},
        {"body_part": "CHEST", "all": [{"body_part": "ABDOMEN"}]},
        {"body_part": ["CHEST", "absent"], "all": [{"body_part": "absent"}]},
        {"any": [{"modality": "CT"}, {"modality": "MR"}], "modality": "MR"},
        {"modality": "CT", "study_has": {"modality": "PT"}},
    ],
)
def test_what_may_hold_is_not_told(when: dict[str, Any]) -> None:
    assert told({"when": when}) == []


def test_dose_reports_may_be_forwarded() -> None:
    assert told({"when": {"sop_class": "X-Ray Radiation Dose SR Storage"}, "forward": ["archive"]}) == []


def test_an_input_that_contradicts_when_is_told() -> None:
    inputs = {"ct": [{"modality": "MR"}, {"slice_spacing": "< 2 mm"}]}
    (remark,) = scrutinize(rules_of({**CT, "inputs": inputs}))
    assert (remark.fault, remark.text.split(":")[0]) == (Fault.IMPOSSIBLE, "inputs.ct, alternative 1")


def test_an_alternative_behind_a_wider_one_is_told() -> None:
    inputs = {"ct": [{"slice_spacing": "< 3 mm"}, {"slice_spacing": "<= 2 mm", "kernel": "lung"}]}
    (remark,) = scrutinize(rules_of({**CT, "inputs": inputs}))
    assert remark.fault is Fault.UNREACHABLE
    assert told({**CT, "inputs": {"ct": inputs["ct"][::-1]}}) == []


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (CT, {"when": {"modality": "CT", "body_part": "CHEST"}}),
        ({"when": {"modality": ["CT", "MR"]}}, CT),
        ({"when": {"body_part": "CHEST"}}, {"when": {"body_part": "Thorax"}}),
        ({"when": {"slice_spacing": "<= 3 mm"}}, {"when": {"slice_spacing": "1 .. 3 mm"}}),
        ({"when": {"any": [{"modality": "CT"}, {"modality": "MR"}]}}, CT),
        (
            {"when": {"contrast": "present", "modality": "CT"}},
            {**CT, "when": {"modality": "CT", "contrast": "present"}},
        ),
        ({**CT, "priority": "high"}, {**CT, "priority": "low", "deliver_to": ["pacs"]}),
    ],
)
def test_a_rule_behind_a_wider_one_is_told(wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    assert told(wide, narrow) == [("R2", Fault.SHADOWED)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CT, {**CT, "priority": "stat"}),
        ({**CT, "deliver_to": ["pacs"]}, CT),
        (CT, {**CT, "forward": ["archive"]}),
        (CT, {**CT, "inputs": {"ct": {"slice_spacing": "< 2 mm"}}}),
        ({"when": {"slice_spacing": "< 3 mm"}}, {"when": {"slice_spacing": "<= 3 mm"}}),
        ({"when": {"modality": "CT", "not": {"kernel": "bone"}}}, CT),
    ],
)
def test_a_rule_that_adds_something_is_not_told(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert told(first, second) == []


bounds = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "="]), st.integers(1, 4)).map(lambda b: f"{b[0]} {b[1]} mm")
questions = st.one_of(
    bounds.map(lambda text: {"slice_spacing": text}),
    st.sampled_from(["CT", "MR", "present", "absent"]).map(lambda word: {"modality": word}),
    st.sampled_from(["CHEST", "Thorax", "ABDOMEN", "absent"]).map(lambda word: {"body_part": word}),
    st.sampled_from([["ORIGINAL"], ["ORIGINAL", "AXIAL"]]).map(lambda words: {"image_type": words}),
)
whens = st.lists(questions, min_size=1, max_size=3).map(lambda found: {"all": found})
SERIES = tuple(
    chest_ct_series(number, spacing_mm=float(spacing), Modality=modality, BodyPartExamined=part)
    for number, (spacing, modality, part) in enumerate(
        [(1, "CT", "CHEST"), (2, "MR", "Thorax"), (3, "CT", None), (4, None, "ABDOMEN"), (2, "CT", "ABDOMEN")], start=1
    )
)


@given(whens, whens)
def test_no_study_contradicts_a_remark(first: dict[str, Any], second: dict[str, Any]) -> None:
    rules = rules_of({"when": first}, {"when": second})
    faults = {(remark.rule, remark.fault) for remark in scrutinize(rules)}
    for series in (*SERIES, make_series(9)):
        outcomes = [evaluate(rule, make_study(series)).outcome for rule in rules]
        for rule, outcome in zip(rules, outcomes, strict=True):
            assert (rule.name, Fault.IMPOSSIBLE) not in faults or outcome is not Outcome.MATCH
        if ("R2", Fault.SHADOWED) in faults and outcomes[1] is Outcome.MATCH:
            assert outcomes[0] is Outcome.MATCH
