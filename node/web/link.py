"""What the node and its web process tell each other: a few words, and that the other side is gone."""

import queue
import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import count

COMMITTED = b"committed"
ASK_RECEIVERS = b"are receivers ready"
YES = b"yes"
NO = b"no"
MAX_WORD_BYTES = 64
# A node that is busy answers within this time; one that is stuck is not ready.
ANSWER_S = 2.0


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a link, for the node and for its web process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def heed(endpoint: socket.socket, *, committed: Callable[[], None], are_receivers_ready: Callable[[], bool]) -> None:
    """Serve the web process at the other end of `endpoint`; returns when it is gone."""
    with endpoint, suppress(OSError):
        while word := endpoint.recv(MAX_WORD_BYTES):
            if word == COMMITTED:
                committed()
            elif word.startswith(ASK_RECEIVERS):
                number = word.removeprefix(ASK_RECEIVERS)
                endpoint.send((YES if are_receivers_ready() else NO) + number)


class Link:
    """The web process's end."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self._numbers = count()
        # By the number of its question: what comes too late is nobody's.
        self._awaited: dict[bytes, queue.SimpleQueue[bytes]] = {}

    def tell_committed(self) -> None:
        """Tell that the ledger has news for the stations; they look for themselves now and then, too."""
        with suppress(OSError):
            self._endpoint.send(COMMITTED, socket.MSG_DONTWAIT)

    def are_receivers_ready(self) -> bool:
        """Return whether the node has a receiver that takes connections."""
        number, answer = b" %d" % next(self._numbers), queue.SimpleQueue[bytes]()
        self._awaited[number] = answer
        try:
            # A node that reads nothing any more is not waited for.
            self._endpoint.send(ASK_RECEIVERS + number, socket.MSG_DONTWAIT)
            return answer.get(timeout=ANSWER_S) == YES
        except (OSError, queue.Empty):
            return False
        finally:
            del self._awaited[number]

    def listen(self) -> None:
        """Return when the node says that it is time to end, or is gone."""
        with suppress(OSError):
            while word := self._endpoint.recv(MAX_WORD_BYTES):
                said, blank, number = word.partition(b" ")
                asker = self._awaited.get(blank + number)
                if asker is not None:
                    asker.put(said)
