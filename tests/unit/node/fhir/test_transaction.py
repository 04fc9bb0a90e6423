"""An answer as FHIR transaction: told twice it is there once, corrected in its place, and others' resources stay."""

from dataclasses import replace
from typing import Any

import pytest

from node.domain.answer import Answer, AnswerState, ToldFinding
from node.domain.job import Priority
from node.fhir.transaction import build_transaction
from tests.answers import (
    NO_PNEUMONIA,
    NODULE_1,
    NODULE_2,
    PATIENT,
    SEG,
    SR,
    finished_job,
    make_answer,
    results,
    taken_back,
)
from tests.fhir_server import FhirServer

STATUS = "status"


def told(*answers: Answer) -> FhirServer:
    server = FhirServer()
    for answer in answers:
        server.carry_out(build_transaction(answer))
    return server


def whole(**changes: Any) -> Answer:
    written = tuple(results(finished_job(), (SEG, SR), first=10))
    return make_answer(NODULE_1, NO_PNEUMONIA, results=written, **changes)


@pytest.mark.parametrize("answer", [whole(), make_answer(attributes={}, orders=()), taken_back()])
def test_an_answer_that_is_told_twice_is_there_once(answer: Answer) -> None:
    once, twice = told(answer), told(answer, answer)
    assert once.held == twice.held
    assert {kind: len(found) for kind, found in once.held.items() if kind != "Observation"} == {
        "Patient": 1,
        "ImagingStudy": 1,
        "Device": 1,
        "DiagnosticReport": 1,
    }


def test_what_others_know_of_patient_and_study_stays() -> None:
    server = FhirServer()
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:site", "value": "1"}, {"value": "47|11"}]}
    server.held["Patient"] = {"7": patient}
    server.carry_out(build_transaction(whole()))
    assert server.held["Patient"] == {"7": patient}
    (report,) = server.all("DiagnosticReport")
    assert report["subject"]["reference"] == "Patient/7"
    study = {**server.all("ImagingStudy")[0], "description": "of the site"}
    server.held["ImagingStudy"] = {study["id"]: study}
    server.carry_out(build_transaction(taken_back()))
    assert server.all("ImagingStudy") == [study]


def test_the_report_is_preliminary_and_as_urgent_as_the_study() -> None:
    made = whole()
    urgent = replace(made, job=replace(made.job, order=replace(made.job.order, priority=Priority.STAT)), is_urged=True)
    server = told(urgent)
    (report,) = server.all("DiagnosticReport")
    assert (report[STATUS], report["contained"][0]["priority"]) == ("preliminary", "stat")
    assert report["basedOn"][0]["reference"] == "#order"
    assert [one["value"] for one in report["contained"][0]["identifier"]] == ["A&1", "PL1", "FI1"]
    assert "not verified by a physician" in report["conclusion"]
    present, absent = (server.held["Observation"][one["reference"].split("/")[1]] for one in report["result"])
    assert present["interpretation"][0]["coding"][0]["code"] == "AA"
    assert "interpretation" not in absent
    assert {one["value"] for one in report["identifier"]} >= {"urn:oid:2.25.10", "urn:oid:2.25.11"}


def test_a_corrected_answer_takes_the_place_of_the_first() -> None:
    first = make_answer(NODULE_1, NODULE_2)
    gone = (ToldFinding(place=1, finding=NODULE_1),)
    stands = (ToldFinding(place=2, finding=NODULE_2),)
    later = replace(first, job=finished_job(NODULE_1, NODULE_2, notes=("Seen anew.",)), state=AnswerState.CORRECTED)
    server = told(first, replace(later, findings=stands, withdrawn=gone))
    (report,) = server.all("DiagnosticReport")
    assert (report[STATUS], len(report["result"])) == ("amended", 1)
    assert sorted(one[STATUS] for one in server.all("Observation")) == ["amended", "entered-in-error"]


def test_what_was_taken_back_is_entered_in_error() -> None:
    server = told(make_answer(NODULE_1, NODULE_2), taken_back())
    (report,) = server.all("DiagnosticReport")
    assert report[STATUS] == "entered-in-error"
    assert "result" not in report
    assert {one[STATUS] for one in server.all("Observation")} == {"entered-in-error"}


def test_two_pipelines_on_one_study_are_two_reports() -> None:
    made = make_answer(NODULE_1)
    other = replace(made, job=replace(made.job, order=replace(made.job.order, pipeline="chest_xray")))
    assert len(told(made, other).all("DiagnosticReport")) == 2


def test_patients_without_a_number_are_not_taken_for_one() -> None:
    nameless = {key: value for key, value in PATIENT.items() if key != "PatientID"}
    made = make_answer(attributes=nameless)
    another = replace(made, study=replace(made.study, study_instance_uid=type(made.study.study_instance_uid)("1.2.4")))
    assert len(told(made, made, another).all("Patient")) == 2
