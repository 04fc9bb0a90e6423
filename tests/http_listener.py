"""HTTP in tests: a server that keeps what it is told, and a GET."""

import json
import ssl
import urllib.error
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.peers import NO_PROXY


@dataclass
class Listener:
    """An HTTP server that answers with `status`, and keeps what it was told."""

    status: int = 204
    heard: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0


def serve(listener: Listener, tls: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    """Start to listen; whoever asked for it shuts the server down."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            listener.heard.append((self.command, self.path, body))
            listener.headers.append(dict(self.headers))
            self.send_response(listener.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    listener.port = server.server_address[1]
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def get(port: int, path: str) -> tuple[int, str, bytes]:
    """Return status, content type and body."""
    try:
        with NO_PROXY.open(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers["Content-Type"], exc.read()
