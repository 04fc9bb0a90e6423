"""A report says the worst, says it first, needs no other file, and has a place to sign."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from node.rehearsal.page import MOMENTS_AT_MOST, report_as_page
from node.rehearsal.report import report_as_json
from node.rehearsal.scenario import Check, Moment, NodeIdentity, Outcome, RehearsalReport, Verdict

NOON = datetime(2025, 1, 14, 12, tzinfo=UTC)
GOOD = Check(expected="C-ECHO is answered", seen="after 3 ms", holds=True)
BAD = Check(expected="One SR arrives", seen="two <SR>", holds=False)
ADVICE = Check(expected="The node asks the PACS", seen="it never asks", holds=False, is_required=False)


def outcome(*checks: Check, name: str = "echo", remark: str = "", is_played: bool = True) -> Outcome:
    return Outcome(
        name=name,
        title=f"The {name}",
        story="Somebody asks & waits.",
        began_at=NOON if is_played else None,
        seconds=1.25,
        checks=checks,
        moments=(Moment(after_s=0.5, text="PACS: SR …123456: A700"),),
        remark=remark,
    )


def report(*outcomes: Outcome) -> RehearsalReport:
    identity = NodeIdentity(
        address="RADNODE@192.0.2.7:104",
        implementation_version_name="RADNODE",
        implementation_class_uid="2.25.1",
        product="",
    )
    return RehearsalReport(
        run="20250114-120000",
        by="somebody on a machine",
        node=identity,
        began_at=NOON,
        ended_at=NOON + timedelta(seconds=75),
        facts=(("Patient ID", "REHEARSAL-20250114-120000"),),
        outcomes=outcomes,
    )


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ((GOOD,), Verdict.PASSED),
        ((GOOD, ADVICE), Verdict.LIMITED),
        ((GOOD, ADVICE, BAD), Verdict.FAILED),
        ((), Verdict.FAILED),
    ],
)
def test_a_scenario_is_as_good_as_its_worst_check(checks: tuple[Check, ...], verdict: Verdict) -> None:
    assert outcome(*checks).verdict is verdict


def test_a_scenario_that_ended_before_its_time_has_not_passed() -> None:
    assert outcome(GOOD, remark="ended before its time").verdict is Verdict.FAILED


def test_a_rehearsal_is_as_good_as_its_worst_scenario() -> None:
    passed, limited, failed = outcome(GOOD), outcome(ADVICE), outcome(BAD)
    skipped = outcome(is_played=False)
    assert report(passed, passed).verdict is Verdict.PASSED
    assert report(passed, limited).verdict is Verdict.LIMITED
    assert report(passed, limited, failed).verdict is Verdict.FAILED
    assert report(passed, skipped).verdict is Verdict.FAILED
    assert report().verdict is Verdict.FAILED


def test_the_data_hold_everything_that_is_signed() -> None:
    told = json.loads(json.dumps(report_as_json(report(outcome(GOOD, ADVICE), outcome(BAD, name="late")))))
    assert told["verdict"] == "failed"
    assert told["node"]["address"] == "RADNODE@192.0.2.7:104"
    assert told["began_at"] == "2025-01-14T12:00:00.000+00:00"
    assert [scenario["verdict"] for scenario in told["scenarios"]] == ["limited", "failed"]
    assert told["scenarios"][0]["checks"][1] == {
        "expected": "The node asks the PACS",
        "seen": "it never asks",
        "holds": False,
        "is_required": False,
    }
    assert told["scenarios"][1]["evidence"] == [{"after_s": 0.5, "text": "PACS: SR …123456: A700"}]


def test_the_page_says_the_verdict_first_and_what_failed_before_all_else() -> None:
    page = report_as_page(report(outcome(GOOD), outcome(BAD, name="late")))
    headline = re.search(r"<h1>(.*)</h1>", page)
    assert headline is not None
    assert headline[1] == "RADNODE@192.0.2.7:104 did not pass the rehearsal"
    assert page.index("What failed") < page.index("At a glance") < page.index("Sign-off") < page.index("Expected")
    assert "1 min 15 s" in page


def test_the_page_holds_each_scenario_with_story_expectation_evidence_and_verdict_in_words() -> None:
    page = report_as_page(report(outcome(GOOD), outcome(ADVICE, name="loses"), outcome(is_played=False, name="down")))
    for words in ("Somebody asks &amp; waits.", "C-ECHO is answered", "after 3 ms", "0.5 s", "SR …123456: A700"):
        assert words in page
    for verdict in ("Passed", "With a limitation", "Not played"):
        assert f"{verdict}</span>" in page


def test_what_a_node_says_of_itself_is_text_and_never_markup() -> None:
    said = report(outcome(BAD))
    hostile = replace(said, node=replace(said.node, implementation_version_name="<script>x</script>"))
    page = report_as_page(hostile)
    assert "<script" not in page
    assert "two &lt;SR&gt;" in page


def test_the_page_needs_no_other_file_and_no_network() -> None:
    page = report_as_page(report(outcome(GOOD)))
    assert not re.search(r"""(src|srcset|xlink:href)=|url\(|@import|https?://""", page)
    assert set(re.findall(r'href="([^"]*)"', page)) == {"#echo"}


def test_the_page_has_a_place_for_each_part_of_a_signature() -> None:
    page = report_as_page(report(outcome(GOOD)))
    for words in ("Hospital, department", "Name", "Function", "Place, date", "Signature", "not accepted"):
        assert f">{words}<" in page
    assert "REHEARSAL-20250114-120000: delete it" in page


def test_evidence_beyond_measure_is_left_to_the_data() -> None:
    many = tuple(Moment(after_s=float(number), text=f"line {number}") for number in range(MOMENTS_AT_MOST + 5))
    page = report_as_page(report(replace(outcome(GOOD), moments=many)))
    assert page.count("<span></span>and 5 more") == 1
    assert f"line {MOMENTS_AT_MOST - 1}<" in page
    assert f"line {MOMENTS_AT_MOST}<" not in page
