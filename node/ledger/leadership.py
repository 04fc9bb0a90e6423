"""Who leads: of all nodes on one ledger, one at a time ticks the stations; when it falls silent, another one does."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from node.errors import DataDirInUse, LedgerBusy
from node.ledger.engine import READ_ONLY, Engine, meaning
from node.ledger.postgresql import NAME
from node.lock import FolderLock

__all__ = ["Leadership", "open_leadership"]

logger = logging.getLogger(__name__)

# Any numbers that no other user of the database takes; they spell "radlead" and "radturn".
LEADER_LOCK, TURN_LOCK = 0x7261646C656164, 0x7261647475726E
# Beside the file of the ledger.
LEADER_FILE, TURN_FILE = "leader.lock", "turn.lock"
# A leader asks far oftener. One that was stopped, or whose machine sleeps, loses its place after so long.
SILENCE_S = 60
FORGET_THE_SILENT = (
    f"SELECT set_config('idle_session_timeout', '{SILENCE_S}s', false) "
    "WHERE current_setting('server_version_num')::int >= 140000"
)


class Leadership(Protocol):
    """The right to tick, which ends with this process, however it ends."""

    @property
    def is_shared(self) -> bool:
        """Whether nodes on other machines may be at work on the ledger."""
        ...

    def is_ours(self) -> bool:
        """Return whether this node leads; it does from now on where nobody else did.

        Raises
        ------
        LedgerBusy
            If the ledger does not say.
        """
        ...

    def resign(self) -> None:
        """Let another node lead."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other node is in such a block, and keep others out of it."""
        ...


def open_leadership(engine: Engine) -> Leadership:
    """Return who leads on this ledger; nobody is asked yet."""
    if engine.dialect.name == NAME:
        return SessionLeadership(engine)
    return FileLeadership(Path(str(engine.url.database)).absolute().parent)


class FileLeadership:
    """Leads by a lock on a file beside that of the ledger; LedgerBusy where none can be made there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FolderLock(folder, name=LEADER_FILE)
        # All belts of a node ask: one that finds the file locked by another one would take that for another node.
        self._mutex = Lock()

    @property
    def is_shared(self) -> bool:
        """Whether nodes on other machines may be at work on the ledger."""
        return False

    def is_ours(self) -> bool:
        """Return whether this node leads; it does from now on where nobody else did."""
        with self._mutex:
            if not self._lock.is_held:
                with suppress(DataDirInUse), _as_busy(self._folder):
                    self._lock.hold()
                    logger.info("leadership taken")
            return self._lock.is_held

    def resign(self) -> None:
        """Let another node lead."""
        with self._mutex:
            self._lock.let_go()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other node is in such a block, and keep others out of it."""
        turn = FolderLock(self._folder, name=TURN_FILE)
        with _as_busy(self._folder):
            turn.hold(waits=True)
        try:
            yield
        finally:
            turn.let_go()


@contextmanager
def _as_busy(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise LedgerBusy(f"{folder} takes no lock ({exc.strerror}); see its disk, rights, and open files") from exc


class SessionLeadership:
    """Leads by an advisory lock of one session of PostgreSQL, which lets go of it as soon as it misses the session."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Connection | None = None
        self._leads = False
        # All belts of a node ask.
        self._mutex = Lock()

    @property
    def is_shared(self) -> bool:
        """Whether nodes on other machines may be at work on the ledger."""
        return True

    def is_ours(self) -> bool:
        """Return whether this node leads; it does from now on where nobody else did.

        Raises
        ------
        LedgerBusy
            If the ledger does not answer.
        """
        with self._mutex, meaning(self._engine, "did not answer"):
            try:
                return self._ask()
            except DBAPIError:
                if self._leads:
                    logger.warning("leadership lost")
                self._leave()
                raise

    def resign(self) -> None:
        """Let another node lead."""
        with self._mutex:
            if self._session is not None and self._leads:
                # The end of a session reaches the server later; of one that is dead, it has heard, or will.
                with suppress(DBAPIError):
                    self._session.exec_driver_sql(f"SELECT pg_advisory_unlock({LEADER_LOCK})")
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other node is in such a block, and keep others out of it.

        Raises
        ------
        LedgerBusy
            If the ledger does not answer.
        """
        with meaning(self._engine, "did not answer"):
            session = self._open()
        with session:
            with meaning(self._engine, "did not answer"):
                # What the others do may take longer than any transaction.
                session.exec_driver_sql("SET lock_timeout = 0")
                session.exec_driver_sql(f"SELECT pg_advisory_lock({TURN_LOCK})")
            yield

    def _ask(self) -> bool:
        if self._session is None:
            self._session = self._open()
            self._session.exec_driver_sql(FORGET_THE_SILENT)
        if self._leads:
            self._session.exec_driver_sql("SELECT 1")
        elif self._session.exec_driver_sql(f"SELECT pg_try_advisory_lock({LEADER_LOCK})").scalar_one():
            self._leads = True
            logger.info("leadership taken")
        return self._leads

    def _open(self) -> Connection:
        """Return a session of its own, whose locks end with it; each statement on it is a transaction."""
        session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT", **{READ_ONLY: True})
        # Who took it from the pool afterwards would hold the lock.
        session.detach()
        return session

    def _leave(self) -> None:
        session, self._session, self._leads = self._session, None, False
        if session is not None:
            session.close()
