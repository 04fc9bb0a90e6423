"""A node that starts on a full volume: it ends as one who may be started again, and serves when there is room."""

from pathlib import Path

import pytest

from node.ledger.opening import open_ledger
from node.peers.association import echo
from node.settings.loading import load_settings
from tests.node_process import Launch, NodeProcess, run_radnode
from tests.volumes import clear, fill, memory_volume

VOLUME_BYTES = 8 << 20
# Service managers start again what ended with this code, and never what ended with 2: there the settings are wrong.
PASSING = 1
LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """Each test here ends its node."""


@pytest.fixture
def node(tmp_path: Path) -> NodeProcess:
    """Return a node with a ledger of an earlier life, which is not started."""
    made = NodeProcess(tmp_path, "", launch=Launch(verb="serve"))
    (tmp_path / "data").mkdir()
    return made


def assert_ends_to_be_started_again(node: NodeProcess) -> None:
    done = run_radnode("serve", "--settings", node.file, limit_s=LIMIT_S)
    assert (done.returncode, "free space" in done.stderr) == (PASSING, True), done.stderr


def test_node_whose_ledger_has_no_room_ends_to_be_started_again(node: NodeProcess) -> None:
    with memory_volume(node.folder / "data", VOLUME_BYTES) as volume:
        open_ledger(load_settings(node.file)).dispose()
        fill(volume)
        assert_ends_to_be_started_again(node)
        clear(volume)
        with node:
            echo(node.peer)


def test_node_whose_audit_trail_has_no_room_ends_to_be_started_again(node: NodeProcess) -> None:
    with memory_volume(node.folder / "data" / "audit", VOLUME_BYTES) as volume:
        fill(volume)
        assert_ends_to_be_started_again(node)
