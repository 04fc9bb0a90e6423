"""Destinations that are told of answers by messages: what settings may say of them, and what rules may ask."""

from pathlib import Path

import pytest

from node.destinations import destination_spec, remote_of
from node.errors import RuleInvalid, SettingsInvalid
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import read_rules

SITE = """
[destinations.ris]
transport = "hl7"
host = "192.0.2.7"
port = 2575
application = "RIS"
facility = "HOSP"

[destinations.his]
transport = "fhir"
url = "https://radnode:pa55@192.0.2.8/fhir"
token = "s3cret"
"""


def load(folder: Path, more: str = "", **environment: str) -> Settings:
    path = folder / "site.toml"
    path.write_text(SITE + more)
    return load_settings(path, environment)


def test_a_token_is_handed_on_and_shown_to_nobody(tmp_path: Path) -> None:
    settings = load(tmp_path)
    again = load_settings(None, settings.as_environment())
    for found in (settings, again):
        spec = destination_spec(found, "his")
        assert spec.token == "s3cret"
        assert "s3cret" not in f"{found!r} {spec!r} {found.model_dump_json()}"
    assert settings.destinations["his"].address == "fhir https://192.0.2.8/fhir"
    assert "s3cret" not in str(remote_of(settings, "his"))


def test_a_token_may_come_from_the_environment(tmp_path: Path) -> None:
    settings = load(tmp_path, RADNODE__DESTINATIONS__HIS__TOKEN="other")
    assert destination_spec(settings, "his").token == "other"


def test_a_receiver_is_known_by_its_address(tmp_path: Path) -> None:
    settings = load(tmp_path)
    spec = destination_spec(settings, "ris")
    assert (spec.application, spec.facility) == ("RIS", "HOSP")
    assert settings.destinations["ris"].address == "hl7 192.0.2.7:2575"
    assert [entry.is_told for entry in settings.destinations.values()] == [True, True]


def test_images_are_not_forwarded_where_none_are_taken(tmp_path: Path) -> None:
    rule = '[[rules]]\nname = "CT"\nwhen = { modality = "CT" }\nforward = ["ris"]\n'
    with pytest.raises(RuleInvalid, match="takes no images; use deliver_to"):
        read_rules(load(tmp_path, rule), {})


@pytest.mark.parametrize("asks", ['[sources.ct1]\naet = "CT1"\nask = "ris"\n', '[worklist]\nask = "his"\n'])
def test_nobody_is_asked_what_it_holds_who_is_only_told(tmp_path: Path, asks: str) -> None:
    with pytest.raises(SettingsInvalid, match="no destination"):
        load(tmp_path, asks)
