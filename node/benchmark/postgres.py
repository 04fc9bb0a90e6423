"""A PostgreSQL of its own for one benchmark, as Debian packages it: a cluster in a folder, ended with the block."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from node.benchmark.receivers import free_port
from node.children import end_with_parent
from node.errors import Broken, NotFound

# Debian leaves the server's programs off the path, one folder a version.
DEBIAN = Path("/usr/lib/postgresql")
# The server refuses to run as root.
ACCOUNT = "postgres"
SUPERUSER = "radnode"
LIMIT_S = 60.0
LOOK_EVERY_S = 0.1


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises
    ------
    NotFound
        If it is not installed.
    """
    found = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which("postgres")
    if program is None:
        raise NotFound("PostgreSQL is not installed here, and nothing is measured without it; install postgresql")
    return Path(program).parent


@contextmanager
def open_postgres() -> Iterator[str]:
    """Run a server with an empty database, as it is shipped; gives what `ledger.url` says of it.

    Raises
    ------
    NotFound
        If it is not installed.
    Broken
        If it does not start.
    """
    programs, port, secret = find_postgres(), free_port(), secrets.token_hex(8)
    # Not below a folder of ours, which no other account may enter.
    folder = Path(tempfile.mkdtemp(prefix="radnode-bench-postgres-"))
    try:
        _make_cluster(programs, folder, secret)
        places = ("-D", str(folder / "cluster"), "-p", str(port), "-k", str(folder))
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [str(programs / "postgres"), *places, "-c", "listen_addresses=127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, os.getpid()),
                **_account(),
            )
        try:
            _wait_until_ready(programs, folder, process, port)
            yield f"postgresql+psycopg://{SUPERUSER}:{secret}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_cluster(programs: Path, folder: Path, secret: str) -> None:
    password = folder / "password"
    password.write_text(secret, encoding="ascii")
    if _account():
        for path in (folder, password):
            shutil.chown(path, ACCOUNT, ACCOUNT)
    options = ("--auth=password", "--encoding=UTF8", "--locale=C", "--no-instructions")
    command = (programs / "initdb", "-D", folder / "cluster", "-U", SUPERUSER, f"--pwfile={password}", *options)
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S, **_account())


def _wait_until_ready(programs: Path, folder: Path, process: "subprocess.Popen[bytes]", port: int) -> None:
    question = (programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port))
    until_s = monotonic() + LIMIT_S
    while subprocess.run(question, capture_output=True, check=False).returncode != 0:
        if monotonic() > until_s or process.poll() is not None:
            raise Broken(f"PostgreSQL does not start; see {folder}/server.log")
        sleep(LOOK_EVERY_S)


def _account() -> Mapping[str, Any]:
    return {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}
