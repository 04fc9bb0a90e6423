"""What is PostgreSQL's own: how it is reached, who writes, and whose mistake an error is."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["NAME", "SNAPSHOT", "is_about_the_row", "open_postgresql"]

NAME = "postgresql"
DRIVER = "postgresql+psycopg"
# As an option of a connection: who reads sees one state, however many queries it takes.
SNAPSHOT: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
# Any number that no other user of the database takes; this one spells "radnode".
WRITER_LOCK = 0x7261646E6F6465
# Of one process; who finds none free waits. A server takes 100 as shipped, and a node has some five processes.
CONNECTIONS = 6
CONNECT_TIMEOUT_S = 10
# A machine that lost its power holds its locks until the server notices.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 5, 5, 3
UNACKNOWLEDGED_MS = 20_000
# A process that is stopped in the middle of a transaction, or whose machine sleeps, keeps others from writing so long.
STOPPED_MS = 30_000
# insufficient_privilege, undefined_table, undefined_column: not there any more, or not yet.
WITHDRAWN = frozenset({"42501", "42P01", "42703"})
# A server may be set to lose what was committed last.
SYNCHRONOUS = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"


def open_postgresql(url: URL, *, busy_timeout_s: float, read_only: str) -> Engine:
    """Return an Engine on which one writer works at a time, as on SQLite, and whose commits are durable.

    Parameters
    ----------
    read_only
        Option of a connection that takes no turn.
    """
    engine = create_engine(
        url.set(drivername=DRIVER),
        connect_args=_arguments(url, busy_timeout_s),
        # Parameters are patients' attributes; no text of an error may quote them.
        hide_parameters=True,
        # A writer must see what was committed while it waited for its turn.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=busy_timeout_s,
    )

    @event.listens_for(engine, "connect")
    def _be_durable(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.execute(SYNCHRONOUS)
        connection.commit()

    @event.listens_for(engine, "begin")
    def _wait_for_turn(connection: Connection) -> None:
        # The operations rely on what they read in their transaction.
        if not connection.get_execution_options().get(read_only, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return engine


def is_about_the_row(exc: DBAPIError) -> bool:
    """Return whether a value or a key is to blame; if not, it is the server's state, which a person or time mends."""
    if exc.connection_invalidated:
        return False
    if isinstance(exc, ProgrammingError):
        # Such as a value of a type that the column has not; to ask again would be in vain.
        return getattr(exc.orig, "sqlstate", None) not in WITHDRAWN
    return isinstance(exc, DataError | IntegrityError)


def _arguments(url: URL, busy_timeout_s: float) -> dict[str, Any]:
    """Return what libpq and the server are told of each connection; the site's own `options` count last."""
    told = {
        "lock_timeout": max(1, int(busy_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": STOPPED_MS,
        "tcp_keepalives_idle": KEEPALIVE_IDLE_S,
        "tcp_keepalives_interval": KEEPALIVE_INTERVAL_S,
        "tcp_keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": UNACKNOWLEDGED_MS,
    }
    options = " ".join(f"-c {name}={value}" for name, value in told.items())
    own = url.query.get("options", "")
    return {
        "application_name": "radnode",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": KEEPALIVE_IDLE_S,
        "keepalives_interval": KEEPALIVE_INTERVAL_S,
        "keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": UNACKNOWLEDGED_MS,
        "options": f"{options} {own if isinstance(own, str) else ' '.join(own)}".strip(),
    }
