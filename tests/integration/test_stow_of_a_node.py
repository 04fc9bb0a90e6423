"""STOW-RS of a whole node: what is stored becomes a Study, whoever dies, and the web lives as long as the node."""

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from sqlalchemy import select
from websockets.sync.client import connect as connect_channel

from node.domain import workitem as ups
from node.domain.account import Right
from node.domain.workitem import element
from node.ledger.engine import Desk
from node.ledger.schema import instances
from node.ledger.views import StudyStory
from node.settings.loading import load_settings
from tests.ledgers import Books
from tests.node_process import QUICK, Launch, NodeProcess
from tests.peers import free_port, is_listening, wait_until
from tests.websites import BOUNDARY, DICOM, STUDIES, fresh_slice, part10, part_of

CANARY = "Quetzalcoatlus"
# The part whose memory is looked at; `make stow-memory` sends a larger one.
PART_MIB = int(os.environ.get("RADNODE_STOW_MIB", "96"))
MAX_GROWTH_MIB = 24
SMALL_MIB = 4
CHUNK = bytes(2**20)
CLOSING = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[NodeProcess]:
    settings = f"[web]\nport = {port}\nprocesses = 2\n{QUICK}"
    with NodeProcess(tmp_path_factory.mktemp("node"), settings, launch=Launch(verb="serve")) as running:
        yield running


@pytest.fixture(scope="module")
def token(node: NodeProcess) -> str:
    return node.token(Right.STORE)


def web_processes(node: NodeProcess) -> list[psutil.Process]:
    """Return the process that listens, and the one that it shares connections with."""
    return [node.child(f"node web --number {number}") for number in (0, 1)]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60.0)


