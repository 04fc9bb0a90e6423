"""Real sockets: dcmtk and pynetdicom send to the listener, well and badly."""

import logging
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE

from node.dimse.contexts import storage_sop_classes, transfer_syntaxes
from node.dimse.handlers import MAX_COMMENT
from node.dimse.scp import ListenerSettings
from node.errors import Misconfigured, PortInUse
from node.intake.ports import Arrival, IntakeTerms
from node.intake.reception import Reception
from node.intake.station import Intake
from node.store.files import FileStore, Reserve
from tests.instances import (
    BIG_ENDIAN,
    CT_IMAGE_STORAGE,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    JPEG_2000,
    MAX_INSTANCE_BYTES,
    NOON,
    MemoryLedger,
    ct_slice,
    encode,
)
from tests.listeners import DicomListener
from tests.peers import require_program

VERIFICATION = "1.2.840.10008.1.1"
SHARED_DATA = Path(os.environ.get("RADNODE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
DEADLINE_S = 20.0


@contextmanager
def associated(ae: AE, port: int, called: str) -> Iterator[Any]:
    """Give an Association; pynetdicom leaves its socket open when the peer closed first, so it is closed here."""
    opened: list[socket.socket] = []

    def keep(event: evt.Event) -> None:
        wrapped = event.assoc.dul.socket
        if wrapped is not None and wrapped.socket is not None:
            opened.append(wrapped.socket)

    assoc = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=[(evt.EVT_CONN_OPEN, keep)])
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()
        for connection in opened:
            connection.close()


class Peer:
    """One listener on a free port, with everything behind it in reach."""

    def __init__(self, root: Path, **settings: Any) -> None:
        reserve = settings.pop("reserve", Reserve(reserve_bytes=0, reserve_percent=0))
        self.store = FileStore(root, reserve)
        self.ledger = MemoryLedger()
        intake = settings.pop("intake", None) or Intake(
            store=self.store,
            ledger=self.ledger,
            clock=lambda: NOON,
            terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
        )
        defaults: dict[str, Any] = {
            "aet": "RADNODE",
            "bind": "127.0.0.1",
            "port": 0,
            "max_pdu_bytes": 65536,
            "max_associations": 8,
            "max_associations_per_peer": 8,
            "dimse_timeout_s": 5.0,
        }
        self.listener = DicomListener(ListenerSettings(**{**defaults, **settings}), intake)
        self.host, self.port = self.listener.start()

    def dcmtk(self, program: str, *options: str, files: list[Path] | None = None) -> None:
        command = [
            require_program(program),
            "-aec",
            "RADNODE",
            *options,
            self.host,
            str(self.port),
            *map(str, files or []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def association(
        self, *syntaxes: str, sop_class_uid: str = CT_IMAGE_STORAGE, calling: str = "MODALITY", called: str = "RADNODE"
    ) -> Iterator[Any]:
        ae = AE(ae_title=calling)
        ae.add_requested_context(sop_class_uid, list(syntaxes) or [EXPLICIT])
        ae.add_requested_context(VERIFICATION)
        with associated(ae, self.port, called) as assoc:
            yield assoc

    def wait_for_end(self) -> None:
        deadline = monotonic() + DEADLINE_S
        while not self.ledger.ended and monotonic() < deadline:
            sleep(0.01)
        assert self.ledger.ended


def send(assoc: Any, encoded: bytes, *, uid: str = INSTANCE, sop_class_uid: str = CT_IMAGE_STORAGE) -> Dataset:
    """Send bytes as they are, under any UID, and return the response."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class_uid
    request._AffectedSOPInstanceUID = UID(uid)
    request.Priority = 2
    request.DataSet = BytesIO(encoded)
    context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == sop_class_uid)
    # What pynetdicom's own send_c_store does, without its checks.
    assoc._reactor_checkpoint.clear()
    try:
        assoc.dimse.send_msg(request, context.context_id)
        _, response = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
    ds = Dataset()
    ds.Status = response.Status
    ds.ErrorComment = response.ErrorComment
    return ds


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path)
    yield peer
    peer.listener.stop(1.0)


def data_set_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    return content[144 + meta.FileMetaInformationGroupLength :]


def test_echo_is_answered(peer: Peer) -> None:
    peer.dcmtk("echoscu")
    with peer.association() as assoc:
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("folder", "options"),
    [("ct-lungfcp-0001", []), ("mr-pgbm-003/36468-FLAIRreg-58706", []), ("cxr-nema-rg1", ["-xw"])],
)
def test_real_files_from_storescu_are_stored_byte_for_byte(peer: Peer, folder: str, options: list[str]) -> None:
    files = sorted((SHARED_DATA / folder).glob("*.dcm"))[: 12 if not options else 1]
    if not files:
        pytest.skip(f"no data in {folder}")
    peer.dcmtk("storescu", *options, files=files)
    assert len(peer.ledger.instances) == len(files)
    for file in files:
        ds = pydicom.dcmread(file, stop_before_pixels=True)
        facts = peer.ledger.instances[str(ds.SOPInstanceUID)]
        assert facts.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
        kept = pydicom.dcmread(peer.store.path(facts.path))
        # storescu may write group lengths and sequences anew; the pixels are the sender's own bytes.
        assert kept.PixelData == pydicom.dcmread(file).PixelData
    peer.wait_for_end()


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_2000])
def test_data_set_is_stored_exactly_as_sent(peer: Peer, transfer_syntax_uid: str) -> None:
    encoded = encode(ct_slice(), transfer_syntax_uid)
    with peer.association(transfer_syntax_uid) as assoc:
        assert send(assoc, encoded).Status == 0x0000
    facts = peer.ledger.instances[INSTANCE]
    path = peer.store.path(facts.path)
    assert data_set_bytes(path) == encoded
    assert (facts.transfer_syntax_uid, facts.calling_aet) == (transfer_syntax_uid, "MODALITY")
    peer.wait_for_end()
    assert peer.ledger.ended == [facts.association_id]


def test_every_storage_class_in_every_transfer_syntax_is_accepted(peer: Peer) -> None:
    classes = storage_sop_classes()
    for begin in range(0, len(classes), 128):
        ae = AE()
        for sop_class_uid in classes[begin : begin + 128]:
            ae.add_requested_context(sop_class_uid, list(transfer_syntaxes()))
        with associated(ae, peer.port, "RADNODE") as assoc:
            assert len(assoc.accepted_contexts) == len(classes[begin : begin + 128])


def test_retired_storage_class_is_served_not_only_negotiated(peer: Peer) -> None:
    retired = "1.2.840.10008.5.1.4.1.1.6"
    ds = ct_slice()
    ds.SOPClassUID = retired
    with peer.association(sop_class_uid=retired) as assoc:
        assert send(assoc, encode(ds), sop_class_uid=retired).Status == 0x0000


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([JPEG_2000, EXPLICIT, IMPLICIT], JPEG_2000),
        ([IMPLICIT], IMPLICIT),
        ([BIG_ENDIAN, "1.2.840.113619.5.2"], BIG_ENDIAN),
    ],
)
def test_requestor_chooses_the_transfer_syntax(peer: Peer, offered: list[str], chosen: str) -> None:
    with peer.association(*offered) as assoc:
        accepted = {c.abstract_syntax: c.transfer_syntax for c in assoc.accepted_contexts}
    assert accepted[CT_IMAGE_STORAGE] == [chosen]


def test_unknown_transfer_or_abstract_syntax_is_refused_with_its_reason(peer: Peer) -> None:
    with peer.association("1.2.840.113619.5.2") as assoc:
        assert [c.result for c in assoc.rejected_contexts] == [4]
        assert assoc.send_c_echo().Status == 0x0000
    with peer.association(EXPLICIT, sop_class_uid="1.2.840.10008.5.1.4.1.2.2.1") as assoc:
        assert [c.result for c in assoc.rejected_contexts] == [3]


HEADLESS = encode(ct_slice())


@pytest.mark.parametrize(
    ("encoded", "uid", "status", "code"),
    [
        (b"this is no DICOM at all", INSTANCE, 0xC000, "not-dicom"),
        (HEADLESS[:-2], INSTANCE, 0xC000, "not-dicom"),
        (HEADLESS, "1.2.3.4.6", 0xA900, "uid-mismatch"),
        (HEADLESS, "", 0x0117, "bad-identifier"),
        (HEADLESS, "../../../tmp/x", 0x0117, "bad-identifier"),
        (HEADLESS.replace(b"1.2.3.4.5", b"../../../"), INSTANCE, 0x0117, "bad-identifier"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_bad_instance_gets_its_status_a_comment_and_an_event_and_leaves_nothing(
    peer: Peer, tmp_path: Path, encoded: bytes, uid: str, status: int, code: str
) -> None:
    with peer.association() as assoc:
        response = send(assoc, encoded, uid=uid)
        assert response.Status == status
        assert code in response.ErrorComment
        assert len(response.ErrorComment) <= MAX_COMMENT
        assert send(assoc, encode(ct_slice())).Status == 0x0000
    assert [kind for kind, _ in peer.ledger.events] == ["instance-refused"]
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


@pytest.mark.parametrize(("calling", "called", "diagnostic"), [("STRANGER", "RADNODE", 3), ("MODALITY", "OTHER", 7)])
def test_wrong_ae_title_is_rejected_and_found_by_a_person(
    tmp_path: Path, calling: str, called: str, diagnostic: int
) -> None:
    peer = Peer(tmp_path, calling_aets=("MODALITY",))
    try:
        with peer.association(calling=calling, called=called) as assoc:
            assert assoc.is_rejected
            assert (assoc.acceptor.primitive.result_source, assoc.acceptor.primitive.diagnostic) == (1, diagnostic)
        with peer.association() as assoc:
            assert assoc.is_established
    finally:
        peer.listener.stop(1.0)
    assert [kind for kind, _ in peer.ledger.events] == ["association-refused"]
    assert calling in peer.ledger.events[0][1]


def test_one_association_too_many_is_rejected_for_now_and_the_next_is_served(tmp_path: Path) -> None:
    peer = Peer(tmp_path, max_associations=2)
    try:
        with peer.association() as one, peer.association():
            with peer.association() as third:
                assert third.is_rejected
                answer = third.acceptor.primitive
                assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
            assert one.send_c_echo().Status == 0x0000
        deadline, is_served = monotonic() + DEADLINE_S, False
        while not is_served and monotonic() < deadline:
            with peer.association() as later:
                is_served = later.is_established
        assert is_served
    finally:
        peer.listener.stop(1.0)


def test_disk_below_its_reserve_is_out_of_resources(tmp_path: Path) -> None:
    peer = Peer(tmp_path, reserve=Reserve(reserve_bytes=2**62, reserve_percent=100))
    try:
        with peer.association() as assoc:
            response = send(assoc, encode(ct_slice()))
            assert response.Status == 0xA700
            assert response.ErrorComment.startswith("store-full")
    finally:
        peer.listener.stop(1.0)
    assert peer.ledger.instances == {}


class BrokenIntake(Intake):
    def receive(self, arrival: Arrival) -> Reception:
        raise ZeroDivisionError("Grün^Käthe")


def test_fault_of_ours_is_a_processing_failure_and_the_association_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, store = MemoryLedger(), FileStore(tmp_path, Reserve(reserve_bytes=0, reserve_percent=0))
    intake = BrokenIntake(
        store=store,
        ledger=ledger,
        clock=lambda: NOON,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    peer = Peer(tmp_path, intake=intake)
    try:
        with caplog.at_level(logging.INFO), peer.association() as assoc:
            response = send(assoc, encode(ct_slice()))
            assert response.Status == 0x0110
            assert "Grün" not in response.ErrorComment
            assert assoc.send_c_echo().Status == 0x0000
    finally:
        peer.listener.stop(1.0)
    assert "instance broke the node" in caplog.messages


def test_two_senders_of_one_uid_in_parallel_both_succeed_and_nothing_mixes(peer: Peer) -> None:
    contents = [encode(ct_slice(level=level)) for level in (1, 2, 1, 2, 1, 2)]
    statuses: list[int] = []

    def run(encoded: bytes) -> None:
        with peer.association() as assoc:
            statuses.append(send(assoc, encoded).Status)

    threads = [Thread(target=run, args=(encoded,)) for encoded in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * len(contents)
    stored = {data_set_bytes(peer.store.path(path)) for path in peer.store.list_paths("instances")}
    assert stored == set(contents)


GARBAGE = [
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x01\x00\xff\xff\xff\xff" + b"x" * 100,
    b"\x04\x00\x00\x00\x00\x10" + b"\0" * 16,
    b"\x01\x00\x00\x00\x00\x44" + b"\xff" * 0x44,
    os.urandom(512),
]


def test_listener_survives_garbage_and_stays_at_hand(peer: Peer) -> None:
    """Forty bad connections stay open; a modality is served at once, and the memory claimed by a liar is not given."""
    held = []
    try:
        for number in range(40):
            bad = socket.create_connection((peer.host, peer.port))
            bad.sendall(GARBAGE[number % len(GARBAGE)])
            held.append(bad)
        begun = monotonic()
        with peer.association() as assoc:
            assert assoc.is_established
            assert send(assoc, encode(ct_slice())).Status == 0x0000
        assert monotonic() - begun < 5.0
    finally:
        for bad in held:
            bad.close()


def test_silent_connection_is_closed(tmp_path: Path) -> None:
    peer = Peer(tmp_path, dimse_timeout_s=0.5)
    try:
        with socket.create_connection((peer.host, peer.port), timeout=DEADLINE_S) as silent:
            assert silent.recv(1) == b""
        with socket.create_connection((peer.host, peer.port), timeout=DEADLINE_S) as half:
            half.sendall(struct.pack(">BxI", 1, 200) + b"\0" * 50)
            assert half.recv(1) == b""
    finally:
        peer.listener.stop(1.0)


def test_sender_that_goes_mid_data_set_leaves_nothing_and_ends_its_association(peer: Peer, tmp_path: Path) -> None:
    with peer.association() as assoc:
        assert send(assoc, encode(ct_slice())).Status == 0x0000
        raw = assoc.dul.socket.socket
        raw.sendall(struct.pack(">BxI", 4, 60000) + b"\0" * 100)
        raw.shutdown(socket.SHUT_RDWR)
    peer.wait_for_end()
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_association_leaves_one_line_with_its_counts(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    encoded = encode(ct_slice())
    with caplog.at_level(logging.INFO):
        with peer.association() as assoc:
            send(assoc, encoded)
            send(assoc, b"cut")
        peer.wait_for_end()
        peer.listener.stop(5.0)
    (line,) = [r for r in caplog.records if r.message == "association ended"]
    facts = vars(line)
    assert (facts["stored_count"], facts["refused_count"], facts["bytes"]) == (1, 1, len(encoded) + 3)
    assert (facts["outcome"], facts["calling_aet"], facts["called_aet"]) == ("released", "MODALITY", "RADNODE")
    assert not any("Grün" in record.getMessage() for record in caplog.records)


def test_port_that_is_taken_is_named_with_a_remedy(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{peer.port} is taken.*node\.port"):
        Peer(tmp_path, port=peer.port)


def test_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"node\.bind"):
        Peer(tmp_path, bind="192.0.2.1", calling_aets=("MODALITY",))


def test_open_address_without_calling_aets_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"security\.calling_aets"):
        Peer(tmp_path, bind="0.0.0.0")
    peer = Peer(tmp_path, bind="0.0.0.0", insecure=True)
    peer.listener.stop()


def test_stop_waits_for_what_is_under_way_then_aborts(peer: Peer) -> None:
    with peer.association() as assoc:
        assert send(assoc, encode(ct_slice())).Status == 0x0000
        stopping = Thread(target=peer.listener.stop, args=(DEADLINE_S,))
        stopping.start()
        assert send(assoc, encode(ct_slice(level=9))).Status == 0x0000
        assoc.release()
        stopping.join(DEADLINE_S)
        assert not stopping.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((peer.host, peer.port))


def test_stop_aborts_a_sender_that_does_not_go(tmp_path: Path) -> None:
    peer = Peer(tmp_path)
    with peer.association() as assoc:
        peer.listener.stop(0.2)
        assoc.join(DEADLINE_S)
        assert assoc.is_aborted
