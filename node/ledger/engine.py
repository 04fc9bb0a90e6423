"""Opening the ledger: pragmas, schema version, and what its failures mean."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Select, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from node.errors import LedgerBusy, LedgerDamaged, LedgerUnusable

__all__ = ["Desk", "Engine", "Question", "find_damage", "migrate", "open_engine", "require_sound", "schema_of"]

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
READ_ONLY = "radnode_read_only"
REMEDY = "stop radnode, then restore the file, or make it anew by `radnode ledger rebuild`"
# So many damages are told; SQLite looks for no more.
MAX_DAMAGES = 20
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
    LedgerDamaged
        If its file is no ledger any more.
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
        what = f"ledger {_name(engine)} cannot be opened ({type(exc.orig).__name__})"
        if _says_damage(exc):
            raise LedgerDamaged(f"{what}; {REMEDY}") from exc
        raise LedgerUnusable(
            f"{what}; check rights and space of its folder, who else holds it locked, or restore the file"
        ) from exc


def schema_of(engine: Engine) -> str:
    """Return the version of the schema; empty where there is none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def require_sound(engine: Engine) -> None:
    """Return after the ledger took a write, and every page of one in a file was looked at.

    PostgreSQL looks after its own pages.

    Raises
    ------
    LedgerUnusable
        If it cannot be written.
    LedgerDamaged
        If a page is damaged.
    """
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    except OperationalError as exc:
        raise LedgerUnusable(
            f"ledger {_name(engine)} cannot be written; check rights and space of its folder, and who else holds it "
            "locked"
        ) from exc
    damages = find_damage(engine, pragma="quick_check")
    if damages:
        raise LedgerDamaged(f"ledger {_name(engine)} is damaged ({damages[0]}); {REMEDY}")


def find_damage(engine: Engine, *, pragma: str = "integrity_check") -> Sequence[str]:
    """Return what SQLite finds wrong with the file, in its words; nothing when it is sound.

    Parameters
    ----------
    pragma
        ``integrity_check`` compares indexes with rows, too; ``quick_check`` takes half the time.
    """
    if engine.dialect.name != "sqlite":
        return ()
    try:
        with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            said = connection.exec_driver_sql(f"PRAGMA {pragma}({MAX_DAMAGES})").scalars().all()
            if pragma == "integrity_check":
                broken_keys = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                said = [*said, *(f"a row of {row[0]} belongs to nothing" for row in broken_keys[:MAX_DAMAGES])]
    except DatabaseError as exc:
        return (str(exc.orig),)
    return tuple(line for line in said if line != "ok")


def _says_damage(exc: DBAPIError) -> bool:
    """Return whether it is the driver's own class for a malformed file; rights and locks have a class below it."""
    return type(exc) is DatabaseError


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def _meaning(engine: Engine, failure: str) -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolExhausted) as exc:
        raise LedgerBusy(f"ledger {_name(engine)} {failure}; it is tried again") from exc
    except DatabaseError as exc:
        if not _says_damage(exc):
            raise
        raise LedgerDamaged(f"ledger {_name(engine)} is damaged; {REMEDY}") from exc


class Question:
    """A query for one row that is asked for every Instance: handed to the driver as it is, outside a transaction.

    A transaction of SQLAlchemy takes ten times as long as such a query.

    Parameters
    ----------
    statement
        Every value that it compares with is a named parameter.
    """

    def __init__(self, engine: Engine, statement: Select[Any]) -> None:
        self._engine = engine
        compiled = statement.compile(dialect=engine.dialect)
        self._text = str(compiled)
        self._places: Sequence[str] | None = getattr(compiled, "positiontup", None)

    def ask(self, **parameters: str) -> Sequence[Any] | None:
        """Return the row, or None when there is none.

        Raises
        ------
        LedgerBusy
            If the ledger does not answer.
        """
        values = parameters if self._places is None else [parameters[place] for place in self._places]
        with _meaning(self._engine, "did not answer"):
            connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(self._text, values)
            row: Sequence[Any] | None = cursor.fetchone()
        except self._engine.dialect.loaded_dbapi.Error as exc:
            connection.invalidate()
            raise LedgerBusy(f"ledger {_name(self._engine)} did not answer; it is tried again") from exc
        finally:
            connection.close()
        return row


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
        LedgerDamaged
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
        LedgerDamaged
            If its file is damaged.
        """
        read_only = {READ_ONLY: True}
        with (
            _meaning(self._engine, "did not answer"),
            self._engine.connect().execution_options(**read_only) as connection,
        ):
            yield connection
