"""What the start of a node prints for whoever makes the first account."""

from pathlib import Path

from node.accounts.opening import open_registry
from node.app import NodeApp
from node.clock import utc_now
from node.domain.account import Role
from node.ledger.opening import open_ledger
from node.settings.loading import load_settings
from tests.ledgers import copy_ledger


def test_a_link_is_made_while_there_is_no_user_and_a_web(tmp_path: Path) -> None:
    placed = {"RADNODE__NODE__DATA_DIR": str(tmp_path), "RADNODE__LEDGER__URL": copy_ledger(tmp_path)}
    with_web = load_settings(None, {**placed, "RADNODE__WEB__PORT": "8080"})
    assert NodeApp(load_settings(None, {**placed, "RADNODE__WEB__PORT": "0"})).first_link() is None
    link = NodeApp(with_web).first_link()
    assert link is not None
    engine = open_ledger(with_web)
    registry = open_registry(engine, clock=utc_now, tell=lambda _event: None)
    assert registry.whose_link(link) is None
    registry.add_user("ada", Role.ADMIN, password=None, by="test")
    assert NodeApp(with_web).first_link() is None
    engine.dispose()
