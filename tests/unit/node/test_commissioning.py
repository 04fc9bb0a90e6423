"""A node that is started for a rehearsal has the site's rules, and nothing else of the site's."""

from pathlib import Path

import pytest

from node.commissioning import PACS_AET, Cast, own_settings, running_node
from node.errors import SettingsInvalid
from node.peers.peer import Peer
from node.rehearsal.repertoire import Repertoire
from node.rehearsal.stage import Expects, Pace
from node.settings.loading import load_settings

SITE = """
[node]
aet = "SITE_AI"
bind = "192.0.2.7"
port = 104

[ledger]
url = "postgresql+psycopg://radnode@db.example/radnode"

[broker]
url = "redis://broker.example:6379/0"

[store]
url = "/srv/store"

[security]
calling_aets = ["CT1"]
allowed_networks = ["10.1.0.0/16"]
tls = { certificate = "node.pem", key = "node.key", ca = "ca.pem" }

[destinations.pacs]
transport = "cstore"
aet = "PACS"
host = "pacs.example"
port = 104

[[rules]]
name = "X-ray"
run = ["chest_xray"]
deliver_to = ["pacs"]
when = { modality = "DX" }

[[rules]]
name = "everything on"
forward = ["pacs"]
when = { modality = "DX" }
"""


def test_nothing_of_the_site_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    pacs = Peer(aet=PACS_AET, host="127.0.0.1", port=11113)
    own = own_settings(load_settings(path, {}), tmp_path / "own", pacs)
    assert own.ledger_url.startswith(f"sqlite:///{tmp_path}")
    assert own.store_root == tmp_path / "own" / "store"
    assert own.broker.url.get_secret_value() == ""
    assert (own.node.aet, own.node.bind, own.node.port) == ("SITE_AI", "127.0.0.1", 0)
    assert own.security.calling_aets == own.security.allowed_networks == ()
    assert own.security.tls.certificate == ""
    assert {name: entry.port for name, entry in own.destinations.items()} == {PACS_AET: 11113}
    assert [set(rule) for rule in own.rules] == [{"name", "run", "when"}]


@pytest.mark.parametrize("key", ["pipelines", "store"])
def test_what_the_node_thinks_with_is_the_sites(key: str, tmp_path: Path) -> None:
    settings = load_settings(None, {})
    own = own_settings(settings, tmp_path, Peer(aet=PACS_AET, host="127.0.0.1", port=1))
    assert getattr(own, key) == getattr(settings, key)


def test_models_that_the_site_installed_are_found(tmp_path: Path) -> None:
    settings = load_settings(None, {})
    own = own_settings(settings, tmp_path, Peer(aet=PACS_AET, host="127.0.0.1", port=1))
    assert set(settings.model_dirs) <= set(own.model_dirs)


def test_a_running_node_that_knows_no_such_pacs_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    cast = Cast(repertoire=Repertoire("run", ()), calling_aet="MODALITY", expects=Expects.RESULTS, out=tmp_path)
    node, pacs = (Peer(aet=aet, host="127.0.0.1", port=1) for aet in ("RADNODE", "ELSEWHERE"))
    settings = load_settings(None, {})
    quick = settings.node.model_copy(update={"data_dir": tmp_path})
    own = settings.model_copy(update={"node": quick})
    with (
        pytest.raises(SettingsInvalid, match="ELSEWHERE"),
        running_node(node, cast, pacs=pacs, pace=Pace(), settings=own),
    ):
        pass
