"""A node that ends: everything that waits for others waits at the same time, and the lead is given up last."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from node.app import NodeApp, Role
from node.ledger.leadership import open_leadership
from node.ledger.opening import open_ledger
from node.settings.loading import load_settings
from node.settings.whole import Settings
from tests.ledgers import copy_ledger
from tests.peers import free_port, wait_until


class Silent:
    """A PACS that takes a connection, and never says a word."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._server.getsockname()[1]

    def wait_for_call(self) -> socket.socket:
        """Return a connection on which somebody waits for an answer."""
        self._server.settimeout(60)
        connection, _ = self._server.accept()
        return self._stack.enter_context(connection)


@pytest.fixture
def silent() -> Iterator[tuple[Silent, Silent]]:
    interval = sys.getswitchinterval()
    with ExitStack() as stack:
        yield Silent(stack), Silent(stack)
    sys.setswitchinterval(interval)


def site(tmp_path: Path, silent: tuple[Silent, Silent]) -> Settings:
    tables = "".join(
        f"""
[destinations.pacs{number}]
transport = "cstore"
aet = "PACS"
host = "127.0.0.1"
port = {pacs.port}
confirm = "none"
"""
        for number, pacs in enumerate(silent, start=1)
    )
    path = tmp_path / "site.toml"
    path.write_text(
        f'''
[node]
data_dir = "{tmp_path / "data"}"
port = 0
receivers = 1
[store]
reserve_bytes = 0
[ledger]
url = "{copy_ledger(tmp_path)}"
[broker]
url = "redis://127.0.0.1:{free_port()}/0"
[web]
port = 0
{tables}''',
        encoding="utf-8",
    )
    return load_settings(path, {})


def belts() -> set[str]:
    return {thread.name.removeprefix("belt-") for thread in threading.enumerate() if thread.name.startswith("belt-")}


def test_everything_ends_at_once_and_the_lead_is_given_up_last(
    tmp_path: Path, silent: tuple[Silent, Silent], database: str
) -> None:
    settings = site(tmp_path, silent)
    app = NodeApp(settings, Role(with_worker=False))
    app.start()
    first, second = (pacs.wait_for_call() for pacs in silent)
    ending = Thread(target=app.stop)
    ending.start()
    # Both are still silent; what does not wait for them has ended, and what would look whether this node leads.
    wait_until(lambda: belts() <= {"delivery-pacs1", "delivery-pacs2"}, what="an end of the other belts")
    second.close()
    wait_until(lambda: belts() <= {"delivery-pacs1"}, what="an end of the second, though the first is silent")
    engine = open_ledger(settings)
    other = open_leadership(engine)
    # Its Delivery is in hand.
    assert not other.is_ours()
    first.close()
    ending.join()
    assert belts() == set()
    assert other.is_ours()
    other.resign()
    engine.dispose()
