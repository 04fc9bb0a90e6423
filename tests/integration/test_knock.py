"""A Destination that was down is asked, without an object, whether it is there again; soon enough, whoever it is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest

from node.delivery.probe import KNOCK_LIMIT_S, knock
from node.domain.capability import WRITTEN_FORMS
from node.errors import DestinationDown, Misconfigured
from node.peers.patience import JITTER, LONGEST_KNOCK_S
from node.peers.peer import DestinationSpec
from tests.peers import free_port
from tests.scripted_scp import CALLING_AET_NOT_RECOGNIZED, LOCAL_LIMIT_EXCEEDED, Scp

FOUND_WITHIN_S = 10.0
EVERY_CLASS = tuple(sop_class_uid for sop_class_uid, _ in WRITTEN_FORMS.values())


def web_at(port: int) -> DestinationSpec:
    return DestinationSpec(name="web", transport="stow", url=f"http://127.0.0.1:{port}/dicom-web")


def folder_at(path: Path) -> DestinationSpec:
    return DestinationSpec(name="folder", transport="folder", url=str(path))


@contextmanager
def web_server(status: HTTPStatus) -> Iterator[int]:
    """Answer each search with `status`; give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port where connections are neither taken nor refused, as of a machine that is switched off."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for waiting in (first, second):
            # They fill the queue.
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("refused", [(), EVERY_CLASS])
def test_peer_that_grants_an_association_is_there_whatever_it_takes(refused: tuple[str, ...]) -> None:
    with Scp(refused=refused).running() as scp:
        knock(scp.spec())
    assert (scp.associations, scp.requests) == (1, 0)


def test_peer_that_grants_no_association_is_down() -> None:
    with Scp(reject=LOCAL_LIMIT_EXCEEDED).running() as scp, pytest.raises(DestinationDown, match="rejected"):
        knock(scp.spec())


def test_peer_that_does_not_know_us_needs_a_person() -> None:
    with Scp(reject=CALLING_AET_NOT_RECOGNIZED).running() as scp, pytest.raises(Misconfigured, match="register"):
        knock(scp.spec())


def test_closed_port_is_down() -> None:
    with pytest.raises(DestinationDown, match="no connection"):
        knock(Scp().spec())
    with pytest.raises(DestinationDown, match="no connection"):
        knock(web_at(free_port()))


def test_machine_that_is_off_is_asked_often_enough_to_be_found() -> None:
    with deaf_port() as port:
        for spec in (Scp(port=port).spec(), web_at(port)):
            began_s = monotonic()
            with pytest.raises(DestinationDown, match="no connection"):
                knock(spec)
            assert monotonic() - began_s >= KNOCK_LIMIT_S
    assert LONGEST_KNOCK_S * (1.0 + JITTER) + KNOCK_LIMIT_S <= FOUND_WITHIN_S


@pytest.mark.parametrize(
    "status", [HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED]
)
def test_stow_service_that_answers_is_there_though_it_has_no_search(status: HTTPStatus) -> None:
    with web_server(status) as port:
        knock(web_at(port))


def test_stow_service_without_room_or_time_is_down() -> None:
    with web_server(HTTPStatus.SERVICE_UNAVAILABLE) as port, pytest.raises(DestinationDown, match="HTTP 503"):
        knock(web_at(port))


def test_folder_is_there_when_it_can_be_written(tmp_path: Path) -> None:
    knock(folder_at(tmp_path / "new"))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DestinationDown, match="cannot be written"):
        knock(folder_at(tmp_path / "taken"))
