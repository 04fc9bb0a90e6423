"""The edges of the web over a real socket: whom it serves, when a connection ends, and what one odd Instance costs."""

import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from pydicom.encaps import encapsulate

from node.errors import TooLarge
from node.web.metadata import MAX_METADATA_BYTES, PiecesTaker
from node.web.negotiation import MediaType
from node.web.submission import Origin, Submission
from tests.instances import JPEG_2000
from tests.peers import wait_until
from tests.websites import STUDIES, Website, files_of, fresh_slice, multipart, part10, website

JSON = "application/dicom+json"
HOST = "Host: localhost"
NAME = "radnode.example.org"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site"), {"RADNODE__WEB__HOSTS": f'["{NAME}"]'}) as running:
        yield running


def post(site: Website, *contents: bytes) -> None:
    body, headers = multipart(files_of(*contents))
    response, answer = site.ask("POST", STUDIES, body=body, headers=headers)
    assert response.status == 200, answer


def say(site: Website, *lines: str) -> bytes:
    """Return everything that comes until the node closes the connection."""
    with site.connect() as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]", 200),
        (NAME, 200),
        ("evil.example:8080", 421),
        (f"{NAME}.evil.example", 421),
        ("192.0.2.7", 421),
        ("", 400),
        ("[", 400),
        ("[::1", 400),
        ("a/b c", 400),
        ("localhost:99999", 400),
        ("localhost@evil.example", 400),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", STUDIES, "/no/such/route"])
