"""What the gate and its receiver processes tell each other: one message a datagram, with a connection now and then."""

import array
import json
import os
import select
import socket
from dataclasses import asdict, dataclass

from node.errors import Broken

# Every message fits; a longer one would be cut, and is refused.
MAX_MESSAGE_BYTES = 4096
DESCRIPTOR = array.array("i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Gate to receiver: serve the connection that comes along; it came from this address."""

    association_id: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Gate to receiver: whether a connection may become an Association."""

    association_id: str
    is_admitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwanted:
    """Gate to receiver: close a connection that has asked for nothing yet; others need its place."""

    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphaned:
    """Gate to receiver: nothing more comes over this Association, its receiver died; you have what it left."""

    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Gate to receiver: finish your Associations, within so many seconds, and end."""

    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Receiver to gate: send me connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """Receiver to gate: an A-ASSOCIATE-RQ came; may this connection become an Association."""

    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacated:
    """Receiver to gate: this Association is over; its connection may stay until the peer closes it."""

    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Receiver to gate: this connection is over."""

    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Receiver to gate: the ledger has news for the stations."""


Message = Arrived | Answered | Unwanted | Orphaned | Drain | Ready | Requested | Vacated | Ended | Committed
KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (Arrived, Answered, Unwanted, Orphaned, Drain, Ready, Requested, Vacated, Ended, Committed)
}


def encode_message(message: Message) -> bytes:
    """Return `message` as a JSON object whose ``is`` names its kind."""
    return json.dumps({"is": type(message).__name__, **asdict(message)}).encode()


def decode_message(content: bytes) -> Message:
    """Return the message that `encode_message` wrote.

    Raises
    ------
    Broken
        If it is none; gate and receivers are of one version, so nobody else wrote it.
    """
    try:
        fields = json.loads(content)
        return KINDS[fields.pop("is")](**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise Broken("a message between gate and receiver cannot be understood; please report it") from exc


class Channel:
    """One end of a pair of sockets that keep messages apart (``SOCK_SEQPACKET``), so that several threads may send."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self._watch = select.poll()
        self._watch.register(endpoint, select.POLLIN)

    def send(self, message: Message, connection: socket.socket | None = None, *, waits: bool = True) -> None:
        """Send `message`; `connection` becomes the other side's, too, and should be closed here.

        Raises
        ------
        BlockingIOError
            If the other side takes nothing at the moment, and `waits` is False.
        OSError
            If the other side is gone.
        """
        descriptors = array.array("i", () if connection is None else (connection.fileno(),))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        flags = 0 if waits else socket.MSG_DONTWAIT
        self._endpoint.sendmsg([encode_message(message)], ancillary, flags)

    def receive(self, timeout_s: float | None = None) -> tuple[Message, socket.socket | None] | None:
        """Return the next message and what came with it, or None when the other side is gone.

        A connection is missing where the process has no descriptor left for it.

        Raises
        ------
        TimeoutError
            If nothing comes in `timeout_s`.
        Broken
            If what comes is no message.
        """
        if not self._watch.poll(None if timeout_s is None else timeout_s * 1000):
            raise TimeoutError
        while True:
            try:
                content, ancillary, _, _ = self._endpoint.recvmsg(
                    MAX_MESSAGE_BYTES, socket.CMSG_SPACE(DESCRIPTOR.itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:
                # The other side closed with words of ours unread; its own last words still wait.
                continue
            except OSError:
                return None
            break
        if not content:
            return None
        return decode_message(content), _connection_of(ancillary)

    def close(self) -> None:
        """Go away; the other side sees it."""
        self._endpoint.close()


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a channel, for the gate and for a receiver."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _connection_of(ancillary: list[tuple[int, int, bytes]]) -> socket.socket | None:
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    try:
        return socket.socket(fileno=descriptors[0]) if descriptors else None
    except OSError:
        os.close(descriptors[0])
        return None
