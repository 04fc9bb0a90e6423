"""`radnode send --to NAME`: the Destination of the settings, with its TLS."""

from pathlib import Path

import pytest

from node.cli.send import find_destination
from node.errors import SettingsInvalid
from node.settings.loading import load_settings
from node.settings.whole import Settings

TABLES = """
[destinations.pacs]
transport = "cstore"
aet = "PACS"
host = "192.0.2.7"
port = 2762
tls = { ca = "site-ca.pem" }

[destinations.out]
transport = "folder"
url = "out"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "site.toml"
    path.write_text(TABLES)
    return load_settings(path, {})


def test_a_destination_is_called_as_the_settings_say(settings: Settings) -> None:
    peer = find_destination(settings, "pacs")
    assert (peer.aet, peer.host, peer.port, peer.calling_aet) == ("PACS", "192.0.2.7", 2762, "RADNODE")
    assert peer.tls is not None
    assert (peer.tls.ca, peer.tls.check_host, peer.tls.where) == (Path("site-ca.pem"), True, "destinations.pacs.tls")


@pytest.mark.parametrize("name", ["out", "other"])
def test_what_is_no_c_store_destination_is_refused_and_the_others_named(settings: Settings, name: str) -> None:
    with pytest.raises(SettingsInvalid, match=rf"peer '{name}': expected AET@HOST:PORT.*\(pacs\)"):
        find_destination(settings, name)
