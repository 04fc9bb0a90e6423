"""A receiver of OTLP/HTTP on a socket: decodes what exporters send by the protocol's own messages, and keeps it."""

import gzip
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from node.ledger.schema import EPOCH


@dataclass
class TraceReceiver:
    """Answers with `status`; takes traces only where that is 200.

    Attributes
    ----------
    bodies
        Every message that was taken, before it was decoded.
    """

    status: int = 200
    asked: int = 0
    bodies: list[bytes] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        """All spans that were taken, in their order."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def take(self, body: bytes) -> None:
        """Keep one message."""
        self.asked += 1
        if self.status == 200:
            self.bodies.append(body)
            self.requests.append(ExportTraceServiceRequest.FromString(body))


def serve_traces(receiver: TraceReceiver) -> ThreadingHTTPServer:
    """Start to listen; whoever asked for it shuts the server down."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(receiver.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    receiver.port = server.server_address[1]
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def at_of(nanoseconds: int) -> datetime:
    """Return the time of a span."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


def facts_of(span: Span) -> dict[str, str | int]:
    """Return the attributes of a span."""
    return {
        entry.key: entry.value.string_value if entry.value.HasField("string_value") else entry.value.int_value
        for entry in span.attributes
    }
