"""A lane: the pair of sockets over which one web process passes connections on to another."""

import socket

# So much asyncio reads at a time: the beginning of a request, which goes with its connection.
MAX_BEGUN_BYTES = 256 * 1024
# The kernel counts its own use, too; the usual one holds no such message.
LANE_BYTES = 4 * MAX_BEGUN_BYTES


def open_lane() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a lane: for the process that listens, and for the one to which it leads; none ever waits."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        # Of the lane itself, whoever inherits it; send_fds() and recv_fds() of Python 3.11 heed no flags.
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LANE_BYTES)
    return ends
