"""What `radnode evaluate` finds in a folder: which Series go to the model, and who a patient is without saying so."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from node.errors import ModelInvalid, NotFound
from node.evaluation import DICOM, Wanted, evaluate_model, find_card, plan_studies, read_patients
from node.rehearsal.headers import write_datasets
from node.settings.loading import load_settings
from tests.phantoms import small_brain_mr, small_chest_xray


def wanted(data: Path, **changes: object) -> Wanted:
    told: dict[str, object] = {
        "model": "mr-tumour",
        "against": None,
        "form": DICOM,
        "data": data,
        "truth": None,
        "out": data / "out",
        "unlisted_are_healthy": False,
        "task": "",
        "label": "",
        "truth_label": "",
        "roles": (),
        "thresholds": {},
        "patients": None,
        "subgroups": (),
        "specificity": 0.9,
        "tolerance_mm": 2.0,
        "pictures": 0,
    }
    return Wanted(**{**told, **changes})  # type: ignore[arg-type]  # a test's own words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    write_datasets(small_brain_mr().datasets, data / "head")
    write_datasets([small_chest_xray(with_opacity=True).dataset], data / "chest")
    (data / "notes.txt").write_text("not DICOM")
    return data


def test_the_rules_give_each_role_its_series_and_refuse_other_studies(folder: Path) -> None:
    settings = load_settings()
    plans = plan_studies(settings, find_card(settings, "mr-tumour"), wanted(folder))
    head = next(plan for plan in plans if plan["inputs"])
    other = next(plan for plan in plans if not plan["inputs"])
    phantom = small_brain_mr()
    assert head["series_instance_uid"] == phantom.flair[0].SeriesInstanceUID
    assert {role: len(paths) for role, paths in head["inputs"].items()} == {"flair": 18, "t1": 18, "t1c": 18}
    assert set(head["columns"]) == {"sex", "age", "manufacturer", "slice-thickness"}
    assert head["refusal"] is None
    assert other["refusal"]["code"] == "no-rule-matched"
    assert phantom.flair[3].SOPInstanceUID in head["names"]


def test_a_patient_is_the_same_in_each_study_and_told_by_nothing(folder: Path) -> None:
    again = deepcopy(small_chest_xray(with_opacity=False).dataset)
    write_datasets([again], folder / "again")
    settings = load_settings()
    plans = plan_studies(settings, find_card(settings, "cxr-pneumonia"), wanted(folder))
    films = [plan for plan in plans if plan["inputs"]]
    assert len(films) == 2
    assert films[0]["patient"] == films[1]["patient"]
    told = json.dumps([{**plan, "inputs": {}} for plan in plans])
    for value in (str(again.PatientID), str(again.PatientName), str(again.AccessionNumber)):
        assert value not in told


def test_patients_are_picked_by_patient_id_or_study(folder: Path) -> None:
    settings, film = load_settings(), small_chest_xray(with_opacity=True).dataset
    card = find_card(settings, "cxr-pneumonia")
    for key in (str(film.PatientID), str(film.StudyInstanceUID)):
        (plan,) = plan_studies(settings, card, wanted(folder, patients=frozenset({key})))
        assert plan["study_instance_uid"] == film.StudyInstanceUID


def test_a_model_without_a_rule_takes_the_series_of_its_modality(folder: Path) -> None:
    settings = load_settings().model_copy(update={"rules": ()})
    plans = plan_studies(settings, find_card(settings, "cxr-pneumonia"), wanted(folder))
    taken = [plan for plan in plans if plan["refusal"] is None]
    assert [plan["study_instance_uid"] for plan in taken] == [
        small_chest_xray(with_opacity=True).dataset.StudyInstanceUID
    ]
    assert {plan["refusal"]["code"] for plan in plans if plan["refusal"]} == {"input-missing"}


def test_what_cannot_be_measured_is_told_before_a_worker_starts(tmp_path: Path) -> None:
    settings = load_settings()
    with pytest.raises(NotFound, match="is no folder"):
        evaluate_model(settings, wanted(tmp_path / "absent"))
    with pytest.raises(NotFound, match="no DICOM file"):
        evaluate_model(settings, wanted(tmp_path))
    with pytest.raises(ModelInvalid, match="has no threshold nodule; it has abnormality"):
        evaluate_model(settings, wanted(tmp_path, thresholds={"nodule": 0.5}))
    with pytest.raises(ModelInvalid, match="is in none of"):
        evaluate_model(settings, wanted(tmp_path, against="nobody"))


def test_patients_come_from_a_split_or_from_lines(tmp_path: Path) -> None:
    split, lines = tmp_path / "split.json", tmp_path / "keys.txt"
    split.write_text(json.dumps({"train": ["a"], "tune": [], "held": ["b", "c"]}))
    lines.write_text("# kept apart\nkermany IM-0119\nlgg TCGA_CS_4941  # a head\nIM-0001\n")
    assert read_patients(split, part="held", form=DICOM) == {"b", "c"}
    assert read_patients(lines, part="held", form="kermany") == {"IM-0119", "IM-0001"}
    with pytest.raises(NotFound, match="names nobody under 'tune'"):
        read_patients(split, part="tune", form=DICOM)
    with pytest.raises(NotFound, match="cannot be read"):
        read_patients(tmp_path / "absent.json", part="held", form=DICOM)
