"""Opening the ledger: pragmas, schema version, and what its failures mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from node.errors import LedgerBusy, LedgerUnusable

__all__ = ["Desk", "Engine", "migrate", "open_engine"]

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
READ_ONLY = "radnode_read_only"
# Any number that no other user of the database takes; this one spells "radnode".
WRITER_LOCK = 0x7261646E6F6465


def open_engine(url: str, *, busy_timeout_s: float) -> Engine:
    """Return an Engine on which each transaction is durable once it is committed.

    SQLite runs in WAL mode with ``synchronous=FULL``: a commit is on disk before it returns.

    Raises
    ------
    LedgerUnusable
        If `url` names no database that this installation knows.
    """
    try:
        if make_url(url).get_backend_name() != "sqlite":
            return _take_turns(create_engine(url, pool_pre_ping=True, hide_parameters=True))
        # Parameters are patients' attributes; no text of an error may quote them.
        arguments = {"timeout": busy_timeout_s, "check_same_thread": False}
        engine = create_engine(url, connect_args=arguments, hide_parameters=True)
    except (ArgumentError, ImportError) as exc:
        raise LedgerUnusable(
            f"ledger.url names no database that is known here ({type(exc).__name__}); correct it, or install its driver"
        ) from exc

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own implicit BEGIN is deferred and would fail late with "database is locked".
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        deferred = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")

    return engine


def _take_turns(engine: Engine) -> Engine:
    """Let one writer work at a time, as SQLite does: the operations rely on what they read in their transaction."""

    @event.listens_for(engine, "begin")
    def _wait_for_turn(connection: Connection) -> None:
        if not connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to this version.

    Raises
    ------
    LedgerUnusable
        If the ledger cannot be opened, or was written by a newer radnode.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise LedgerUnusable(
                f"ledger {_name(engine)} has schema {found}, which this radnode does not know; run the newer radnode"
            )
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as exc:
        raise LedgerUnusable(
            f"ledger {_name(engine)} cannot be opened ({type(exc.orig).__name__}); check the folder's rights "
            "and space, or restore the file"
        ) from exc


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def _meaning(engine: Engine, failure: str) -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolExhausted) as exc:
        raise LedgerBusy(f"ledger {_name(engine)} {failure}; it is tried again") from exc
    except DatabaseError as exc:
        # The driver's own class for a malformed file; what breaks a key or a rule of SQL has a class below it.
        if type(exc) is not DatabaseError:
            raise
        raise LedgerUnusable(f"ledger {_name(engine)} is damaged; stop radnode and restore the file") from exc


class Desk:
    """What every room of the ledger shares: a transaction to write in, and one to read in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction; it is durable when the block ends, and undone when the block raises.

        Raises
        ------
        LedgerBusy
            If the ledger stays locked, or its connection breaks.
        LedgerUnusable
            If its file is damaged.
        """
        with _meaning(self._engine, "did not take the transaction"), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a consistent view.

        Raises
        ------
        LedgerBusy
            If the ledger does not answer.
        LedgerUnusable
            If its file is damaged.
        """
        read_only = {READ_ONLY: True}
        with (
            _meaning(self._engine, "did not answer"),
            self._engine.connect().execution_options(**read_only) as connection,
        ):
            yield connection
