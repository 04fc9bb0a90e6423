"""A receiver that knows nothing of DICOM: what Python and this machine need for the bytes alone.

``python -m node.benchmark.bare_receiver WAY DURABILITY FOLDER INSTANCES BYTES`` sends to itself from a process of its
own, and prints an object with the ``seconds`` and the ``cpu_s`` of receiving.
"""

import fcntl
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time

from blake3 import blake3

LOOPBACK = "127.0.0.1"
BUFFER_BYTES = 512 * 1024
PIPE_BYTES = 1024 * 1024
DONE = b"."
SYNCED, UNSYNCED = "synced", "unsynced"

# Moves so many bytes from a connection to a file.
Mover = Callable[[socket.socket, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    move: Mover
    is_durable: bool
    folder: Path
    instances: int
    size_bytes: int


def _copy(connection: socket.socket, file: int, length: int) -> None:
    for piece in _pieces(connection, length):
        os.write(file, piece)


def _copy_and_digest(connection: socket.socket, file: int, length: int) -> None:
    digest = blake3()
    for piece in _pieces(connection, length):
        digest.update(piece)
        os.write(file, piece)
    digest.digest()


def _splice_and_digest(connection: socket.socket, file: int, length: int) -> None:
    """Never let the bytes into this process on their way to the file; read them there."""
    outlet, inlet = os.pipe()
    fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    left = length
    while left:
        count = os.splice(connection.fileno(), inlet, left)
        left -= count
        while count:
            count -= os.splice(outlet, file, count)
    os.close(outlet)
    os.close(inlet)
    with mmap.mmap(file, length, prot=mmap.PROT_READ) as content:
        blake3(content).digest()


def _pieces(connection: socket.socket, length: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(length, BUFFER_BYTES)))
    while length:
        count = connection.recv_into(buffer[:length])
        yield buffer[:count]
        length -= count


WAYS: Mapping[str, Mover] = {
    "read, written": _copy,
    "read, BLAKE3, written": _copy_and_digest,
    "spliced, BLAKE3": _splice_and_digest,
}


def _send(port: int, turn: _Turn) -> None:
    content = os.urandom(turn.size_bytes)
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(turn.instances):
            connection.sendall(content)
            connection.recv(len(DONE))


def _receive(connection: socket.socket, turn: _Turn) -> None:
    for number in range(turn.instances):
        _keep(connection, turn, turn.folder / str(number))


def _keep(connection: socket.socket, turn: _Turn, path: Path) -> None:
    passing = path.with_suffix(".part")
    file = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        turn.move(connection, file, turn.size_bytes)
        if turn.is_durable:
            os.fdatasync(file)
    finally:
        os.close(file)
    passing.rename(path)
    connection.sendall(DONE)


def main() -> None:
    """Receive as the command line says."""
    way, durability, folder, instances, size_bytes = sys.argv[1:]
    turn = _Turn(
        move=WAYS[way],
        is_durable=durability == SYNCED,
        folder=Path(folder),
        instances=int(instances),
        size_bytes=int(size_bytes),
    )
    with socket.create_server((LOOPBACK, 0)) as listener:
        sender = os.fork()
        if not sender:
            _send(listener.getsockname()[1], turn)
            return
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began_s, began_cpu_s = monotonic(), process_time()
        _receive(connection, turn)
        figures = {"seconds": monotonic() - began_s, "cpu_s": process_time() - began_cpu_s}
    os.waitpid(sender, 0)
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
