"""Bodies that are read past the parser of HTTP: in whatever pieces they come, and whatever follows them."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.web.stream import BUFFER_BYTES, TURN_BYTES, WORTH_BYTES
from tests.peers import wait_until
from tests.websites import DICOM, STUDIES, Website, files_of, fresh_slice, multipart, part10, part_of, website

HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        yield running


def slice_of(size_bytes: int) -> Dataset:
    """Return a CT Image whose pixels have so many bytes."""
    ds = fresh_slice()
    ds.Rows, ds.Columns = size_bytes // 256, 128
    ds.PixelData = bytes(range(256)) * (size_bytes // 256)
    return ds


def request_of(*contents: bytes, version: str = "1.1", more: bytes = b"") -> bytes:
    body, headers = multipart(files_of(*contents))
    told = f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n".encode()
    return f"POST {STUDIES} HTTP/{version}\r\n".encode() + HOST + told + more + b"\r\n" + body


def is_kept(site: Website, ds: Dataset) -> bool:
    """Return whether the very bytes of an Instance lie in the store."""
    found = [path for path in site.files() if path.name.startswith(ds.SOPInstanceUID)]
    return len(found) == 1 and found[0].read_bytes().endswith(ds.PixelData)


def test_requests_that_follow_each_other_at_once_are_answered_one_by_one(site: Website) -> None:
    first, second = slice_of(2 * BUFFER_BYTES), slice_of(WORTH_BYTES)
    with site.connect() as connection:
        connection.sendall(request_of(part10(first)) + request_of(part10(second), more=b"Connection: close\r\n"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert is_kept(site, first)
    assert is_kept(site, second)


def test_one_connection_brings_one_request_after_the_other(site: Website) -> None:
    connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
    port = 0
    for size in (256, BUFFER_BYTES, 3 * BUFFER_BYTES + 512):
        ds = slice_of(size)
        body, headers = multipart(files_of(part10(ds)))
        connection.request("POST", STUDIES, body=body, headers=dict(headers))
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
        # The client would have opened another one.
        assert port in (0, connection.sock.getsockname()[1])
        port = connection.sock.getsockname()[1]
        assert is_kept(site, ds)
    connection.close()


def test_a_body_in_small_pieces_is_the_same_body(site: Website) -> None:
    ds = slice_of(200_192)
    request = request_of(part10(ds), more=b"Connection: close\r\n")
    with site.connect() as connection:
        for begin in range(0, len(request), 997):
            connection.sendall(request[begin : begin + 997])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert is_kept(site, ds)


def test_a_connection_whose_descriptor_is_above_a_thousand_is_read(site: Website) -> None:
    ds = slice_of(200_192)
    request = request_of(part10(ds), more=b"Connection: close\r\n")
    # As on a busy node; a node raises its own limit when it starts.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while held.enter_context(Path(os.devnull).open("rb")).fileno() < 1100:
            pass
        with site.connect() as connection:
            assert connection.fileno() > 1024
            for begin in range(0, len(request), 49_999):
                connection.sendall(request[begin : begin + 49_999])
                # The thread that reads waits for the next piece.
                time.sleep(0.05)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert is_kept(site, ds)


def test_no_descriptor_stays_when_a_stream_has_ended(site: Website) -> None:
    def sockets() -> int:
        return sum(path.is_socket() for path in Path("/proc/self/fd").iterdir())

    before = sockets()
    for ending in (b"", b"Connection: close\r\n"):
        with site.connect() as connection:
            connection.sendall(request_of(part10(slice_of(WORTH_BYTES)), more=ending))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with site.connect() as connection:
        # It goes in the middle of its body.
        connection.sendall(request_of(part10(slice_of(4 * BUFFER_BYTES)))[: 2 * BUFFER_BYTES])
    wait_until(lambda: sockets() <= before, what="every descriptor is closed")


def test_a_body_that_is_longer_than_a_turn_is_stored(site: Website) -> None:
    images = [slice_of(TURN_BYTES // 4) for _ in range(6)]
    body, headers = multipart(files_of(*map(part10, images)))
    assert site.ask("POST", STUDIES, body=body, headers=headers)[0].status == 200
    assert all(is_kept(site, ds) for ds in images)


def test_of_a_client_that_goes_in_the_middle_what_was_whole_is_kept(site: Website) -> None:
    whole, half = slice_of(BUFFER_BYTES), slice_of(2 * BUFFER_BYTES)
    content = part_of({"Content-Type": DICOM}, part10(whole)) + part_of({"Content-Type": DICOM}, part10(half)[:-4096])
    _, headers = multipart(files_of())
    told = f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(content) + 10_000_000}\r\n\r\n".encode()
    with site.connect() as connection:
        connection.sendall(f"POST {STUDIES} HTTP/1.1\r\n".encode() + HOST + told + content)
    wait_until(lambda: is_kept(site, whole), what="what came whole")
    wait_until(lambda: not [path for path in site.files() if ".incoming" in path.parts], what="the rest is gone")
    assert not [path for path in site.files() if path.name.startswith(half.SOPInstanceUID)]


def test_a_client_of_http_1_0_hears_the_end_of_its_answer(site: Website) -> None:
    ds = slice_of(BUFFER_BYTES)
    with site.connect() as connection:
        connection.sendall(request_of(part10(ds), version="1.0"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert is_kept(site, ds)


def test_a_refusal_is_heard_by_whoever_sends_on(site: Website) -> None:
    request = request_of(part10(slice_of(4 * BUFFER_BYTES))).replace(b"--between", b"--another", 1)
    with site.connect() as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
