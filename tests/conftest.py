"""What every test may ask for: programs and data by name, skipped where absent and failed where CI=true."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.logs import JsonFormatter
from tests.ledgers import SERVER_VARIABLE, Books, clear_copies, copy_ledger
from tests.peers import absent, require_program
from tests.postgresql import Postgres, require_postgres

ThreadHook = Callable[[threading.ExceptHookArgs], object]

DATA = "data"
POSTGRES = "postgres"
# No program: the fault is that of a ledger in a file.
SQLITE = "sqlite"
# Which database the ledgers of a run are on; absent: SQLite.
LEDGER_VARIABLE, POSTGRESQL = "RADNODE_TEST_LEDGER", "postgresql"
DATA_VARIABLE = "RADNODE_TEST_DATA"
DATA_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test that is marked ``needs(peer)`` when the peer is absent."""
    for marker in item.iter_markers("needs"):
        for peer in marker.args:
            if peer == DATA:
                require_data()
            elif peer == POSTGRES:
                require_postgres()
            elif peer == SQLITE:
                _skip_on_postgresql()
            else:
                require_program(peer)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images; without it the test is skipped, or failed where CI=true."""
    return require_data()


@pytest.fixture(scope="session", autouse=True)
def _ledgers_of_this_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every ledger be on PostgreSQL where the run asks for it; a file's own choice counts more."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get(LEDGER_VARIABLE) == POSTGRESQL:
            server: Postgres = request.getfixturevalue("postgres")
            patch.setenv(SERVER_VARIABLE, server.url("postgres"))
        yield


@pytest.fixture(scope="session")
def _log_of_this_run() -> tuple[int, ThreadHook]:
    """Return level and hook before any test, and any fixture of a module, has changed them."""
    return logging.getLogger().level, threading.excepthook


@pytest.fixture(autouse=True)
def _log_as_it_was(_log_of_this_run: tuple[int, ThreadHook]) -> Iterator[None]:
    """Undo what a command that ran inside this process did to its log: another test may read there."""
    root = logging.getLogger()
    level, threading.excepthook = _log_of_this_run
    root.setLevel(level)
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler.formatter, JsonFormatter)]
    yield
    logging.captureWarnings(False)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Return a ledger of one test's own; a file may have another one by this name."""
    found = Books(copy_ledger(tmp_path))
    yield found
    found.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a PostgreSQL that the whole run shares; whoever wants to harm it starts one of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs(POSTGRES))])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return which database `copy_ledger` makes ledgers in: a test that asks runs once on each.

    A test of what only one of them has is marked ``parametrize("database", [...], indirect=True)``.
    """
    if request.param == "sqlite":
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        yield "sqlite"
        return
    server: Postgres = request.getfixturevalue("postgres")
    monkeypatch.setenv(SERVER_VARIABLE, server.url("postgres"))
    yield "postgresql"
    clear_copies(server.url("postgres"))


def _skip_on_postgresql() -> None:
    if os.environ.get(LEDGER_VARIABLE) == POSTGRESQL:
        pytest.skip("it is about a ledger in a file")


def require_data() -> Path:
    """Return the folder that ``RADNODE_TEST_DATA`` names, else the one beside the checkout."""
    named = os.environ.get(DATA_VARIABLE)
    folder = Path(named) if named else DATA_BESIDE_THE_CHECKOUT
    if not folder.is_dir():
        absent(f"the folder of test data is absent ({folder}; {DATA_VARIABLE} names another)")
    return folder
