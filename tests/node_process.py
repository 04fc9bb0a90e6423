"""A node as a user runs it: `python -m node up` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import psutil

from node.accounts.opening import open_registry
from node.accounts.registry import TokenOrder
from node.clock import utc_now
from node.domain.account import Right
from node.ledger.engine import Engine
from node.ledger.opening import open_ledger
from node.ledger.views import LedgerView, StudyStory
from node.peers.peer import Peer
from node.settings.loading import load_settings
from tests.ledgers import SERVER_VARIABLE, copy_ledger
from tests.peers import wait_until

ADDRESS = re.compile(r"receives DICOM as (?P<aet>\S+) on (?P<host>[\d.]+):(?P<port>\d+)")
STOP_TIMEOUT_S = 60.0
STORE = "[store]\n"
# Off, so that it costs nothing where it is not looked at, and no two nodes ask for one port.
NO_WEB = "[web]\nport = 0\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a node's process is started, where that is not as a user does it.

    Attributes
    ----------
    verb
        ``up``, or ``serve`` for a node without a worker.
    prefix
        A program and its arguments that start the node in their turn, such as ``prlimit --nofile=64``.
    environment
        Variables beside those of this process.
    """

    verb: str = "up"
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


AS_A_USER = Launch()


class NodeProcess:
    """One `radnode up` with its worker and its broker; a context manager that ends all of them.

    Parameters
    ----------
    folder
        Holds settings, data and log; the same folder again is the same node after a restart.
    settings
        TOML text; `node.port` and `node.data_dir` are set here.
    node_keys
        Further lines of the table ``[node]``.
    launch
        What else there is to its start.
    """

    def __init__(
        self,
        folder: Path,
        settings: str,
        *,
        port: int = 0,
        node_keys: str = "",
        launch: Launch = AS_A_USER,
    ) -> None:
        self.folder = folder
        self._launch = launch
        self.file = folder / "settings.toml"
        head = f'[node]\nport = {port}\ndata_dir = "{folder / "data"}"\n{node_keys}\n'
        head += f"{'' if '[web]' in settings else NO_WEB}{STORE}reserve_bytes = 0\n\n"
        self.file.write_text(_on_ledger(head + settings, folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._view: LedgerView | None = None
        self._engine: Engine | None = None
        self.peer = Peer(aet="RADNODE", host="127.0.0.1", port=0)

    def __enter__(self) -> "NodeProcess":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it says where it listens."""
        self.spawn()
        output = self.folder / "output.txt"
        found = wait_until(lambda: ADDRESS.search(output.read_text()), what="the node's address", limit_s=60.0)
        self.peer = Peer(aet=found["aet"], host=found["host"], port=int(found["port"]))

    def spawn(self) -> None:
        """Start it, and wait for nothing."""
        with (self.folder / "output.txt").open("wb") as out, (self.folder / "node.log").open("ab") as log:
            verb, prefix = self._launch.verb, self._launch.prefix
            command = [*prefix, sys.executable, "-m", "node", verb, "--settings", str(self.file)]
            environment = {**plain_environment(), **self._launch.environment}
            self._process = subprocess.Popen(command, stdout=out, stderr=log, env=environment)

    @property
    def process(self) -> psutil.Process:
        """The node's own process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """With what the node's own process has ended; None before its end."""
        return None if self._process is None else self._process.poll()

    @property
    def view(self) -> LedgerView:
        """The ledger, as another process sees it."""
        if self._view is None:
            self._engine = open_ledger(load_settings(self.file))
            self._view = LedgerView(self._engine)
        return self._view

    def token(self, *scopes: Right) -> str:
        """Return a new token of this node, for everything unless `scopes` are given."""
        assert self.view is not None
        assert self._engine is not None
        registry = open_registry(self._engine, clock=utc_now, tell=lambda _event: None)
        order = TokenOrder(name=f"test-{uuid4().hex}", scopes=frozenset(scopes) or frozenset(Right))
        return registry.add_token(order, by="test")

    def child(self, *words: str) -> psutil.Process:
        """Return the child whose command line holds one of `words`."""

        def find() -> psutil.Process | None:
            # A worker before its own children.
            children = [*self.process.children(), *self.process.children(recursive=True)]
            return next((c for c in children if any(w in " ".join(c.cmdline()) for w in words)), None)

        return wait_until(find, what=f"a child called {words}", limit_s=60.0)

    def kill(self) -> int:
        """Kill the node's process as the kernel would, -9; returns its exit code."""
        assert self._process is not None
        self._process.kill()
        return self._process.wait()

    def kill_all(self) -> None:
        """Kill the node's process and everything that it has started, none of which can tell the others."""
        doomed = self.process.children(recursive=True)
        self.kill()
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, STOP_TIMEOUT_S)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        if self._engine is not None:
            self._engine.dispose()
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        return code

    def wait_for_study(self, uid: str, holds: Callable[[StudyStory], Any], *, limit_s: float = 180.0) -> StudyStory:
        """Return the Study's story as soon as `holds` of it."""

        def look() -> StudyStory | None:
            found = [story for story in self.view.list_studies(limit=1000) if story.study_instance_uid == uid]
            return found[0] if found and holds(found[0]) else None

        return wait_until(look, what=f"study {uid}", limit_s=limit_s)


def _on_ledger(settings: str, folder: Path) -> str:
    """Return these settings on the database that the run of tests asks for, where they name none."""
    if SERVER_VARIABLE not in os.environ or "postgresql" in settings:
        return settings
    table = f'[ledger]\nurl = "{copy_ledger(folder)}"\n'
    # A table stands once in a file; what follows the first line of `settings` may belong to the one before.
    return settings.replace("[ledger]\n", table) if "[ledger]\n" in settings else settings.replace(STORE, table + STORE)


def plain_environment() -> Mapping[str, str]:
    """Return the environment without settings of this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RADNODE__")}


def run_radnode(
    *arguments: str | Path, limit_s: float = 300.0, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end and return what it printed."""
    command: Sequence[str] = [sys.executable, "-m", "node", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=limit_s, env=plain_environment(), cwd=cwd, check=False
    )


def destination_table(peer: Peer) -> str:
    """Return the settings that send Results to `peer`."""
    return f'[destinations.pacs]\ntransport = "cstore"\naet = "{peer.aet}"\nhost = "{peer.host}"\nport = {peer.port}\n'


QUICK = """
[assembly]
quiet_seconds = 0.5

[dispatch]
lease_seconds = 10.0
heartbeat_seconds = 1.0
retry_seconds = 0.5

[delivery]
first_retry_seconds = 0.5
max_retry_seconds = 2.0

"""


def command_words(process: psutil.Process) -> list[str]:
    """Return the words of its command line; one that was forked has written its own, padded, over another."""
    return " ".join(process.cmdline()).split()
