"""Where each setting has its value from, in this process and in those that it starts."""

from pathlib import Path

import pytest

from node.domain.origin import ORIGINS_VARIABLE, decode_origins, encode_origins, keys_of
from node.settings.loading import load_settings
from node.settings.whole import Settings

SITE = """
[node]
aet = "SITE"
[pipelines.lung_nodules]
model = "mine"
[destinations.pacs]
transport = "cstore"
aet = "PACS"
host = "127.0.0.1"
port = 104
[destinations.pacs.tls]
ca = "pacs.pem"
[[rules]]
name = "a"
when = { modality = "CT" }
run = ["lung_nodules"]
"""
ENVIRONMENT = {"RADNODE__NODE__PORT": "104", "RADNODE__DESTINATIONS": "{ pacs = { port = 105 } }", "OTHER": "1"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def test_shipped_settings_are_all_defaults() -> None:
    assert load_settings(None, {}).origins == {}


def test_each_value_says_whether_a_file_or_a_variable_has_it(site: Path) -> None:
    origins = load_settings(site, ENVIRONMENT).origins
    assert origins == {
        "node.aet": str(site),
        "pipelines.lung_nodules.model": str(site),
        "destinations.pacs.transport": str(site),
        "destinations.pacs.aet": str(site),
        "destinations.pacs.host": str(site),
        "destinations.pacs.tls.ca": str(site),
        "rules": str(site),
        "node.port": "environment RADNODE__NODE__PORT",
        "destinations.pacs.port": "environment RADNODE__DESTINATIONS",
    }


def test_a_process_that_is_started_knows_it_too(site: Path) -> None:
    loaded = load_settings(site, ENVIRONMENT)
    started = load_settings(None, loaded.with_broker("redis://127.0.0.1/0").as_environment())
    assert started.origins == loaded.origins
    assert started.node.port == 104


def test_a_copy_keeps_it(site: Path, tmp_path: Path) -> None:
    loaded = load_settings(site, ENVIRONMENT)
    copy: Settings = loaded.offline(tmp_path, rules=())
    assert copy.origins == loaded.origins


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "null"])
def test_a_variable_that_is_none_of_ours_says_nothing(text: str) -> None:
    assert decode_origins(text) == {}
    assert load_settings(None, {ORIGINS_VARIABLE: text}).origins == {}


def test_what_is_encoded_is_decoded() -> None:
    origins = {"node.aet": "/etc/radnode/größer.toml"}
    assert decode_origins(encode_origins(origins)) == origins


def test_a_list_is_one_value() -> None:
    assert list(keys_of({"a": {"b": [{"c": 1}], "d": {"e": 2}}, "f": 3})) == ["a.b", "a.d.e", "f"]
