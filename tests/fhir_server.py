"""A small FHIR R4 server: transactions with conditional create and update, each resource validated by the library."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from fhir.resources.R4B.bundle import Bundle

Resource = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is answered instead of the truth.

    Attributes
    ----------
    status
        0: the connection ends without an answer.
    is_taken
        Whether the transaction is carried out all the same.
    """

    status: int
    body: Resource = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    is_taken: bool = False


@dataclass
class FhirServer:
    """What it holds, by type and id, and what it answers to the next requests."""

    script: list[Reply] = field(default_factory=list)
    token: str = ""
    version: str = "4.0.1"
    held: dict[str, dict[str, Resource]] = field(default_factory=dict)
    requests: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """Base of the service."""
        return f"http://127.0.0.1:{self.port}/fhir"

    def all(self, kind: str) -> list[Resource]:
        """Return what it holds of a type."""
        return list(self.held.get(kind, {}).values())

    def take(self, bundle: Resource) -> Reply:
        """Return what is answered to a transaction: what the script says, else the truth."""
        self.requests += 1
        planned = self.script.pop(0) if self.script else None
        if planned is not None and not planned.is_taken:
            return planned
        try:
            done = self.carry_out(bundle)
        except (AssertionError, ValueError) as exc:
            return Reply(status=422, body={"resourceType": "OperationOutcome", "issue": [{"diagnostics": str(exc)}]})
        return Reply(status=200, body=done) if planned is None else planned

    def carry_out(self, bundle: Resource) -> Resource:
        """Carry out a transaction; all or nothing, AssertionError where it is not right."""
        Bundle.model_validate_json(json.dumps(bundle))
        assert bundle["type"] == "transaction"
        ids = {entry["fullUrl"]: self._place(entry) for entry in bundle["entry"]}
        assert len(ids) == len(bundle["entry"])
        for entry in bundle["entry"]:
            kind, number, is_changed = ids[entry["fullUrl"]]
            if is_changed:
                resource = json.loads(self._resolve(json.dumps(entry["resource"]), ids))
                self.held.setdefault(kind, {})[number] = {**resource, "id": number}
        answers = [{"response": {"status": "200 OK", "location": "/".join(place[:2])}} for place in ids.values()]
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def _place(self, entry: Resource) -> tuple[str, str, bool]:
        """Return where a resource is, or will be, and whether it changes."""
        assert "id" not in entry["resource"]
        request = entry["request"]
        kind, _, asked = request["url"].partition("?")
        assert kind == entry["resource"]["resourceType"]
        found = self._search(kind, asked or request["ifNoneExist"])
        assert len(found) <= 1, "multiple matches"
        number = found[0] if found else f"{kind}-{len(self.held.get(kind, {}))}-{entry['fullUrl'][-8:]}"
        return kind, number, request["method"] == "PUT" or not found

    def _search(self, kind: str, query: str) -> list[str]:
        (token,) = parse_qs(query, strict_parsing=True)["identifier"]
        system, _, value = token.replace("\\|", "\0").rpartition("|")
        wanted = (system or None, value.replace("\0", "|"))
        return [
            number
            for number, resource in self.held.get(kind, {}).items()
            if wanted in {(one.get("system"), one["value"]) for one in resource.get("identifier", [])}
        ]

    @staticmethod
    def _resolve(text: str, ids: dict[str, tuple[str, str, bool]]) -> str:
        for url, (kind, number, _) in ids.items():
            text = text.replace(f'"reference": "{url}"', f'"reference": "{kind}/{number}"')
        assert '"reference": "urn:' not in text
        return text


@contextmanager
def fhir_server(*script: Reply, token: str = "", tls: ssl.SSLContext | None = None) -> Iterator[FhirServer]:
    """Give a server that listens on a port of this machine."""
    server = FhirServer(script=list(script), token=token)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/fhir/metadata"
            self._answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": server.version})

        def do_POST(self) -> None:
            bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.path, self.headers["Content-Type"]) == ("/fhir", "application/fhir+json")
            reply = server.take(bundle)
            if reply.status:
                self._answer(reply.status, reply.body, reply.headers)
            else:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, body: Resource, headers: dict[str, str] | None = None) -> None:
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                status, body = 401, {}
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        server.port = http.server_address[1]
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        http.shutdown()