def test_only_names_of_this_node_are_served(site: Website, host: str, status: int, path: str) -> None:
    """A page elsewhere whose name points to this machine (DNS rebinding) reads nothing."""
    answer = say(site, f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close")
    expected = 404 if status == 200 and "such" in path else status
    assert status_of(answer) == expected
    assert b"evil" not in answer


def test_a_connection_is_closed_whose_request_was_answered_before_its_body(site: Website) -> None:
    for path, status in (("/healthz", 200), (STUDIES, 200), ("/no/such/route", 404)):
        answer = say(site, f"GET {path} HTTP/1.1", HOST, "Content-Length: 100")
        assert status_of(answer) == status
        assert b"connection: close" in answer.lower()


def test_one_address_takes_only_some_of_all_connections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with website(tmp_path, max_of_one_address=2) as narrow:
        held = [narrow.connect() for _ in range(3)]
        for connection in held[:2]:
            connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert held[2].recv(1) == b""
        held[0].close()
        wait_until(lambda: _is_served(narrow), what="a place")
        for connection in held[1:]:
            connection.close()
    # It was closed for that, and not for its silence.
    assert [getattr(line, "outcome", "") for line in caplog.records].count("too many of one address") >= 1


def _is_served(site: Website) -> bool:
    try:
        return site.ask("GET", "/healthz")[0].status == 200
    except OSError:
        return False


def test_a_connection_without_a_body_stays_open(site: Website) -> None:
    with site.connect() as connection:
        for _ in range(2):
            connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n\r\n".encode())
            assert b"connection: close" not in connection.recv(65536).lower()


def test_head_is_answered_like_get_without_its_body(site: Website) -> None:
    ds = fresh_slice()
    post(site, part10(ds))
    study = f"{STUDIES}/{ds.StudyInstanceUID}"
    for path in (STUDIES, study, f"{study}/metadata", "/healthz"):
        head, nothing = site.ask("HEAD", path)
        assert (head.status, nothing) == (200, b"")
        assert (
            head.getheader("Content-Type", "").split(";")[0]
            == (site.ask("GET", path)[0].getheader("Content-Type", "").split(";")[0])
        )
    assert site.ask("HEAD", f"{STUDIES}/1.2.3")[0].status == 404


def test_caches_are_told_what_an_answer_depends_on(site: Website) -> None:
    ds = fresh_slice()
    post(site, part10(ds))
    series = f"{STUDIES}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
    path = f"{series}/instances/{ds.SOPInstanceUID}"
    tags = set()
    for accept in ("application/dicom", 'multipart/related; type="application/dicom"'):
        response, _ = site.ask("GET", path, headers={"Accept": accept})
        tags.add(response.getheader("ETag"))
        told = (response.getheader("Vary"), response.getheader("Cache-Control"))
        assert told == ("Accept", "private, no-cache")
    assert len(tags) == 2


def test_what_is_stored_is_found_when_the_answer_comes(site: Website) -> None:
    for _ in range(5):
        ds = fresh_slice()
        post(site, part10(ds))
        assert site.ask("GET", f"{STUDIES}/{ds.StudyInstanceUID}")[0].status == 200


def odd_slice(study: str) -> bytes:
    """Return a compressed Image that says of itself to have 132 million pixels."""
    ds = fresh_slice(study=study)
    ds.Rows, ds.Columns, ds.PixelData = 12000, 11000, encapsulate([b"\xff\xd8\xff\xd9"])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return part10(ds, JPEG_2000)


def test_metadata_need_no_pixels_that_can_be_decoded(site: Website) -> None:
    ds = fresh_slice()
    post(site, part10(ds), odd_slice(ds.StudyInstanceUID))
    response, content = site.ask("GET", f"{STUDIES}/{ds.StudyInstanceUID}/metadata")
    models = json.loads(content)
    assert (response.status, len(models)) == (200, 2)
    assert all("BulkDataURI" in model["7FE00010"] for model in models)


def test_one_file_that_is_gone_hides_no_other(site: Website, caplog: pytest.LogCaptureFixture) -> None:
    kept, gone = fresh_slice(), fresh_slice()
    gone.StudyInstanceUID = kept.StudyInstanceUID
    post(site, part10(kept), part10(gone))
    (path,) = (one for one in site.files() if one.name.startswith(gone.SOPInstanceUID))
    path.unlink()
    study = f"{STUDIES}/{kept.StudyInstanceUID}"
    for accept in (JSON, 'multipart/related; type="application/dicom+xml"'):
        with caplog.at_level(logging.ERROR):
            response, content = site.ask("GET", f"{study}/metadata", headers={"Accept": accept})
        assert response.status == 200
        assert (kept.SOPInstanceUID.encode() in content, gone.SOPInstanceUID.encode() in content) == (True, False)
        (told,) = (record for record in caplog.records if record.message == "instance not read")
        assert vars(told)["instance_uid"] == gone.SOPInstanceUID
        caplog.clear()
    assert site.ask("GET", f"{study}/series/{gone.SeriesInstanceUID}/metadata")[0].status == 500


def test_metadata_are_limited_by_the_request_and_not_by_the_part(site: Website) -> None:
    with ThreadPoolExecutor(1) as closers:
        submission = Submission(site.services.intake, Origin(association_id="a", peer="b"), closers)
        pieces = PiecesTaker(submission, site.services.store, JSON)
        half = memoryview(bytes(MAX_METADATA_BYTES // 2))
        for _ in range(2):
            pieces.begin(MediaType(name=JSON), {}).write(half)
        with pytest.raises(TooLarge):
            pieces.begin(MediaType(name=JSON), {}).write(half[:1])
        pieces.discard()
        submission.end()


@pytest.mark.parametrize(
    ("tag", "element"),
    [
        ("00100010", {"vr": ["PN"], "BulkDataURI": "x"}),
        ("00100010", {"vr": {"a": 1}, "Value": ["x"]}),
        ("ZZZZ0010", {"vr": "OB", "BulkDataURI": "x"}),
        ("0010", {"vr": "LO", "Value": ["x"]}),
    ],
)
def test_metadata_of_another_form_are_the_sender_s_fault(site: Website, tag: str, element: object) -> None:
    body, headers = multipart([({"Content-Type": JSON}, json.dumps([{tag: element}]).encode())], kind=JSON)
    response, _ = site.ask("POST", STUDIES, body=body, headers=headers)
    assert 400 <= response.status < 500


def test_readers_that_wait_for_decoders_keep_no_sender_waiting(tmp_path: Path) -> None:
    with website(tmp_path) as site:
        ds = fresh_slice()
        post(site, part10(ds))
        decoders = [site.services.pixels._decoder() for _ in range(2)]
        for decoder in decoders:
            decoder.__enter__()
        statuses: list[int] = []

        def read() -> None:
            statuses.append(site.ask("GET", f"{STUDIES}/{ds.StudyInstanceUID}/metadata")[0].status)

        readers = [Thread(target=read) for _ in range(45)]
        for reader in readers:
            reader.start()
        wait_until(lambda: statuses.count(503) >= 33, what="readers that are told to come again")
        post(site, part10(fresh_slice()))
        for decoder in decoders:
            decoder.__exit__(None, None, None)
        for reader in readers:
            reader.join()
    assert set(statuses) == {200, 503}


def test_a_peer_that_takes_nothing_of_its_answer_is_let_go(tmp_path: Path) -> None:
    with website(tmp_path, stalled_s=0.2) as site:
        ds = fresh_slice()
        ds.Rows, ds.Columns, ds.PixelData = 2048, 2048, b"\0" * (2 * 2048 * 2048)
        post(site, part10(ds))
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", site.port))
            connection.sendall(f"GET {STUDIES}/{ds.StudyInstanceUID} HTTP/1.1\r\n{HOST}\r\n\r\n".encode())
            wait_until(lambda: is_reset(connection), what="the end of the connection")


def is_reset(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
