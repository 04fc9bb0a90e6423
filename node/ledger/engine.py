"""Opening the ledger: pragmas, schema version, and what its failures mean."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from node.errors import LedgerBusy, LedgerDamaged, LedgerUnusable
from node.ledger.placement import begin_placing, forget_touched, has_unplaced, place_some, place_touched
from node.ledger.postgresql import NAME, SNAPSHOT, is_about_the_row, open_postgresql

__all__ = [
    "Desk",
    "Engine",
    "Question",
    "find_damage",
    "has_schema",
    "meaning",
    "migrate",
    "newest_schema",
    "open_engine",
    "require_sound",
    "require_whole",
    "schema_of",
]

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
READ_ONLY = "radnode_read_only"
REMEDY = "stop radnode, then restore the file, or make it anew by `radnode ledger rebuild`"
# An extended result code of SQLite has the primary one in its lowest byte.
PRIMARY_CODE = 0xFF
# A server that was started anew takes connections after some tenths of a second.
ASK_AGAIN_S = 0.2
# So many damages are told; SQLite looks for no more.
MAX_DAMAGES = 20


def open_engine(url: str, *, busy_timeout_s: float) -> Engine:
    """Return an Engine on which each transaction is durable once it is committed.

    SQLite runs in WAL mode with ``synchronous=FULL``: a commit is on disk before it returns. PostgreSQL's own
    `synchronous_commit` is taken as it is, unless it is off.

    Raises
    ------
    LedgerUnusable
        If `url` names no database that this installation knows.
    """
    try:
        if make_url(url).get_backend_name() == NAME:
            return open_postgresql(make_url(url), busy_timeout_s=busy_timeout_s, read_only=READ_ONLY)
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


def migrate(engine: Engine) -> None:
    """Bring the schema to this version.

    Raises
    ------
    LedgerUnusable
        If the ledger cannot be opened, or was written by a newer radnode.
    LedgerBusy
        If its volume is full, or fails: nobody has to do anything to radnode.
    LedgerDamaged
        If its file is no ledger any more.
    """
    with _opening(engine):
        if schema_of(engine) != newest_schema():
            _migrate(engine)
        # Who else opens the ledger meanwhile takes part; what is left when a process ends is placed by the next.
        while _place_some(engine):
            pass


def has_schema(engine: Engine) -> bool:
    """Return whether a ledger was begun here, of whatever version; none is made.

    Raises
    ------
    LedgerUnusable, LedgerBusy, LedgerDamaged
        As `migrate`.
    """
    # SQLite makes each file that it opens.
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        return False
    with _opening(engine):
        return bool(schema_of(engine))


@contextmanager
def _opening(engine: Engine) -> Iterator[None]:
    """Turn what the database says when it is opened into an error of ours."""
    try:
        yield
    except DBAPIError as exc:
        what = f"ledger {_name(engine)} cannot be opened ({type(exc.orig).__name__})"
        if _says_damage(exc):
            raise LedgerDamaged(f"{what}; {REMEDY}") from exc
        if _says_full(exc):
            raise LedgerBusy(f"{what}; free space on its volume, then it is opened") from exc
        raise LedgerUnusable(
            f"{what}; check rights and space of its folder, who else holds it locked, or restore the file"
        ) from exc


def _migrate(engine: Engine) -> None:
    # Here: few processes have anything to migrate, and Alembic is large.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    found = schema_of(engine)
    if found and found not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise LedgerUnusable(
            f"ledger {_name(engine)} has schema {found}, which this radnode does not know; run the newer radnode"
        )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        begin_placing(connection)


def _place_some(engine: Engine) -> bool:
    """Place some Studies of an earlier version, so that others may write in between; return whether some are left."""
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        if not has_unplaced(connection):
            return False
    with engine.begin() as connection:
        return place_some(connection)


def newest_schema() -> str:
    """Return the version of the schema that this radnode writes; each migration's file says which it makes."""
    return max(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))


