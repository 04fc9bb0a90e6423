"""500 hostile connections held from one address, while a listed modality associates and stores."""

import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from threading import Event, Thread
from time import monotonic

from tests.instances import ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import STORAGE_ID, STORE_RSP, Response, Wire, associate_rq, message, store_rq
from tests.peers import wait_until

# As shipped.
NODE_KEYS = ""
HOSTILE_COUNT = 500
# The whole of 127.0.0.0/8 is the loopback.
HOSTILE_ADDRESS, GOOD_ADDRESS = "127.0.0.2", "127.0.0.3"
# What RELIABILITY promises: associated so soon, and the others gone so soon after they have connected.
ASSOCIATED_S = 1.0
GONE_S = 30.0
DRIBBLE_S = 0.5
WHOLE = encode(ct_slice())
REQUEST = associate_rq()
HTTP = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"
# What each of them says at first; those of `SLOW` then go on byte by byte.
SILENT, HALF, MALFORMED, SLOW = b"", REQUEST[:100], HTTP, REQUEST[:1]


@dataclass(slots=True, kw_only=True)
class Stranger:
    """One hostile connection.

    Attributes
    ----------
    spoken
        Bytes that it has sent.
    gone_s
        How long after its connection the node has closed it; None while it is held.
    """

    first_words: bytes
    connection: socket.socket
    begun_s: float = field(default_factory=monotonic)
    spoken: int = 0
    gone_s: float | None = None


class Crowd:
    """Hostile peers that never close a connection, in one thread.

    Parameters
    ----------
    comes_again
        Whether whoever is turned out connects anew.
    """

    def __init__(self, node: NodeProcess, *, address: str, comes_again: bool) -> None:
        self._peer = (node.peer.host, node.peer.port)
        self._address = address
        self._comes_again = comes_again
        self._selector = selectors.DefaultSelector()
        self._is_over = Event()
        self.is_complete = Event()
        self.strangers: list[Stranger] = []
        self._thread = Thread(target=self._run)

    def start(self) -> None:
        """Return when all of them have connected."""
        self._thread.start()
        assert self.is_complete.wait(GONE_S)

    def stop(self) -> None:
        """Close what is left."""
        self._is_over.set()
        self._thread.join()
        for stranger in self.strangers:
            stranger.connection.close()
        self._selector.close()

    def held(self) -> list[Stranger]:
        """Return those whom the node has not closed yet."""
        return [stranger for stranger in self.strangers if stranger.gone_s is None]

    def _run(self) -> None:
        for _, first_words in zip(range(HOSTILE_COUNT), cycle((SILENT, HALF, MALFORMED, SLOW)), strict=False):
            self._connect(first_words)
        self.is_complete.set()
        while not self._is_over.is_set():
            for key, _ in self._selector.select(DRIBBLE_S / 5):
                self._hear(key.data)
            self._dribble()

    def _connect(self, first_words: bytes) -> None:
        connection = socket.create_connection(self._peer, source_address=(self._address, 0))
        stranger = Stranger(first_words=first_words, connection=connection)
        connection.setblocking(False)
        self.strangers.append(stranger)
        self._selector.register(connection, selectors.EVENT_READ, stranger)
        self._say(stranger, first_words)

    def _say(self, stranger: Stranger, words: bytes) -> None:
        try:
            stranger.spoken += stranger.connection.send(words)
        except OSError:
            self._see_off(stranger)

    def _hear(self, stranger: Stranger) -> None:
        try:
            heard = stranger.connection.recv(4096)
        except ConnectionError:
            heard = b""
        if not heard:
            self._see_off(stranger)

    def _see_off(self, stranger: Stranger) -> None:
        if stranger.gone_s is None:
            stranger.gone_s = monotonic() - stranger.begun_s
            self._selector.unregister(stranger.connection)
            stranger.connection.close()
            if self._comes_again and not self._is_over.is_set():
                self._connect(stranger.first_words)

    def _dribble(self) -> None:
        now_s = monotonic()
        for stranger in self.held():
            if stranger.first_words is SLOW and now_s - stranger.begun_s > stranger.spoken * DRIBBLE_S:
                self._say(stranger, REQUEST[stranger.spoken : stranger.spoken + 1])


@contextmanager
def crowd(node: NodeProcess, *, address: str, comes_again: bool) -> Iterator[Crowd]:
    gathered = Crowd(node, address=address, comes_again=comes_again)
    try:
        gathered.start()
        yield gathered
    finally:
        gathered.stop()


def store_from(address: str, node: NodeProcess) -> float:
    """Store an Instance, and return how long it took to associate, seconds."""
    begun_s = monotonic()
    with socket.create_connection((node.peer.host, node.peer.port), source_address=(address, 0)) as connection:
        wire = Wire(connection)
        wire.associate()
        associated_s = monotonic() - begun_s
        wire.send(message(STORAGE_ID, store_rq(), WHOLE))
        assert wire.answer() == Response(STORE_RSP, 1, 0)
        wire.release()
        return associated_s


def test_listed_modality_associates_beside_500_that_hold_their_connections(node: NodeProcess) -> None:
    """Also from their own address; and all of them are gone in time."""
    with crowd(node, address=HOSTILE_ADDRESS, comes_again=False) as strangers:
        assert store_from(GOOD_ADDRESS, node) < ASSOCIATED_S
        assert store_from(HOSTILE_ADDRESS, node) < ASSOCIATED_S
        wait_until(lambda: not strangers.held(), what="the last of them is gone", limit_s=GONE_S)
        assert max(stranger.gone_s or GONE_S for stranger in strangers.strangers) < GONE_S


def test_listed_modality_associates_beside_500_that_come_again_at_once(node: NodeProcess) -> None:
    """Whoever is turned out stands at the door again; another address is served all the same."""
    with crowd(node, address=HOSTILE_ADDRESS, comes_again=True) as strangers:
        for _ in range(5):
            store_from(GOOD_ADDRESS, node)
        assert len(strangers.strangers) > HOSTILE_COUNT
