"""The answer of a Job as FHIR: right by the library's own rules, the same each time, and it says unverified."""

import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from node.domain.answer import UNVERIFIED
from node.domain.codes import LEFT, LUNG, NODULE, PNEUMONIA, Code
from node.domain.finding import Finding, Presence
from node.domain.result import ResultKind
from node.fhir.coding import coding
from node.fhir.diagnostic_report import build_bundle
from tests.answers import finished_job as job
from tests.ledgers import make_result
from tests.studies import CR, CT, make_series, make_study

PATIENT = {
    "PatientID": "4711",
    "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "PatientBirthDate": "19620331",
    "PatientSex": "M",
    "AccessionNumber": "A1",
    "StudyDate": "20250114",
    "StudyDescription": "CT Thorax",
}
SIZES = {"long_axis_mm": 8.4, "short_axis_mm": 6.1, "volume_mm3": 214.0, "mean_hu": -20.5}
FOUND = Finding(
    label="Nodule 1", code=NODULE, confidence=0.97, measurements=SIZES, site=LUNG, laterality=LEFT, segment_number=1
)
UNDECIDED = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.UNDETERMINED)
ABSENT = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.ABSENT, confidence=0.03)


def bundle(*findings: Finding, sop_class_uid: str = CT, **attributes: Any) -> dict[str, Any]:
    done = job(*findings)
    series = (make_series(1, sop_class_uid, count=3, Modality="CT" if sop_class_uid == CT else "CR"),)
    results = [make_result(done, kind=kind, number=n) for n, kind in enumerate((ResultKind.SEG, ResultKind.SC), 1)]
    return build_bundle(make_study(*series, **attributes), done, results)


def resources(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in found["entry"] if entry["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("findings", [(), (FOUND,), (ABSENT,), (FOUND, ABSENT)])
@pytest.mark.parametrize("attributes", [{}, PATIENT, {"PatientName": "^^", "PatientBirthDate": "31.03.1962"}])
def test_the_library_accepts_the_bundle(findings: tuple[Finding, ...], attributes: dict[str, str]) -> None:
    found = bundle(*findings, **attributes)
    Bundle.model_validate_json(json.dumps(found))
    assert len(resources(found, "Observation")) == len(findings)


def test_every_reference_resolves_inside_the_bundle() -> None:
    found = bundle(FOUND, ABSENT, **PATIENT)
    named = {entry["fullUrl"] for entry in found["entry"]}

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "reference" in value:
                assert value["reference"] in named
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(found)


def test_the_same_job_gives_the_same_bundle() -> None:
    assert bundle(FOUND, **PATIENT) == bundle(FOUND, **PATIENT)


def test_a_finding_keeps_its_numbers_units_and_side() -> None:
    (observation,) = resources(bundle(FOUND, **PATIENT), "Observation")
    told = {part["code"]["coding"][0]["code"]: part.get("valueQuantity") for part in observation["component"]}
    assert (told["103339001"]["value"], told["103339001"]["code"]) == (8.4, "mm")
    assert (told["118565006"]["value"], told["118565006"]["code"]) == (214.0, "mm3")
    assert (told["112031"]["value"], told["112031"]["code"]) == (-20.5, "[hnsf'U]")
    assert told["111012"]["value"] == 97.0
    assert observation["bodySite"]["text"] == "Lung, left"
    assert observation["status"] == "preliminary"


def test_the_report_says_that_nobody_verified_it_and_what_limits_it() -> None:
    (report,) = resources(bundle(FOUND, ABSENT, **PATIENT), "DiagnosticReport")
    assert report["conclusion"] == f"{UNVERIFIED} lung_nodules: Nodule 1. FLAIR alone was read."
    assert report["status"] == "preliminary"
    assert report["basedOn"][0]["identifier"]["value"] == "A1"
    (undecided,) = resources(bundle(FOUND, UNDECIDED), "DiagnosticReport")
    assert "lung_nodules: Nodule 1; undetermined: Pneumonia." in undecided["conclusion"]
    (unknown,) = resources(bundle(UNDECIDED), "DiagnosticReport")
    assert "lung_nodules: undetermined: Pneumonia." in unknown["conclusion"]
    (nothing,) = resources(bundle(), "DiagnosticReport")
    assert "no findings" in nothing["conclusion"]
    assert "result" not in nothing


def test_names_in_three_scripts_are_three_names() -> None:
    (patient,) = resources(bundle(**PATIENT), "Patient")
    assert [(name["family"], name["given"]) for name in patient["name"]] == [
        ("Yamada", ["Tarou"]),
        ("山田", ["太郎"]),
        ("やまだ", ["たろう"]),
    ]
    assert (patient["birthDate"], patient["gender"]) == ("1962-03-31", "male")


def test_the_imaging_study_lists_what_came_and_what_was_written() -> None:
    (study,) = resources(bundle(sop_class_uid=CR, **PATIENT), "ImagingStudy")
    assert [entry["modality"]["code"] for entry in study["series"]] == ["CR", "SEG", "OT"]
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (3, 5)
    assert study["identifier"][0]["value"] == "urn:oid:1.2.3"


def test_a_local_code_has_a_system_of_its_own() -> None:
    assert coding(Code("opacity", "99RADNODE", "Lung opacity"))["system"].startswith("urn:oid:2.25.")
