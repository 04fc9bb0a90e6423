"""A STOW-RS service is asked by QIDO-RS what it holds: in pages, whatever it makes of them, and damage is no answer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from node.errors import DestinationBusy, DestinationDown, Misconfigured, NodeError
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec
from tests.peers import free_port

HELD = [f"1.2.3.4.{number}" for number in range(5)]


class Qido(BaseHTTPRequestHandler):
    """Holds five Instances of one Series, and gives at most `page` of them."""

    status: ClassVar[int] = 200
    page: ClassVar[int] = 2
    heeds_offset: ClassVar[bool] = True
    body: ClassVar[bytes | None] = None

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        offset = int(asked.get("offset", ["0"])[0]) if self.heeds_offset else 0
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in HELD[offset : offset + self.page]]
        body = json.dumps(found).encode() if self.body is None else self.body
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def service(**manners: object) -> Iterator[DicomwebService]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Qido,), manners))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield transport_to(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def transport_to(port: int) -> DicomwebService:
    return DicomwebService(DestinationSpec(name="web", transport="stow", url=f"http://127.0.0.1:{port}", timeout_s=5.0))


def find(transport: DicomwebService) -> set[str]:
    return set(transport.find_instances("1.2.3", "1.2.3.4"))


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_all_pages_are_read(page: int) -> None:
    with service(page=page) as transport:
        assert (transport.can_search(), find(transport)) == (True, set(HELD))


def test_a_service_that_heeds_no_offset_is_not_asked_for_ever() -> None:
    with service(heeds_offset=False) as transport:
        assert find(transport) == set(HELD[:2])


def test_a_series_that_the_service_does_not_know_holds_nothing() -> None:
    with service(status=404) as transport:
        assert find(transport) == set()
        # Of a service that answers so to every search nobody learns what it holds.
        assert not transport.can_search()


@pytest.mark.parametrize("manners", [{"status": 500}, {"body": b"<html>"}, {"body": b'[{"00080018": 7}]'}])
def test_what_is_no_answer_says_nothing_of_any_instance(manners: dict[str, object]) -> None:
    with service(**manners) as transport, pytest.raises(DestinationBusy):
        find(transport)


def test_a_service_that_is_not_there_is_down() -> None:
    transport = transport_to(free_port())
    with pytest.raises(DestinationDown):
        transport.can_search()
    with pytest.raises(DestinationDown):
        find(transport)


@pytest.mark.parametrize(
    ("status", "error"), [(503, DestinationDown), (500, DestinationDown), (401, Misconfigured), (403, Misconfigured)]
)
def test_a_service_that_does_not_answer_now_is_not_one_that_cannot_search(status: int, error: type[NodeError]) -> None:
    with service(status=status) as transport, pytest.raises(error):
        transport.can_search()


@pytest.mark.parametrize(("status", "can"), [(400, True), (404, False), (405, False), (501, False)])
def test_a_service_without_a_search_is_told_from_one_that_wants_another(status: int, can: bool) -> None:
    with service(status=status) as transport:
        assert transport.can_search() is can
