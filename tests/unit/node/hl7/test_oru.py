"""An answer as ORU^R01: right by the library's own rules, the same each time, and it says unverified."""

from dataclasses import replace

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from node.domain.answer import Answer, AnswerState, ToldFinding
from node.domain.job import Priority
from node.hl7.oru import Parties, write_report
from node.hl7.reader import read_message
from tests.answers import NO_PNEUMONIA, NODULE_1, NODULE_2, PATIENT, SIZES, make_answer, taken_back
from tests.mllp_receiver import control_id, fields

PARTIES = Parties(sender="RADNODE", application="RIS|1", facility="HOSP")


def written(answer: Answer) -> str:
    return write_report(answer, PARTIES).encoded.decode()


def observations(message: str) -> list[list[str]]:
    lines = [line.split("|") for line in message.split("\r") if line.startswith("OBX")]
    return [line + [""] * (19 - len(line)) for line in lines]


@pytest.mark.parametrize(
    "answer",
    [
        make_answer(NODULE_1, NO_PNEUMONIA),
        make_answer(attributes={}, orders=()),
        taken_back(),
    ],
    ids=["findings", "nothing known", "taken back"],
)
def test_the_library_accepts_the_message(answer: Answer) -> None:
    parsed = parse_message(
        written(answer), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True, force_validation=True
    )
    assert parsed.validate()


def test_no_sign_of_the_message_is_left_in_what_it_says() -> None:
    name = "O|M^N&i~c\\k\x0b\x1c\rOBX|9"
    message = written(make_answer(NODULE_1, attributes={**PATIENT, "PatientName": name}))
    assert not set("\x0b\x1c\n") & set(message)
    read = read_message(message.encode())
    assert [segment.name for segment in read.segments][:7] == ["MSH", "PID", "ORC", "OBR", "NTE", "TQ1", "OBX"]
    patient = read.first("PID")
    assert patient is not None
    assert (patient.text(3, 1), patient.text(3, 4), patient.text(5, 1)) == ("47|11", "HOSP", "O|M")
    assert patient.text(5, 2) == "N&i~c\\k   OBX|9"
    assert read.header.text(5) == "RIS|1"


def test_a_name_has_each_of_its_writings() -> None:
    read = read_message(write_report(make_answer(), PARTIES).encoded)
    patient = read.first("PID")
    assert patient is not None
    latin, ideographic = patient.repetitions(5)
    assert latin == ["Müller", "Jürg", "A", "", "Dr", "", "L", "A"]
    assert (ideographic[0], ideographic[7]) == ("山田", "I")
    assert read.header.text(18) == "UNICODE UTF-8"


def test_the_numbers_of_the_order_come_back() -> None:
    message = written(make_answer(NODULE_1))
    assert fields(message, "ORC")[1:4] == ["RE", "PL1", "FI1"]
    request = fields(message, "OBR")
    assert (request[2], request[3], request[18]) == ("PL1", "FI1", "A\\T\\1")
    assert request[4] == "lung_nodules^lung nodules^99RADNODE"
    assert (request[7], request[22], request[44]) == ("20250114115900", "20250114120009+0000", "24627-2^^LN")


def test_without_an_order_the_accession_number_is_the_filler_order_number() -> None:
    message = written(make_answer(orders=()))
    assert fields(message, "OBR")[2:4] == ["", "A\\T\\1"]
    own = fields(written(make_answer(orders=(), attributes={})), "OBR")[3]
    assert own.endswith("^RADNODE")
    assert own == fields(written(make_answer(NODULE_1, orders=(), attributes={})), "OBR")[3]