def head_of(token: str, length: int, query: str = "") -> bytes:
    content_type = f'multipart/related; type="{DICOM}"; boundary={BOUNDARY}'
    lines = (
        f"POST {STUDIES}{query} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {token}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "Connection: close", "", "")).encode()


def client_of(port: int, token: str) -> DICOMwebClient:
    return DICOMwebClient(f"http://127.0.0.1:{port}/dicom-web", headers={"Authorization": f"Bearer {token}"})


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def has_come(story: StudyStory) -> bool:
    return story.state == "ROUTED" and sum(series.instances for series in story.series) > 0


def test_a_node_is_ready_when_its_receivers_are(node: NodeProcess, port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b'"receivers":"ok"' in read_all(connection)


def test_what_a_client_stores_becomes_a_study(node: NodeProcess, port: int, token: str) -> None:
    ds = fresh_slice()
    ds.PatientName = CANARY
    client = client_of(port, token)
    client.store_instances([dcmread(BytesIO(part10(ds)))])
    story = node.wait_for_study(ds.StudyInstanceUID, has_come)
    assert story.reason.startswith("every Association ended")


def test_a_subscriber_hears_of_the_workitems_of_a_node(node: NodeProcess, port: int) -> None:
    shown = {"Authorization": f"Bearer {node.token(Right.READ, Right.STORE)}"}
    workitems = f"http://127.0.0.1:{port}/dicom-web/workitems"
    subscribed = requests.post(f"{workitems}/{ups.GLOBAL}/subscribers/WATCHER", headers=shown, timeout=60.0)
    assert subscribed.status_code == 201
    with connect_channel(subscribed.headers["Content-Location"], additional_headers=shown) as channel:
        step = {
            ups.PROCEDURE_STEP_STATE: element("CS", "SCHEDULED"),
            ups.PRIORITY: element("CS", "LOW"),
            ups.STEP_LABEL: element("LO", "Contour"),
            ups.SCHEDULED_START: element("DT", "20250114120000"),
            ups.INPUT_READINESS: element("CS", "READY"),
        }
        assert requests.post(f"{workitems}?1.2.3.4", json=step, headers=shown, timeout=60.0).status_code == 201
        told = json.loads(channel.recv(timeout=60.0))
    assert (told["00001000"]["Value"], told[ups.PROCEDURE_STEP_STATE]["Value"]) == (["1.2.3.4"], ["SCHEDULED"])


def test_the_log_tells_the_route_and_neither_query_nor_patient(node: NodeProcess, port: int, token: str) -> None:
    ds = fresh_slice()
    ds.PatientName = CANARY
    body = part_of({"Content-Type": DICOM}, part10(ds)) + CLOSING
    with connect(port) as connection:
        connection.sendall(head_of(token, len(body), f"?PatientName={CANARY}") + body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    with connect(port) as connection:
        connection.sendall(f"GET /{CANARY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 404")
    log = node.folder / "node.log"
    wait_until(lambda: '"route": "none"' in log.read_text(), what="the line of the last request")
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"request served"' in line]
    assert {"/dicom-web/studies", "none"} <= {line["route"] for line in lines}
    assert all("dropped_fields" not in line for line in lines)
    assert CANARY not in log.read_text()


def test_memory_does_not_follow_the_size_of_a_part(node: NodeProcess, port: int, token: str) -> None:
    web = web_processes(node)
    # What any part takes, whatever its size; each takes one.
    for _ in web:
        send_large(port, token, mib=SMALL_MIB)
    before = sum(map(peak_bytes, web))
    send_large(port, token, mib=PART_MIB)
    grown_mib = (sum(map(peak_bytes, web)) - before) / 2**20
    assert grown_mib < MAX_GROWTH_MIB, f"{PART_MIB} MiB made the process grow by {grown_mib:.1f} MiB"


def send_large(port: int, token: str, *, mib: int) -> None:
    ds = fresh_slice()
    ds.Rows = ds.Columns = 1024
    ds.NumberOfFrames = mib // 2
    ds.PixelData = b""
    meta_and_header = part10(ds)
    # Pixel Data (7FE0,0010) is the last element, so its length stands at the end.
    begun = part_of({"Content-Type": DICOM}, meta_and_header[:-4] + (mib * len(CHUNK)).to_bytes(4, "little"))
    with connect(port) as connection:
        connection.sendall(head_of(token, len(begun) + mib * len(CHUNK) + len(CLOSING)) + begun)
        for _ in range(mib):
            connection.sendall(CHUNK)
        connection.sendall(CLOSING)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def peak_bytes(process: psutil.Process) -> int:
    """Return the largest resident size that the process ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def test_a_web_process_that_is_killed_leaves_what_was_whole_and_comes_back(
    node: NodeProcess, port: int, token: str
) -> None:
    web = web_processes(node)
    whole, half = fresh_slice(), fresh_slice()
    body = part_of({"Content-Type": DICOM}, part10(whole)) + part_of({"Content-Type": DICOM}, part10(half)[:-10])
    with connect(port) as connection:
        connection.sendall(head_of(token, len(body) + 1_000_000) + body)
        stored = node.folder / "data" / "store" / "instances"
        wait_until(lambda: list(stored.rglob(f"{whole.SOPInstanceUID}*")), what="the whole one")
        for process in web:
            process.send_signal(signal.SIGKILL)
    story = node.wait_for_study(whole.StudyInstanceUID, has_come)
    assert "Association" in story.reason
    wait_until(lambda: not {one.pid for one in web_processes(node)} & {one.pid for one in web}, what="others")
    again = fresh_slice(study=whole.StudyInstanceUID)
    client_of(port, token).store_instances([dcmread(BytesIO(part10(again)))])
    assert not list(stored.rglob(f"{half.SOPInstanceUID}*"))


def test_connections_that_store_are_shared_out_and_wait_for_who_died(node: NodeProcess, port: int, token: str) -> None:
    ds = fresh_slice()
    sent = [fresh_slice(study=ds.StudyInstanceUID) for _ in range(4)]
    _, other = web_processes(node)
    for one in sent[:2]:
        assert post_one(port, token, part10(one)).startswith(b"HTTP/1.1 200")
    other.kill()
    for one in sent[2:]:
        assert post_one(port, token, part10(one)).startswith(b"HTTP/1.1 200")
    books = Books(load_settings(node.file).ledger_url)
    with Desk(books.engine).reading() as connection:
        here = instances.c.study_instance_uid == ds.StudyInstanceUID
        senders = connection.execute(select(instances.c.association_id).where(here)).scalars().all()
    books.close()
    assert Counter(sender.split(".")[1] for sender in senders) == {"web": 2, "web-1": 2}


def post_one(port: int, token: str, content: bytes) -> bytes:
    """Return the answer to a request with one part, on a connection of its own that asked for something else before."""
    body = part_of({"Content-Type": DICOM}, content) + CLOSING
    with connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while not seen.endswith(b'"}'):
            seen += connection.recv(65536)
        connection.sendall(head_of(token, len(body)) + body)
        return read_all(connection)


def test_a_request_under_way_is_answered_when_the_node_is_told_to_end(node: NodeProcess, port: int, token: str) -> None:
    ds = fresh_slice()
    body = part_of({"Content-Type": DICOM}, part10(ds)) + CLOSING
    with connect(port) as connection:
        connection.sendall(head_of(token, len(body)) + body[:100])
        wait_until(lambda: is_listening(port), what="it is being served")
        node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(port), what="nobody else is served")
        connection.sendall(body[100:])
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert node.stop() == 0
    node.start()
    node.wait_for_study(ds.StudyInstanceUID, has_come)


def test_the_web_ends_with_a_node_that_is_killed(node: NodeProcess, port: int) -> None:
    web = web_processes(node)
    node.kill()
    _, alive = psutil.wait_procs(web, timeout=60.0)
    assert not alive
    wait_until(lambda: not is_listening(port), what="the port is free")
