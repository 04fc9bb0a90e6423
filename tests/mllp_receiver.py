"""A receiver of HL7 messages on a real socket, which does what the test wants with each message that comes."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

START, END = b"\x0b", b"\x1c\r"
LIMIT_S = 60.0

# What is answered to a message; None: the connection is closed without a word.
Reply = Callable[[str], bytes | None]


def fields(message: str, segment: str, number: int = 1) -> list[str]:
    """Return the fields of a segment, its name at place 0; MSH-2 is at place 1."""
    found = [line for line in message.split("\r") if line.split("|")[0] == segment]
    return found[number - 1].split("|")


def control_id(message: str) -> str:
    """Return Message Control ID (MSH-10)."""
    return fields(message, "MSH")[9]


def acknowledge(code: str = "AA", *, condition: str = "", of: str | None = None) -> Reply:
    """Answer with an acknowledgment code, an error condition of table 0357, and maybe the id of another message."""

    def reply(message: str) -> bytes:
        lines = [
            "MSH|^~\\&|RIS|HOSP|RADNODE||20250114120000||ACK^R01^ACK|ACK1|P|2.5.1",
            f"MSA|{code}|{control_id(message) if of is None else of}",
            *([f"ERR||PID^1^5|{condition}^said by M\u00fcller^HL70357|E||||M\u00fcller"] if condition else []),
        ]
        return ("\r".join(lines) + "\r").encode()

    return reply


def hang_up(_message: str) -> bytes | None:
    """Close the connection instead of an answer; what came is filed all the same."""
    return None


def babble(_message: str) -> bytes:
    """Answer with something that is no message."""
    return b"HTTP/1.1 400 Bad Request"


def say_nothing(_message: str) -> bytes:
    """Leave the connection open, and be silent."""
    return b""


@dataclass
class MllpReceiver:
    """What came, and what is answered: `script` first, then AA to all.

    Attributes
    ----------
    filed
        Message Control ID to the message, each once: what a receiver makes of those that come again.
    """

    script: list[Reply] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    filed: dict[str, str] = field(default_factory=dict)
    connections: int = 0
    port: int = 0

    def serve(self, connection: socket.socket) -> None:
        """Answer what comes on one connection."""
        came = b""
        with connection, suppress(OSError):
            connection.settimeout(LIMIT_S)
            while content := connection.recv(65_536):
                came += content
                while END in came:
                    encoded, _, came = came.partition(END)
                    assert encoded.startswith(START)
                    answer = self._take(encoded.removeprefix(START).decode("utf-8"))
                    if answer is None:
                        return
                    if answer:
                        connection.sendall(START + answer + END)

    def _take(self, message: str) -> bytes | None:
        self.heard.append(message)
        reply = self.script.pop(0) if self.script else acknowledge()
        answer = reply(message)
        if not answer or b"MSA|A" not in answer or b"MSA|AA" in answer:
            self.filed[control_id(message)] = message
        return answer


@contextmanager
def mllp_receiver(*script: Reply, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[MllpReceiver]:
    """Give a receiver that listens on a port of this machine."""
    receiver = MllpReceiver(script=list(script))
    with socket.create_server(("127.0.0.1", port)) as listener:
        receiver.port = listener.getsockname()[1]
        threads: list[Thread] = []
        open_ones: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    receiver.connections += 1
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                    open_ones.append(connection)
                    threads.append(Thread(target=receiver.serve, args=(connection,), daemon=True))
                    threads[-1].start()

        accepting = Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield receiver
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(LIMIT_S)
            for connection in open_ones:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(LIMIT_S)
