"""The metrics on a port of their own, on the loopback address."""

import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from node.errors import NodeError, PortInUse
from node.metrics.exposition import CONTENT_TYPE

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PATH = "/metrics"
# A client that says nothing, or takes nothing.
CLIENT_TIMEOUT_S = 10.0


class MetricsServer:
    """Answers GET of `PATH` on the loopback address.

    Parameters
    ----------
    read
        Returns the text; a NodeError is answered 503.
    """

    def __init__(self, read: Callable[[], bytes], *, port: int) -> None:
        self._read = read
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Begin to answer; returns the port.

        Raises
        ------
        PortInUse
            If another process has it.
        """
        try:
            self._server = _Server((LOOPBACK, self._port), _handler_of(self._read))
        except OSError as exc:
            raise PortInUse(
                f"{LOOPBACK}:{self._port} is taken ({exc.strerror}); end who listens there, or change metrics.port"
            ) from exc
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_peer: object) -> None:
        # The library's own words go to standard error, as no JSON.
        error = sys.exception()
        if isinstance(error, ConnectionError | TimeoutError):
            logger.debug("metrics not taken")
        else:
            logger.error("metrics broken", exc_info=error)


def _handler_of(read: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self._answer(HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n", "text/plain")
                return
            try:
                self._answer(HTTPStatus.OK, read(), CONTENT_TYPE)
            except NodeError as exc:
                logger.warning("metrics not read", extra={"reason_code": exc.code})
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{exc.code}\n".encode(), "text/plain")

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: it is asked every few seconds."""

    return Handler
