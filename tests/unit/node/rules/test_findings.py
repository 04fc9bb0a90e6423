"""What a rule may ask of a Pipeline's findings."""

import pytest

from node.domain.codes import LUNG, NODULE, PNEUMONIA
from node.domain.decision import Outcome
from node.domain.finding import Finding, Presence
from node.domain.job import JobID
from node.domain.steering import Answered
from node.errors import RuleInvalid
from node.rules.findings import parse_result

PIPELINES = ("lungs", "film")


def nodule(number: int, **measurements: float) -> Finding:
    return Finding(label=f"Nodule {number}", code=NODULE, confidence=0.9, site=LUNG, measurements=measurements)


LUNGS = Answered(
    job_id=JobID("a"),
    pipeline="lungs",
    findings=(nodule(1, long_axis_mm=9.0, volume_mm3=1200.0), nodule(2, long_axis_mm=5.0), nodule(3)),
)
FILM = Answered(
    job_id=JobID("b"),
    pipeline="film",
    findings=(Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.ABSENT, confidence=0.1),),
)


@pytest.mark.parametrize(
    ("asked", "outcome", "found"),
    [
        ({"pipeline": "lungs"}, "match", "3 of 3"),
        ({"pipeline": "lungs", "count": "= 3"}, "match", "3 of 3"),
        ({"pipeline": "lungs", "count": "= 0"}, "no-match", "3 of 3"),
        ({"pipeline": "lungs", "finding": "nodule"}, "match", "3 of 3"),
        ({"pipeline": "lungs", "finding": "Nodule 2"}, "match", "1 of 3"),
        ({"pipeline": "lungs", "finding": "SCT:27925004", "site": "lung"}, "match", "3 of 3"),
        ({"pipeline": "lungs", "finding": ["mass", "tumour"]}, "no-match", "0 of 3"),
        ({"pipeline": "lungs", "long_axis": ">= 8 mm"}, "match", "1 of 3, 1 not measured"),
        ({"pipeline": "lungs", "long_axis": ">= 1 cm"}, "undetermined", "0 of 3, 1 not measured"),
        ({"pipeline": "lungs", "volume": "> 1 mL", "count": "<= 3"}, "match", "1 of 3, 2 not measured"),
        ({"pipeline": "lungs", "confidence": ">= 0.95"}, "no-match", "0 of 3"),
        # What was looked for and not seen is no finding, unless it is asked for.
        ({"pipeline": "film", "finding": "pneumonia"}, "no-match", "0 of 0"),
        ({"pipeline": "film", "finding": "pneumonia", "presence": "absent"}, "match", "1 of 1"),
    ],
)  # fmt: skip
def test_findings_are_counted_that_meet_everything(asked: dict[str, object], outcome: str, found: str) -> None:
    test = parse_result(asked, "when.result", PIPELINES)
    assert test.ask((LUNGS, FILM)) == (Outcome(outcome), found)


@pytest.mark.parametrize("count", ["= 0", ">= 1"])
def test_without_an_answer_nothing_holds(count: str) -> None:
    test = parse_result({"pipeline": "lungs", "count": count}, "when.result", PIPELINES)
    assert test.ask((FILM,)) == (Outcome.NO_MATCH, "no answer yet")


def test_the_question_is_told_in_words() -> None:
    asked = {"pipeline": "lungs", "finding": ["nodule", "mass"], "long_axis": ">= 8 mm"}
    text = "lungs found >= 1 finding(s) with finding = nodule or = mass and long_axis >= 8 mm"
    assert parse_result(asked, "when.result", PIPELINES).text == text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("lungs", "when.result must be a table"),
        ({}, "when.result.pipeline: None is no configured pipeline"),
        ({"pipeline": "lung"}, 'did you mean "lungs"'),
        ({"pipeline": "lungs", "size": "> 3 mm"}, "when.result.size is no condition"),
        ({"pipeline": "lungs", "long_axis": "> 3"}, "when.result.long_axis: .*has no unit"),
        ({"pipeline": "lungs", "presence": "maybe"}, "when.result.presence: .*not known"),
        ({"pipeline": "lungs", "count": True}, "when.result.count: True must be"),
        ({"pipeline": "lungs", "finding": []}, "when.result.finding is an empty list"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_key(asked: object, said: str) -> None:
    with pytest.raises(RuleInvalid, match=said):
        parse_result(asked, "when.result", PIPELINES)
