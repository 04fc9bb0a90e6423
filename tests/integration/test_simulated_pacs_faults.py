"""A simulated PACS that departs from what it should do: each way, on real sockets."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from node.peers.peer import Peer
from node.peers.sender import SendReport
from node.rehearsal.confirmation import (
    ALL_HELD,
    COMMITMENT_INSTANCE,
    FIND_SOP_CLASSES,
    SOME_MISSING,
    STORAGE_COMMITMENT,
)
from node.rehearsal.headers import write_datasets
from node.rehearsal.modality import send
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from tests.phantoms import small_brain_mr

WAIT_S = 30.0
PATIENCE_S = 3.0


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[SimulatedPacs]:
    with SimulatedPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_datasets(small_brain_mr().flair[:3], tmp_path_factory.mktemp("flair"))


def answers(pacs: SimulatedPacs) -> list[str]:
    return [request.answer for request in pacs.record.log]


def codes(report: SendReport) -> list[str | None]:
    return [file.outcome.code for file in report.files]


def test_a_response_without_status_is_no_success_and_nothing_is_kept(
    pacs: SimulatedPacs, files: tuple[Path, ...]
) -> None:
    pacs.change(Misbehavior(no_status_count=1))
    failed = send(files[:1], pacs.peer).failed
    assert "without Status" in str(failed[0].outcome.text)
    assert send(files[:1], pacs.peer).sent == 1
    assert answers(pacs) == ["no Status", "0000"]
    assert len(pacs.record.received) == 1


def test_silence_lasts_until_the_sender_gives_up(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(silent_count=1))
    began = monotonic()
    assert codes(send(files[:1], replace(pacs.peer, timeout_s=PATIENCE_S))) == ["destination-down"]
    assert monotonic() - began >= PATIENCE_S
    assert send(files[:1], pacs.peer).sent == 1
    assert answers(pacs) == ["no response", "0000"]


def test_silence_does_not_keep_a_pacs_from_ending(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(silent_count=1))
    sending = threading.Thread(target=send, args=(files[:1], pacs.peer))
    sending.start()
    assert pacs.wait_for(lambda record: len(record.log) == 1, timeout_s=WAIT_S)
    pacs.stop()
    sending.join(WAIT_S)
    assert not sending.is_alive()


def test_a_slow_pacs_takes_everything_once(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(delay_s=0.2))
    began = monotonic()
    assert send(files, pacs.peer).sent == len(files)
    assert monotonic() - began >= 0.2 * len(files)
    assert answers(pacs) == ["0000"] * len(files)


def test_the_smallest_pdus_carry_the_same_bytes(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(max_pdu_bytes=16))
    assert send(files[:1], pacs.peer).sent == 1
    (kept,) = pacs.record.received
    assert kept.path.read_bytes()[-1000:] == files[0].read_bytes()[-1000:]


def test_what_is_lost_was_answered_with_success_and_is_not_held(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(lost_count=1))
    assert send(files, pacs.peer).sent == len(files)
    assert answers(pacs) == ["0000, then lost", "0000", "0000"]
    assert all(request.is_taken for request in pacs.record.log)
    assert len(pacs.record.received) == len(files) - 1


def test_a_query_finds_what_is_held_and_not_what_was_lost(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(lost_count=1))
    uids = [str(file.sop_instance_uid) for file in send(files, pacs.peer).files]
    ae = AE()
    ae.add_requested_context(FIND_SOP_CLASSES[1])
    assoc = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.aet)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = str(small_brain_mr().flair[0].StudyInstanceUID)
    identifier.SOPInstanceUID = uids
    found = [match.SOPInstanceUID for _, match in assoc.send_c_find(identifier, FIND_SOP_CLASSES[1]) if match]
    assoc.release()
    assert sorted(found) == sorted(uids[1:])
    assert pacs.record.queries == 1


class Asker:
    """A node that asks for Storage Commitment, and takes the report on an Association that the PACS opens."""

    def __init__(self) -> None:
        self.reports: list[tuple[int | None, Dataset]] = []
        self.came = threading.Event()

    def take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        self.came.set()
        return 0x0000, None


def ask(pacs: SimulatedPacs, uids: list[str]) -> Asker:
    """Ask whether the PACS holds these Instances, and return who got the report."""
    asker = Asker()
    ae = AE(ae_title="NODE")
    ae.add_supported_context(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
    ae.add_requested_context(STORAGE_COMMITMENT)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, asker.take)])
    assert server is not None
    pacs.offer_commitment(Peer(aet="NODE", host="127.0.0.1", port=server.server_address[1]))
    pacs.stop()
    pacs.start()
    action = Dataset()
    action.TransactionUID = "1.2.3"
    action.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = str(small_brain_mr().flair[0].SOPClassUID)
        item.ReferencedSOPInstanceUID = uid
        action.ReferencedSOPSequence.append(item)
    try:
        assoc = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.aet)
        status, _ = assoc.send_n_action(action, 1, STORAGE_COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0x0000
        assoc.release()
        assert asker.came.wait(WAIT_S)
        pacs.stop()
    finally:
        server.shutdown()
    return asker


@pytest.mark.parametrize("lost", [0, 1])
def test_storage_commitment_tells_what_is_held(pacs: SimulatedPacs, files: tuple[Path, ...], lost: int) -> None:
    pacs.change(Misbehavior(lost_count=lost))
    uids = [str(file.sop_instance_uid) for file in send(files, pacs.peer).files]
    ((kind, report),) = ask(pacs, uids).reports
    assert kind == (SOME_MISSING if lost else ALL_HELD)
    assert report.TransactionUID == "1.2.3"
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == uids[lost:]
    missing = [item.ReferencedSOPInstanceUID for item in report.get("FailedSOPSequence", [])]
    assert missing == uids[:lost]
    assert pacs.record.commitment_requests == 1
