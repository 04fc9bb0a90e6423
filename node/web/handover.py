"""Connections that store, shared out among web processes: the one that listens passes them on, the others take them.

A connection is passed on where a request begins that stores; whatever comes over it later is served by the same
process. So everything that people look at is served by one process, whose memory they share.
"""

import socket
from collections.abc import Sequence
from itertools import cycle

from node.web.lane import MAX_BEGUN_BYTES
from node.web.places import DICOM_WEB

STORES = f"POST {DICOM_WEB}/studies".encode()


class Handover:
    """The way to the other web processes.

    Parameters
    ----------
    lanes
        Our end of the lane to each of them.
    """

    def __init__(self, lanes: Sequence[socket.socket]) -> None:
        # This process takes its turn, too, and the first.
        self._turns = cycle([None, *lanes])

    def pass_on(self, connection: int, begun: bytes) -> bool:
        """Return whether another process serves the connection now, as it does with every one but its own share.

        Parameters
        ----------
        connection
            Descriptor of its socket, which stays open here.
        begun
            What was read of its next request, at most `MAX_BEGUN_BYTES`.
        """
        lane = next(self._turns)
        if lane is None:
            return False
        try:
            socket.send_fds(lane, [begun], [connection])
        except OSError:
            # It has more than it takes, or the message is longer than the kernel allows.
            return False
        return True


def take_over(lane: socket.socket) -> tuple[socket.socket, bytes] | None:
    """Return the next connection that was passed on, with what was read of it; None where none waits.

    Raises
    ------
    EOFError
        If nobody passes anything on any more.
    """
    try:
        begun, descriptors, _, _ = socket.recv_fds(lane, MAX_BEGUN_BYTES, 1)
    except BlockingIOError:
        return None
    if not descriptors:
        raise EOFError
    connection = socket.socket(fileno=descriptors[0])
    connection.setblocking(False)
    return connection, begun