def schema_of(engine: Engine) -> str:
    """Return the version of the schema; empty where there is none."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")


def require_sound(engine: Engine) -> None:
    """Return after the ledger took a write, and every page of one in a file was looked at.

    PostgreSQL looks after its own pages.

    Raises
    ------
    LedgerUnusable
        If it cannot be written.
    LedgerBusy
        If its volume is full, or fails.
    LedgerDamaged
        If a page is damaged.
    """
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    except DBAPIError as exc:
        if _says_damage(exc):
            raise LedgerDamaged(f"ledger {_name(engine)} is damaged ({exc.orig}); {REMEDY}") from exc
        if _says_full(exc):
            raise LedgerBusy(f"ledger {_name(engine)} cannot be written; free space on its volume") from exc
        raise LedgerUnusable(
            f"ledger {_name(engine)} cannot be written; check rights and space of its folder, and who else holds it "
            "locked"
        ) from exc
    require_whole(engine)


def require_whole(engine: Engine) -> None:
    """Return after every page of a ledger in a file was looked at.

    Raises
    ------
    LedgerDamaged
        If a page is damaged.
    """
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
    """Return whether it is SQLite's own class for a malformed file; rights and locks have a class below it."""
    return type(exc.orig) is sqlite3.DatabaseError


def _says_full(exc: DBAPIError) -> bool:
    """Return whether SQLite's volume has no room, or fails: what is over some day, and is no fault of the settings."""
    code = getattr(exc.orig, "sqlite_errorcode", 0)
    return code & PRIMARY_CODE in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def meaning(engine: Engine, failure: str) -> Iterator[None]:
    """Turn what the database says into an error of ours; `failure` is what it did, for people."""
    try:
        yield
    except (OperationalError, PoolExhausted) as exc:
        raise LedgerBusy(f"ledger {_name(engine)} {failure}; it is tried again") from exc
    except DBAPIError as exc:
        if _says_damage(exc):
            raise LedgerDamaged(f"ledger {_name(engine)} is damaged; {REMEDY}") from exc
        if engine.dialect.name != NAME or is_about_the_row(exc):
            raise
        # Read-only after a failover, rights withdrawn, a session that was ended: no row is to blame.
        why = type(exc.orig).__name__
        raise LedgerBusy(f"ledger {_name(engine)} {failure} ({why}); see its log; it is tried again") from exc


class Question:
    """A query for one row that is asked for every Instance: handed to the driver as it is, outside a transaction.

    A transaction of SQLAlchemy takes ten times as long as such a query.

    Parameters
    ----------
    statement
        Every value that it compares with is a named parameter.
    patience_s
        So long a server that is started anew is waited for, and who asks with it; SQLite waits by itself.
    """

    def __init__(self, engine: Engine, statement: Select[Any], *, patience_s: float = 0.0) -> None:
        self._engine = engine
        self._patience_s = patience_s if engine.dialect.name == NAME else 0.0
        # Who asks while it has been away for longer is told at once.
        self._away_since_s: float | None = None
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
        while True:
            try:
                row = self._ask(values)
            except LedgerBusy:
                if self._away_since_s is None:
                    self._away_since_s = monotonic()
                if monotonic() - self._away_since_s >= self._patience_s:
                    raise
                sleep(ASK_AGAIN_S)
            else:
                self._away_since_s = None
                return row

    def _ask(self, values: Mapping[str, str] | Sequence[str]) -> Sequence[Any] | None:
        driver_error = self._engine.dialect.loaded_dbapi.Error
        try:
            with meaning(self._engine, "did not answer"):
                connection = self._engine.raw_connection()
        except driver_error as exc:
            raise LedgerBusy(f"ledger {_name(self._engine)} takes no connection; it is tried again") from exc
        try:
            cursor = connection.cursor()
            cursor.execute(self._text, values)
            row: Sequence[Any] | None = cursor.fetchone()
        except driver_error as exc:
            connection.invalidate()
            raise LedgerBusy(f"ledger {_name(self._engine)} did not answer; it is tried again") from exc
        finally:
            connection.close()
        return row


class Desk:
    """What every room of the ledger shares: a transaction to write in, and one to read in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._view = {READ_ONLY: True, **(SNAPSHOT if engine.dialect.name == NAME else {})}

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
        with meaning(self._engine, "did not take the transaction"), self._engine.begin() as connection:
            forget_touched(connection)
            yield connection
            place_touched(connection)

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
        with (
            meaning(self._engine, "did not answer"),
            self._engine.connect().execution_options(**self._view) as connection,
        ):
            yield connection
