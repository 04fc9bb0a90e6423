"""One model that is not to be had stops its Pipeline, and nothing else; a Pipeline may bring its own rule."""

from pathlib import Path
from shutil import copytree

import pytest

from node.errors import RuleInvalid
from node.models import SHIPPED_MODELS
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import find_models, read_rules, survey_models

OURS = """
[pipelines.lung_nodules]
model = "ours"

[[rules]]
name = "lungs"
when = { modality = "CT" }
run = ["lung_nodules"]

[[rules]]
name = "lungs by role"
when = { modality = "CT" }
run = ["lung_nodules"]
inputs = { scan = { modality = "CT" } }

[[rules]]
name = "lungs and film"
when = { modality = "DX" }
run = ["lung_nodules", "chest_xray"]
"""


def load(folder: Path, text: str) -> Settings:
    path = folder / "site.toml"
    path.write_text(f'[node]\ndata_dir = "{folder}"\n{text}')
    return load_settings(path, {})


@pytest.mark.parametrize("damage", ["absent", "no model.toml", "wrong"])
def test_others_are_read_and_the_fault_is_kept(damage: str, tmp_path: Path) -> None:
    ours = tmp_path / "models" / "ours"
    if damage != "absent":
        copytree(SHIPPED_MODELS / "ct-nodules", ours)
        path = ours / "model.toml"
        path.write_text(path.read_text().replace("series_offset = 1", "series_offset = 1000"))
        if damage == "no model.toml":
            path.unlink()
    settings = load(tmp_path, OURS)
    survey = survey_models(settings)
    assert set(survey.models) == {"brain_tumour", "chest_xray"}
    said = survey.faults["lung_nodules"]
    assert "write a whole number from 0 to 99" in said if damage == "wrong" else "'ours' is in none of" in said
    rules = {rule.name: rule for rule in read_rules(settings, survey.models)}
    assert [need.pipeline for need in rules["lungs"].needs] == ["lung_nodules"]
    assert set(rules["lungs by role"].inputs) == {"scan"}
    assert set(rules["lungs and film"].inputs) == {"image"}


def test_a_rule_that_is_wrong_in_itself_is_refused_all_the_same(tmp_path: Path) -> None:
    settings = load(tmp_path, OURS.replace('when = { modality = "DX" }', 'when = { modalty = "DX" }'))
    with pytest.raises(RuleInvalid, match="modalty"):
        read_rules(settings, find_models(settings))


def test_models_of_the_site_are_found_before_the_shipped_and_offline_too(tmp_path: Path) -> None:
    copytree(SHIPPED_MODELS / "ct-nodules", tmp_path / "models" / "ct-nodules")
    settings = load(tmp_path, "")
    assert find_models(settings)["lung_nodules"].folder == tmp_path / "models" / "ct-nodules"
    offline = settings.offline(tmp_path / "elsewhere", rules=())
    assert find_models(offline)["lung_nodules"].folder == tmp_path / "models" / "ct-nodules"


def test_a_pipeline_may_say_when_it_runs(tmp_path: Path) -> None:
    table = '[pipelines.lungs]\nmodel = "ct-nodules"\npriority = "stat"\nwhen = { modality = "CT" }\n'
    settings = load(tmp_path, table)
    assert settings.pipelines["lungs"].model == "ct-nodules"
    last = settings.rules[-1]
    assert last == {"name": "lungs", "run": ["lungs"], "priority": "stat", "when": {"modality": "CT"}}
    # Another process gets the rule, once.
    again = load_settings(None, settings.as_environment())
    assert again.rules == settings.rules
