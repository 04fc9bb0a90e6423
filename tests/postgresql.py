"""A real PostgreSQL for the tests: a cluster in a folder of its own, on a port of the system's choice, ended by pid."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg
from sqlalchemy import make_url

from tests.peers import absent, free_port, wait_until

# Debian leaves the server's programs off the path, one folder a version.
DEBIAN = Path("/usr/lib/postgresql")
# The server refuses to run as root.
ACCOUNT = "postgres"
SUPERUSER = "radnode"
LIMIT_S = 60.0
# Safe against everything that kills a process, and not against the loss of power, which no test simulates here.
QUICK = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB", "-c", "max_wal_size=256MB")


def require_postgres() -> Path:
    """Return the folder of PostgreSQL's programs; without it the test is skipped by name, or failed where CI=true."""
    found = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which("postgres")
    if program is None:
        absent("postgres is not installed")
    return Path(program).parent


class Postgres:
    """One server with its cluster, empty at its start; a context manager.

    Parameters
    ----------
    options
        Of the server's command line, beside those that every test wants.
    """

    def __init__(self, *options: str) -> None:
        self._programs = require_postgres()
        # Not below pytest's own folder, which no other account may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="radnode-postgres-"))
        self._options = options
        self._secret = secrets.token_hex(8)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Postgres":
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """Return what `ledger.url` says of `database`."""
        return f"postgresql+psycopg://{SUPERUSER}:{self._secret}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start the server on the same cluster and port, and wait until it takes connections."""
        places = ("-D", str(self._cluster), "-p", str(self._port), "-k", str(self.folder))
        command = [str(self._programs / "postgres"), *places, "-c", "listen_addresses=127.0.0.1"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *QUICK, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account(),
            )
        wait_until(self._is_serving, what=f"PostgreSQL serves; see {self.folder}/server.log", limit_s=LIMIT_S)

    def stop(self) -> None:
        """End every session and the server, as a restart of its service does."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server, -9, with all its sessions."""
        self._end(signal.SIGKILL)

    def execute(self, statement: str, *, database: str = "postgres") -> list[Any]:
        """Run one statement outside of a transaction, and return its rows."""
        return run_sql(self.url(database), statement)

    @property
    def _cluster(self) -> Path:
        return self.folder / "cluster"

    def _make_cluster(self) -> None:
        password = self.folder / "password"
        password.write_text(self._secret)
        account = self._account()
        for path in (self.folder, password):
            if account:
                shutil.chown(path, ACCOUNT, ACCOUNT)
        options = ("--no-sync", "--auth=password", "--encoding=UTF8", "--locale=C", "--no-instructions")
        subprocess.run(
            [self._programs / "initdb", "-D", self._cluster, "-U", SUPERUSER, f"--pwfile={password}", *options],
            check=True,
            capture_output=True,
            timeout=LIMIT_S,
            **account,
        )

    def _is_serving(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        sessions = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.send_signal(how)
        self._process.wait(LIMIT_S)
        self._process = None
        # They notice the death of their parent, and let go of the shared memory that the next start wants.
        psutil.wait_procs(sessions, LIMIT_S)

    def _account(self) -> dict[str, Any]:
        return {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}


def run_sql(url: str, statement: str) -> list[Any]:
    """Run one statement in the database that `url` names, outside of a transaction, and return its rows."""
    with session(url) as connection:
        return ask(connection, statement)


@contextmanager
def session(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """Give a connection to the database that `url` names, on which each statement is a transaction."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg.connect(plain, autocommit=True, connect_timeout=5)) as connection:
        yield connection


def ask(connection: "psycopg.Connection[Any]", statement: str) -> list[Any]:
    """Run one statement and return its rows."""
    cursor = connection.execute(statement.encode())
    return cursor.fetchall() if cursor.description else []
