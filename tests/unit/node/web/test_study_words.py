"""What the page of a Study says: seconds by stage, why a rule decided so, findings in words, places of slices."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from node.domain.codes import LEFT, LUNG, NODULE, PNEUMONIA, RIGHT
from node.domain.decision import Clause, Decision, Outcome
from node.domain.finding import Finding, Presence
from node.domain.uids import SeriesUID
from node.errors import PixelsUndecodable
from node.ledger.closeups import Arrival, CloseupLedger, Slice
from node.ledger.standings import Standing, StandingLedger
from node.ledger.views import StudyStory
from node.ledger.worklist import Mark, Place
from node.rules.evaluate import evaluate
from node.web.console.answers import describe_findings, list_findings, tell_answer
from node.web.console.slices import Stack, choose_window, describe
from node.web.console.telling import tell_findings, tell_state
from node.web.console.timeline import TimeLine, draw_time_line, settled_before
from node.web.console.why import explain
from node.web.look import Window
from node.wording import calendar_date, patient_age, person_name, seconds_words, size_words, span
from tests.ledgers import STUDY, Books, at, make_facts, make_order, make_outcome, make_result
from tests.shipped import shipped_rules
from tests.studies import chest_ct_series, make_study

PLANE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def test_a_study_that_stayed_incomplete_is_not_told_to_lack_a_rule(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.studies.refuse_study(STUDY, reason="held 60 of 120 by C-FIND at pacs, at the maximum age", now=at(9))
    place = Place(mark=Mark(priority=0, opened_at=at(0), place_id=1), study_instance_uid=STUDY, modalities=("CT",))
    (standing,) = StandingLedger(books.engine).describe([place])
    assert tell_state(standing).words == "Refused"
    assert tell_state(standing).why.startswith("held 60 of 120 by C-FIND at pacs")
    assert tell_findings(standing).words == "No result: the Study stayed incomplete"


def standing_of(books: Books) -> Standing:
    place = Place(mark=Mark(priority=0, opened_at=at(0), place_id=1), study_instance_uid=STUDY, modalities=("CT",))
    (standing,) = StandingLedger(books.engine).describe([place])
    return standing


def answer(books: Books, *findings: Finding, pipeline: str = "lung_nodules", number: int = 1) -> None:
    """Let a Pipeline answer the Study."""
    if number == 1:
        books.instances.record_instance(make_facts())
    else:
        books.interventions.reprocess(STUDY, ordered_by="reader", now=at(number))
    books.route(make_order(pipeline=pipeline), now=at(number))
    (job,) = [one for one in books.view.study_story(STUDY).jobs if one.order.pipeline == pipeline]
    outcome = replace(make_outcome(make_result(job, number=number)), findings=[one.as_json() for one in findings])
    books.jobs.finish_job(books.claim(job, now=at(number)), outcome, now=at(number))


UNDECIDED = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.UNDETERMINED, site=LUNG)


def test_what_stays_undetermined_is_not_told_as_no_findings(books: Books) -> None:
    answer(books, UNDECIDED, pipeline="chest_xray")
    said = tell_findings(standing_of(books))
    assert (said.words, said.second, said.has_findings) == (
        "Pneumonia undetermined",
        "AI, unverified · chest_xray",
        False,
    )
    answer(books, nodule(5.0), number=2)
    said = tell_findings(standing_of(books))
    assert (said.words, said.second) == ("Nodule 5.0 mm", "AI, unverified; undetermined: Pneumonia")


def test_findings_that_were_given_up_are_not_told_as_no_findings(books: Books) -> None:
    answer(books, nodule(17.5))
    books.give_up(now=at(9))
    books.instances.record_instance(make_facts(received_at=at(10)))
    books.route(make_order(), now=at(11))
    said = tell_findings(standing_of(books))
    assert (said.words, said.second) == (
        "Answered before; its findings were given up here, see the PACS",
        "lung_nodules",
    )
    answer(books, pipeline="chest_xray", number=12)
    assert tell_findings(standing_of(books)).words.startswith("Answered before")
    answer(books, UNDECIDED, pipeline="lung_lobes", number=13)
    assert "given up here: lung_nodules" in tell_findings(standing_of(books)).second


def draw(books: Books) -> TimeLine:
    story: StudyStory = books.view.study_story(STUDY)
    job = story.jobs[-1] if story.jobs else None
    arrival: Arrival = CloseupLedger(books.engine).arrival_of(STUDY, before=settled_before(story, job))
    return draw_time_line(story, arrival, job, now=at(100))


def run(books: Books) -> None:
    """Receive from 0 to 12 s, settle at 15, route at 16, start at 18, answer at 20, all sent at 23, held at 25."""
    for number, seconds in ((1, 0.0), (2, 12.0)):
        books.instances.record_instance(make_facts(number, received_at=at(seconds)))
    books.settle(now=at(15))
    facts = books.studies.study_facts(STUDY)
    books.studies.record_routing(facts, decisions=(), orders=(make_order(),), forwards=(), now=at(16))
    job = books.claim(books.only_job(), now=at(18))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(20))


def send(books: Books) -> None:
    (delivery,) = books.view.study_story(STUDY).deliveries
    books.deliveries.record_sent(delivery, now=at(23), reason_code=None, reason_text=None)


def test_seconds_by_stage_are_those_of_the_ledger_s_stamps(books: Books) -> None:
    run(books)
    send(books)
    line = draw(books)
    told = {span.name: round(span.seconds, 3) for span in line.spans}
    assert told == {
        "Receive": 12.0,
        "Settle": 3.0,
        "Route": 1.0,
        "Queue": 2.0,
        "Load, record": 1.4,
        "Prepare": 0.1,
        "Infer": 0.2,
        "Encode": 0.3,
        "Send": 3.0,
    }
    assert (line.headline, line.seconds, line.ended_as) == ("11.0 s from last slice to result", 23.0, "sent")
    assert [span.is_wait for span in line.spans[:4]] == [False, True, False, True]
    assert sum(span.width for span in line.spans) == pytest.approx(1000, abs=1)
    assert line.spans[0].evidence == "2 Instances, 1 Association"


def test_the_parts_of_a_stage_are_told_beside_it(books: Books) -> None:
    job = books.claim(books.add_job(), now=at(18))
    spent = {"prepare.read": 0.5, "infer": 0.2, "infer.network": 1.0, "infer.measure": 0.01}
    books.jobs.finish_job(job, replace(make_outcome(make_result(job)), seconds=spent), now=at(20))
    told = {span.name: (round(span.seconds, 3), span.evidence) for span in draw(books).spans}
    assert told["Prepare"] == (0.5, "read 0.5 s")
    assert told["Infer"] == (1.21, "lung_nodules 1.0.0, attempt 1; network 1.0 s, other 0.2 s")


def test_a_result_that_nobody_has_yet_counts_from_when_it_was_written(books: Books) -> None:
    run(books)
    assert (draw(books).headline, draw(books).ended_as) == ("8.0 s from last slice to result", "completed")


def test_a_study_that_waits_tells_for_how_long(books: Books) -> None:
    books.add_job()
    assert draw(books).headline == "No result yet, 100.0 s after last slice"


def test_an_answer_from_before_its_instances_came_is_told_so(books: Books) -> None:
    """After a loss of the ledger, the answer is restored before its Instances are taken in anew."""
    run(books)
    story = books.view.study_story(STUDY)
    (job,) = story.jobs
    restored = replace(story.events[0], at=at(140), kind="job-restored", job_id=job.job_id)
    opened = replace(story.events[0], at=at(147))
    anew = replace(story, first_instance_at=at(147), events=(restored, opened))
    arrival = Arrival(instances=2, associations=1, last_at=at(147))
    line = draw_time_line(anew, arrival, job, now=at(200))
    assert line.headline == f"Answered on {at(20):%Y-%m-%d}, before these Instances came"
    assert line.seconds >= 0


def test_a_study_without_a_job_ends_with_its_rules(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.settle(now=at(3))
    books.studies.record_routing(books.studies.study_facts(STUDY), decisions=(), orders=(), forwards=(), now=at(4))
    line = draw(books)
    assert (line.headline, [span.name for span in line.spans]) == ("Nothing was run", ["Receive", "Settle", "Route"])


def test_reprocessing_begins_a_time_line_of_its_own(books: Books) -> None:
    run(books)
    books.interventions.reprocess(STUDY, ordered_by="reader", now=at(50))
    facts = books.studies.study_facts(STUDY)
    books.studies.record_routing(facts, decisions=(), orders=(make_order(version="2"),), forwards=(), now=at(51))
    line = draw(books)
    assert (line.start, line.spans[0].name) == ("reprocessing", "Route")
    assert line.headline == "No result yet, 50.0 s after reprocessing"


def test_the_deciding_clause_is_marked_and_what_comes_after_it_was_not_asked() -> None:
    rule = shipped_rules()["lung_nodules"]
    decision = evaluate(rule, make_study(chest_ct_series(count=2)))
    clauses = [part.text for part in rule.when.parts]
    (why,) = explain([decision], lambda _name: clauses)
    (series,) = why.series
    tops = [row for row in series.rows if row.depth == 0]
    deciding = next(number for number, row in enumerate(tops) if row.decides)
    assert (tops[deciding].text, tops[deciding].found) == (decision.clause, decision.found)
    assert [row.text for row in tops] == clauses
    assert all(row.outcome is None for row in tops[deciding + 1 :])
    assert all(row.outcome is not None for row in tops[: deciding + 1])
    (edited,) = explain([decision], lambda _name: ["another rule by now"])
    assert all(row.outcome is not None for row in edited.series[0].rows)


def test_matches_stand_before_what_could_not_be_decided_and_excluded_series_say_why() -> None:
    first = Clause(
        text="may feed a pipeline", outcome=Outcome.MATCH, found="Series 3", series_instance_uid=SeriesUID("1")
    )
    gone = replace(first, text="a localizer never feeds a pipeline", outcome=Outcome.NO_MATCH, found="Series 1")
    inner = replace(first, text="any \u203a modality = CT", found="CT")
    choice = replace(first, text="input ct", found="Series 3, the only one that fits")
    trace = (replace(gone, series_instance_uid=SeriesUID("2")), first, inner, choice)
    of: dict[str, Any] = {"study_instance_uid": STUDY, "clause": "", "found": "", "reason": "", "inputs": {}}
    decisions = [
        Decision(rule="no", outcome=Outcome.NO_MATCH, trace=(), **of),
        Decision(rule="unclear", outcome=Outcome.UNDETERMINED, trace=(), **of),
        Decision(rule="yes", outcome=Outcome.MATCH, trace=trace, **of),
    ]
    whys = explain(decisions, lambda _name: ())
    assert [why.decision.rule for why in whys] == ["yes", "unclear", "no"]
    excluded, used = whys[0].series
    assert (excluded.name, excluded.excluded) == ("Series 1", "a localizer never feeds a pipeline")
    assert [(row.text, row.depth) for row in used.rows] == [("modality = CT", 1)]
    assert [row.found for row in whys[0].inputs] == ["Series 3, the only one that fits"]


def nodule(long_axis_mm: float, **changes: Any) -> Finding:
    sizes = MappingProxyType({"long_axis_mm": long_axis_mm, "mean_hu": -116.04})
    return Finding(**{"label": "Nodule 1", "code": NODULE, "measurements": sizes, "confidence": 0.987, **changes})


def test_findings_are_told_in_words_with_units() -> None:
    findings = (nodule(5.0, site=LUNG, laterality=LEFT), nodule(8.44, site=LUNG, laterality=RIGHT))
    entries = [one.as_json() for one in findings]
    assert tell_answer(entries) == "2 lung nodules, largest 8.4 mm right"
    assert tell_answer(entries[:1]) == "Lung nodule 5.0 mm left"
    assert tell_answer(()) == "No findings"
    assert tell_answer([UNDECIDED.as_json()]) == "Pneumonia undetermined"
    line = list_findings(findings, {})[1]
    assert line.measures == (("Long axis", "8.4 mm"), ("Mean", "\u2212116 HU"), ("Certainty", "99 %"))
    assert (line.name, line.key, line.long_axis, line.short_axis) == ("Right lung", 2, "8.4", "")


def test_no_finding_is_never_told_as_no_result_and_no_model_is_certain() -> None:
    film = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.ABSENT, confidence=0.02, site=LUNG)
    assert tell_answer([film.as_json()]) == "Pneumonia not seen"
    for confidence, words in ((0.91, "91 %"), (0.996, "> 99 %"), (1.0, "> 99 %"), (0.001, "< 1 %")):
        entry = replace(film, presence=Presence.PRESENT, confidence=confidence).as_json()
        assert tell_answer([entry]) == f"Pneumonia {words}, lung"


def test_two_kinds_of_findings_are_told_and_the_rest_is_counted() -> None:
    kinds: list[dict[str, Any]] = [
        {"label": "Tumor", "measurements": {"volume_mm3": 31_200.0}, "laterality": LEFT.as_json()},
        {"label": "FLAIR abnormality", "measurements": {"volume_mm3": 900.4}, "site": LUNG.as_json()},
        {"label": "Effusion", "confidence": 0.79},
    ]
    assert tell_answer(kinds) == "Tumor 31.2 cm³ left; FLAIR abnormality 900 mm³, lung; 1 more"
    # What has a number is one of many; a worklist and a page have the same words.
    assert tell_answer([{"label": "Bleed 1"}, {"label": "Bleed 2"}]) == describe_findings(
        [{"label": "Bleed 1"}, {"label": "Bleed 2"}]
    )


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("063Y", "63 y"), ("001M", "1 month"), ("002W", "2 weeks"), ("001D", "1 day"), ("²²²Y", ""), ("٣٣٣Y", ""),
        ("Y", ""), ("-63Y", ""), ("9999Y", ""), ("", ""),
    ],
)  # fmt: skip
def test_an_age_is_told_as_it_was_sent_and_of_anything_else_nothing(sent: str, words: str) -> None:
    assert patient_age(sent) == words
    assert patient_age("²²²Y", birth="20000102", study="20310101") == "30 y"
    assert patient_age(sent, birth="²0000102", study="20310101") == words


def test_one_day_is_one_day() -> None:
    assert [span(seconds) for seconds in (86_400, 100_000, 172_800, 60)] == ["1 day", "1 day", "2 days", "1 min"]


def make_slice(number: int, **changes: Any) -> Slice:
    values: dict[str, Any] = {
        "sop_instance_uid": f"1.{number}", "digest": "d", "number": number, "rows": 4, "columns": 8, "frames": 1,
        "position_mm": (0.0, 0.0, 2.0 * number), "orientation": PLANE, "spacing_mm": (1.0, 0.5),
        "attributes": {"Modality": "CT", "SeriesNumber": 3, "SeriesDescription": "Lung"},
    }  # fmt: skip
    return Slice(**{**values, **changes})


def make_stack(**changes: Any) -> Stack:
    slices = tuple(make_slice(number, **changes) for number in range(3))
    return Stack(series_instance_uid="1", slices=slices, start=1, window=choose_window(slices[0]))


def make_contours(*, rows: int = 4, **changes: Any) -> dict[str, Any]:
    """Return a SEG on the slices 1 and 2; `changes` are those of its Frames."""
    square = [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]
    small = [[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]]
    plane = {"orientation": list(PLANE), "spacing_mm": [1.0, 0.5]}
    frames = [
        {
            "sop_instance_uid": f"1.{number}",
            "frame": 1,
            "position_mm": [0.0, 0.0, 2.0 * number],
            "outlines": {"1": [outline]},
            **plane,
            **changes,
        }
        for number, outline in ((1, small), (2, square))
    ]
    return {"rows": rows, "columns": 8, "segments": [], "frames": frames}


def test_outlines_stand_with_their_slices_and_the_largest_is_jumped_to() -> None:
    told = describe("9", make_stack(), make_contours(), {1: 2})
    assert [entry["number"] for entry in told["slices"]] == [0, 1, 2]
    assert (told["keys"], sorted(told["outlines"]), told["ratio"]) == ({2: 2}, [1, 2], 1.0)
    assert told["outlines"][1][0]["finding"] == 2
    assert (told["name"], told["sides"], told["window"]) == ("Series 3 · Lung", ("R", "L"), "L \u2212400 W 1400")
    assert told["slices"][0]["src"].endswith("/studies/9/series/1/instances/1.0/rendered?window=-400,1400,linear")


def test_outlines_stand_with_the_frames_of_one_instance() -> None:
    slices = tuple(make_slice(n, sop_instance_uid="1.9", frames=3, frame=n + 1) for n in range(3))
    contours = make_contours()
    for frame, number in zip(contours["frames"], (2, 3), strict=True):
        frame |= {"sop_instance_uid": "1.9", "frame": number}
    told = describe("9", Stack(series_instance_uid="1", slices=slices, start=1, window=None), contours, {1: 2})
    assert (told["keys"], sorted(told["outlines"])) == ({2: 2}, [1, 2])
    assert [entry["src"].rpartition("/1.9/")[2] for entry in told["slices"]] == [
        f"frames/{number}/rendered" for number in (1, 2, 3)
    ]


def test_a_frame_is_shown_with_its_instance_where_the_series_has_several() -> None:
    first, second = (
        make_slice(2, sop_instance_uid=f"1.{n}", frames=2, frame=2, attributes={"InstanceNumber": n}) for n in (4, 5)
    )
    single = make_slice(7)
    nameless = replace(first, sop_instance_uid="1.6", attributes={})

    def names(*slices: Slice) -> list[Any]:
        return list(Stack(series_instance_uid="1", slices=slices, start=0, window=None).numbers)

    assert names(first, second) == ["4 frame 2", "5 frame 2"]
    assert names(first, single) == ["4 frame 2", 7]
    assert names(replace(first, frame=1, number=1), first) == [1, 2]
    assert names(first, nameless) == ["4 frame 2", "frame 2"]
    nothing: dict[str, Any] = {"rows": 4, "columns": 8, "segments": [], "frames": []}
    told = describe("9", Stack(series_instance_uid="1", slices=(first, single), start=0, window=None), nothing, {})
    assert [entry["number"] for entry in told["slices"]] == ["4 frame 2", 7]


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 8},
        {"spacing_mm": [1.0, 0.6]},
        {"orientation": [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]},
        {"position_mm": [0.0, 0.1, 2.0]},
    ],
)
def test_a_seg_that_lies_elsewhere_is_not_drawn(changes: dict[str, Any]) -> None:
    with pytest.raises(PixelsUndecodable, match="nothing is drawn"):
        describe("9", make_stack(), make_contours(**changes), {1: 1})


def test_sides_are_told_only_where_orientation_says_so() -> None:
    assert make_stack().sides == ("R", "L")
    assert make_stack(orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)).sides == ("L", "R")
    assert make_stack(orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)).sides == ("", "")
    assert make_stack(orientation=()).sides == ("", "")


def test_windows_are_those_of_the_summary_picture() -> None:
    assert choose_window(make_slice(1)) == Window(center=-400, width=1400)
    head = make_slice(1, attributes={"Modality": "CT", "BodyPartExamined": "HEAD"})
    assert choose_window(head) == Window(center=40, width=80)
    assert choose_window(make_slice(1, attributes={"Modality": "MR"})) is None
    assert (make_stack().window_words, make_stack().geometry) == ("L \u2212400 W 1400", "2.0 mm \u00b7 1.000 mm/px")


def test_names_dates_and_figures_read_as_people_write_them() -> None:
    assert person_name("Phantom^Anna^Maria^Dr=\u5c71\u7530") == "Phantom, Dr Anna Maria"
    assert (person_name("Phantom"), person_name("")) == ("Phantom", "none")
    assert (calendar_date("20310409"), calendar_date("2031")) == ("2031-04-09", "2031")
    assert (seconds_words(8.94), seconds_words(3700)) == ("8.9 s", "1 h")
    assert [size_words(one) for one in (9, 1900, 412_000, 5_760_000)] == ["9 bytes", "1.9 kB", "412 kB", "5.8 MB"]
    assert size_words(57_900_000_000_000) == "58 TB"
