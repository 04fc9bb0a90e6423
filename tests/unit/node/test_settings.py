"""Settings: defaults < file < environment; refused by name when wrong; handed on without loss."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from node.errors import SettingsInvalid
from node.settings.loading import load_settings, shipped_file
from node.settings.peers import DestinationSettings
from node.settings.whole import Settings

SECRET = "redis://user:s3cret@host:6379/0"


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def defaults(**changes: Any) -> Settings:
    return load_settings(environment={}).model_copy(update=changes)


def handed_on(settings: Settings) -> Settings:
    return load_settings(environment=settings.as_environment())


def test_the_shipped_file_alone_is_enough() -> None:
    settings = defaults()
    assert (settings.node.aet, settings.node.bind, settings.node.port) == ("RADNODE", "127.0.0.1", 11112)
    assert set(settings.pipelines) == {"lung_nodules", "brain_tumour", "chest_xray"}
    assert shipped_file().name == "settings.toml"


def test_the_file_goes_before_the_defaults_and_the_environment_before_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[node]\naet = "SITE"\nport = 4242\n[destinations.pacs]\ntransport = "cstore"\naet = "PACS"\n'
    )
    settings = load_settings(
        path, {"RADNODE__NODE__PORT": "5000", "RADNODE__DESTINATIONS__PACS__PORT": "104", "OTHER": "x"}
    )
    assert (settings.node.aet, settings.node.port, settings.node.bind) == ("SITE", 5000, "127.0.0.1")
    assert (settings.destinations["pacs"].aet, settings.destinations["pacs"].port) == ("PACS", 104)


def test_a_pipeline_of_the_file_changes_only_the_keys_it_names(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "[pipelines.lung_nodules]\ntime_limit_s = 30.0\n"), {})
    assert settings.pipelines["lung_nodules"].time_limit_s == 30.0
    assert settings.pipelines["lung_nodules"].model == "ct-nodules"


def test_a_table_inside_a_table_changes_only_the_keys_it_names(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[security.tls]\ncertificate = "a.pem"\nkey = "a.key"\n[destinations.pacs]\ntransport = "cstore"\n'
    )
    settings = load_settings(
        path, {"RADNODE__SECURITY__TLS__CA": "ca.pem", "RADNODE__DESTINATIONS__PACS__TLS__CHECK_HOST": "false"}
    )
    assert settings.security.tls.model_dump() == {"certificate": "a.pem", "key": "a.key", "ca": "ca.pem"}
    assert settings.security.own_results == "store"
    tls = settings.destinations["pacs"].tls
    assert tls is not None
    assert (tls.ca, tls.check_host) == ("", False)
    assert handed_on(settings) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[security.tls]\ncertifcate = "a"\n', "unknown setting security.tls.certifcate; did you mean certificate?"),
        ("[destinations.pacs.tls]\ncheckhost = 1\n", "did you mean check_host?"),
        ('[security.tls]\ncertificate = "a"\n', "certificate and key belong together"),
        ('[security.tls]\nca = "a"\n', "needs certificate and key of our own"),
    ],
)
def test_tls_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(write(tmp_path, text), {})
    assert words in str(caught.value)


def test_rules_of_the_file_replace_the_shipped_ones(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, '[[rules]]\nname = "mine"\n'), {})
    assert [rule["name"] for rule in settings.rules] == ["mine"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\nprot = 1\n", "unknown setting node.prot; did you mean port?"),
        ("[assembly]\nquiet_second = 1\n", "did you mean quiet_seconds?"),
        ("[asembly]\nx = 1\n", "unknown setting asembly; did you mean assembly?"),
        ("[pipelines.chest_xray]\nmodle = 'x'\n", "unknown setting pipelines.chest_xray.modle; did you mean model?"),
        ("[destinations.pacs]\ntransport = 'cstore'\nhots = 'x'\n", "did you mean host?"),
        ("[[alarms.sources]]\naet = 'CT'\nminutes = 5\nhuors = [0, 1]\n", "did you mean hours?"),
        ("[destinations.pacs]\naet = 'X'\n", "setting destinations.pacs.transport is missing"),
        ("[pipelines.new]\nsegmentation = 'labelmap'\n", "setting pipelines.new.model is missing"),
        ("[node]\nzzz = 1\n", "known are aet, bind"),
        ("[node]\nport = 70000\n", "setting node.port"),
        ("[node]\naet = 'MORE THAN 16 CHARS'\n", "setting node.aet"),
        ("[node]\naet = 'BACK\\SLASH'\n", "setting node.aet"),
        ("[assembly]\nidle_seconds = 1.0\n", "idle_seconds must be greater"),
        ("[dispatch]\nheartbeat_seconds = 40.0\n", "less than half of lease_seconds"),
        ("[dispatch]\nmax_attempts = 0\n", "setting dispatch.max_attempts"),
        ("destinations = 3\n", "setting destinations"),
        ("pipelines = { lung_nodules = 3 }\n", "pipelines.lung_nodules"),
        ("node = 3\n", "setting node"),
        ("[node\n", "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_refused_and_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(write(tmp_path, text), {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="does not exist"):
        load_settings(tmp_path / "absent.toml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsInvalid):
        load_settings(tmp_path / "site.toml", {})


@pytest.mark.parametrize(
    "environment",
    [
        {"RADNODE__NODE__PROT": "1"},
        {"RADNODE__NODE": "x", "RADNODE__NODE__PORT": "1"},
        {"RADNODE__NODE__AET": "A", "RADNODE__NODE__AET__X": "1"},
        {"RADNODE__": "x"},
    ],
)
def test_a_mistake_in_the_environment_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid):
        load_settings(environment=environment)


@pytest.mark.parametrize("aet", ["123", "1.5", "true", "2025-01-14", "[x]"])
def test_an_ae_title_that_looks_like_something_else_is_taken_as_it_stands(aet: str) -> None:
    assert load_settings(environment={"RADNODE__NODE__AET": aet}).node.aet == aet


def test_settings_do_not_change() -> None:
    settings = defaults()
    with pytest.raises(ValidationError):
        settings.node.port = 1


def test_secrets_are_in_no_text_of_the_settings() -> None:
    settings = defaults().with_broker(SECRET)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.broker)
    assert "s3cret" not in settings.model_dump_json()
    assert settings.broker.url.get_secret_value() == SECRET


def test_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(write(tmp_path, '[broker]\nurl = ["s3cret"]\n'), {})
    assert "s3cret" not in str(caught.value)


def test_another_process_loads_these_very_settings() -> None:
    assert handed_on(defaults()) == defaults()


def test_destinations_and_secrets_are_handed_on() -> None:
    destinations = {
        "pacs": DestinationSettings(transport="cstore", aet="PACS \"A\" 'B'", host="::1", port=4242),
        "Archive-2": DestinationSettings(transport="folder", url="C:\\temp\\näh"),
        "two__parts": DestinationSettings(transport="stow", url="https://x/?a=b#c"),
    }
    settings = defaults(destinations=destinations).with_broker(SECRET)
    assert handed_on(settings) == settings


def test_a_pipeline_with_capitals_is_handed_on() -> None:
    shipped = defaults()
    settings = defaults(pipelines={**shipped.pipelines, "Lung-CT": shipped.pipelines["lung_nodules"]})
    assert handed_on(settings) == settings


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
def test_rules_are_handed_on_whatever_they_hold(text: str, number: float, flag: bool) -> None:
    rule = {"name": text, "when": {"description": [r"\bt1(?!\d)" + text, "'\"\\"], "n": number, text: flag, "i": 7}}
    settings = defaults(rules=(rule,))
    variables = settings.as_environment()
    if "\x00" not in str(variables):
        assert load_settings(environment=variables).rules == (rule,)


def test_offline_settings_know_no_destination_and_live_in_their_folder(tmp_path: Path) -> None:
    pacs = DestinationSettings(transport="cstore")
    settings = defaults(destinations={"pacs": pacs}).offline(tmp_path, rules=())
    assert (settings.destinations, settings.rules) == ({}, ())
    assert settings.store_root == tmp_path / "store"
    assert settings.ledger_url == f"sqlite:///{tmp_path / 'ledger.sqlite'}"


def test_a_ledger_elsewhere_is_used() -> None:
    shipped = defaults()
    ledger = shipped.ledger.model_copy(update={"url": SecretStr("postgresql+psycopg://u:s3cret@db/radnode")})
    settings = defaults(ledger=ledger)
    assert settings.ledger_url == "postgresql+psycopg://u:s3cret@db/radnode"
    assert "s3cret" not in repr(settings)
