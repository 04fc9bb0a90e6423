"""A client of STOW-RS that has its requests ready as bytes before the clock runs, and notes how long each takes.

``python -m node.benchmark.timed_poster PORT PARTS FILE…`` connects, is answered once, says ``ready``, waits for a line,
sends requests of PARTS files each on its one connection, and prints a `Timing` as JSON.
"""

import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from node.benchmark.timed_sender import send_on_command, write_timing
from node.errors import DestinationRefused

URL = "/dicom-web/studies"
BOUNDARY = "between-the-instances"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
HEAD = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()
LIMIT_S = 300.0
# Of a node that lives for one measurement; whoever asks for none does not look at it.
TOKEN = "token-of-a-node-that-is-measured"  # noqa: S105 it guards nothing


class Poster:
    """One connection; every request on it must store everything."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        # Some listen before they are ready; any answer will do.
        self._connection.request("GET", "/healthz")
        self._connection.getresponse().read()

    def store(self, message: Sequence[bytes]) -> int:
        """Send one request, and return the status of its response.

        Raises
        ------
        DestinationRefused
            If it is another than that everything was stored.
        """
        length = str(sum(map(len, message)))
        headers = {"Content-Type": CONTENT_TYPE, "Content-Length": length, "Accept": "application/dicom+json"}
        headers["Authorization"] = f"Bearer {TOKEN}"
        self._connection.request("POST", URL, body=message, headers=headers)
        response = self._connection.getresponse()
        response.read()
        if response.status != HTTPStatus.OK:
            raise DestinationRefused(f"a request was answered with {response.status}; the load is correct")
        return response.status

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def _messages(files: Sequence[Path], parts: int) -> list[list[bytes]]:
    groups = [files[begin : begin + parts] for begin in range(0, len(files), parts)]
    return [[*(HEAD + file.read_bytes() for file in group), END] for group in groups]


def main() -> None:
    """Send the files that the command line names."""
    port, parts, files = int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    messages, poster = _messages(files, parts), Poster(port)
    timing = send_on_command(poster, messages)
    poster.close()
    write_timing(timing)


if __name__ == "__main__":
    main()