def test_findings_are_coded_and_measured() -> None:
    told = [row for row in observations(written(make_answer(NODULE_1, NO_PNEUMONIA))) if row[4]]
    by_place = {place: [row for row in told if row[4] == place] for place in ("1", "2")}
    assert by_place["1"][0][2:6] == ["CWE", "27925004^Nodule^SCT", "1", "121053^Present^DCM"]
    assert by_place["1"][0][8] == "A"
    assert by_place["2"][0][2:6] == ["CWE", "233604007^Pneumonia^SCT", "2", "121054^Absent^DCM"]
    assert by_place["2"][0][8] == ""
    sizes = {row[3].split("^")[0]: (row[5], row[6].split("^")[0]) for row in by_place["1"] if row[2] == "NM"}
    assert sizes["103339001"] == (f"{SIZES['long_axis_mm']:g}", "mm")
    assert sizes["118565006"] == ("214", "mm3")
    assert sizes["111012"] == ("97", "%")
    assert {row[11] for row in told} == {"P"}


def test_it_says_that_nobody_has_verified_it_and_what_it_comes_to() -> None:
    message = written(make_answer(NODULE_1, NO_PNEUMONIA))
    assert fields(message, "NTE")[3] == "AI result, not verified by a physician. Not for diagnosis."
    assert fields(message, "OBR")[25] == "P"
    summary = next(row for row in observations(message) if row[2] == "TX")
    assert summary[5] == "lung_nodules: Nodule 1.\\.br\\Line 1. Line 2 \\F\\ more."
    assert observations(message)[0][5] == "1.2.3"


@pytest.mark.parametrize(
    ("priority", "urgency"), [(Priority.STAT, "S"), (Priority.HIGH, "A"), (Priority.ROUTINE, "R"), (Priority.LOW, "R")]
)
def test_it_says_how_urgent_the_study_is(priority: Priority, urgency: str) -> None:
    made = make_answer(NODULE_1)
    message = written(replace(made, job=replace(made.job, order=replace(made.job.order, priority=priority))))
    assert fields(message, "OBR")[27] == f"^^^^^{urgency}"
    assert fields(message, "TQ1")[9].split("^")[0] == urgency


def test_what_a_rule_raised_is_very_abnormal() -> None:
    flags = [row[8] for row in observations(written(make_answer(NODULE_1, NO_PNEUMONIA, is_urged=True))) if row[8]]
    assert flags == ["AA"]


def test_what_was_taken_back_is_deleted_and_what_was_misplaced_is_wrong() -> None:
    message = written(taken_back())
    assert fields(message, "OBR")[25] == "C"
    assert {row[11] for row in observations(message)} == {"D"}
    assert not any(row[8] for row in observations(message))
    misplaced = written(replace(taken_back(), state=AnswerState.MISPLACED))
    assert {row[11] for row in observations(misplaced)} == {"W"}


def test_of_a_corrected_answer_single_findings_are_deleted_in_their_place() -> None:
    gone = (ToldFinding(place=1, finding=NODULE_1),)
    stands = (ToldFinding(place=2, finding=NODULE_2),)
    message = written(make_answer(state=AnswerState.CORRECTED, findings=stands, withdrawn=gone))
    assert {(row[4], row[11]) for row in observations(message)} == {("", "C"), ("1", "D"), ("2", "C")}
    assert fields(message, "OBR")[25] == "C"


def test_the_same_answer_is_the_same_message_and_another_is_another() -> None:
    assert written(make_answer(NODULE_1)) == written(make_answer(NODULE_1))
    ids = {control_id(written(one)) for one in (make_answer(NODULE_1), make_answer(NODULE_2), taken_back())}
    assert len(ids) == 3
    assert all(len(one) == 20 for one in ids)


def test_a_damaged_name_keeps_no_report_from_leaving() -> None:
    assert "PID|1||4711^^^HOSP^MR||M?ller^" in written(
        make_answer(attributes={"PatientID": "4711", "PatientName": "M\udcfcller^J"})
    )


def test_a_sentence_of_many_findings_is_not_cut() -> None:
    many = [replace(NODULE_2, label=f"Nodule {number}") for number in range(60)]
    summary = next(row for row in observations(written(make_answer(*many))) if row[2] == "TX")
    assert "Nodule 59." in summary[5]
