"""The audit trail of a running node, as `radnode audit` shows and proves it: refusals, floods, Studies in and out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from typer.testing import CliRunner

from node.audit.inspection import prove_trail, read_records
from node.audit.record import Record
from node.cli.main import app
from node.rehearsal.pacs import SimulatedPacs
from tests.instances import CT_IMAGE_STORAGE, STUDY, ct_slice, encode
from tests.node_process import Launch, NodeProcess, destination_table, run_radnode
from tests.pdus import STORAGE_ID, Rejected, Response, Wire, associate_rq, associated, message, store_rq, wire_to
from tests.peers import wait_until
from tests.trails import message_of

PATIENT_ID, PATIENT_NAME = "PID-8815162342", "Quetzalcoatlus^Maria"
FLOOD, BURST = 150, 60
FORWARD = """
[assembly]
quiet_seconds = 0.2

[[rules]]
name = "everything"
forward = ["pacs"]
[rules.when]
modality = "CT"

"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Return a node that has received a Study, passed it on, and refused something."""
    folder = tmp_path_factory.mktemp("node")
    with SimulatedPacs(tmp_path_factory.mktemp("pacs")) as pacs:
        settings = FORWARD + destination_table(pacs.peer)
        with NodeProcess(folder, settings, launch=Launch(verb="serve")) as running:
            with associated(running.peer) as wire:
                assert [store(wire, number).status for number in (1, 2)] == [0, 0]
                assert store(wire, 3, cut_bytes=2).status == 0xC000
                wire.release()
            with wire_to(running.peer) as wire:
                wire.send(associate_rq(called="ELSEWHERE", calling="STRANGER"))
                assert wire.answer() == Rejected(1, 1, 7)
            wait_until(lambda: {"study-sent", "study-received"} <= set(kinds(running)), what="the Study in the trail")
            yield running


def store(wire: Wire, number: int, *, cut_bytes: int = 0) -> Response:
    """Send one Instance, without its last bytes, and return the answer."""
    ds = ct_slice(sop_instance_uid=f"1.2.3.4.{number}")
    ds.PatientID, ds.PatientName = PATIENT_ID, PATIENT_NAME
    encoded = encode(ds)
    command = store_rq(number, sop_instance_uid=f"1.2.3.4.{number}")
    wire.send(message(STORAGE_ID, command, encoded[: len(encoded) - cut_bytes]))
    answer = wire.answer()
    assert isinstance(answer, Response)
    return answer


def folder_of(node: NodeProcess) -> Path:
    return node.folder / "data" / "audit"


def kinds(node: NodeProcess) -> list[str]:
    return [record.kind for record in read_records(folder_of(node))]


def only(node: NodeProcess, kind: str) -> Record:
    (record,) = (record for record in read_records(folder_of(node)) if record.kind == kind)
    return record


def shown(node: NodeProcess, *words: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(app, ["audit", "show", *words, "--settings", str(node.file), "--json"])
    assert answer.exit_code == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def test_refusals_are_shown_each_once_with_who_and_why(node: NodeProcess) -> None:
    (instance,) = shown(node, "--kind", "instance-refused")
    (association,) = shown(node, "--kind", "association-refused")
    facts = instance["facts"]
    assert (facts["code"], facts["calling_aet"], facts["peer"], facts["count"]) == (
        "not-dicom", "MODALITY", "127.0.0.1", 1,
    )  # fmt: skip
    assert "ELSEWHERE" in association["text"]
    assert association["facts"]["calling_aet"] == "STRANGER"
    assert fromstring(association["message"]).find("EventIdentification/EventTypeCode[@csd-code='110126']") is not None
    events = {event.kind: event.text for event in node.view.list_events(limit=100)}
    for record in (instance, association):
        assert events[record["kind"]] == record["text"]


def test_every_message_is_valid_and_only_the_trail_names_the_patient(node: NodeProcess) -> None:
    found = list(read_records(folder_of(node)))
    for record in found:
        message_of(record)
        assert PATIENT_ID not in record.text
        assert PATIENT_ID not in repr(record.facts)
        assert PATIENT_NAME not in repr(record)
    named = {record.kind for record in found if PATIENT_ID in record.message}
    assert named == {"transfer-begun", "study-received", "study-sent"}
    assert PATIENT_ID not in (node.folder / "node.log").read_text()


def test_study_is_told_when_it_comes_and_when_it_leaves(node: NodeProcess) -> None:
    received, sent = only(node, "study-received"), only(node, "study-sent")
    assert (received.facts["instances"], received.facts["from"], received.facts["study_instance_uid"]) == (
        2, "MODALITY", STUDY,
    )  # fmt: skip
    assert (sent.facts["instances"], sent.facts["to"]) == (2, "pacs")
    (sop_class,) = message_of(received).iter("SOPClass")
    assert sop_class.attrib == {"UID": CT_IMAGE_STORAGE, "NumberOfInstances": "2"}
    peers = [participant.get("AlternativeUserID") for participant in message_of(sent).iter("ActiveParticipant")]
    assert peers == ["AETITLES=RADNODE", "AETITLES=PACS"]
    assert kinds(node)[0] == "node-started"
    assert kinds(node).count("transfer-begun") == 2


def test_looking_is_recorded_and_leaves_the_chain_whole(node: NodeProcess) -> None:
    looked = kinds(node).count("audit-log-used")
    assert shown(node, "--since", "1h", "--limit", "1")
    assert shown(node, "--since", "2100-01-01") == []
    assert kinds(node).count("audit-log-used") == looked + 2
    answer = run_radnode("audit", "verify", "--settings", node.file)
    assert answer.returncode == 0, answer.stdout
    assert "records are whole" in answer.stdout


def test_flood_of_one_peer_is_told_by_its_number_and_the_node_s_end_by_a_record(tmp_path: Path) -> None:
    """What a hostile peer costs the disk is bounded, and no refusal goes uncounted."""
    with NodeProcess(tmp_path, "", node_keys="receivers = 1", launch=Launch(verb="serve")) as node:
        for _ in range(FLOOD):
            with wire_to(node.peer) as wire:
                wire.send(associate_rq(called="ELSEWHERE"))
                assert wire.answer() == Rejected(1, 1, 7)
        node.stop()
        refused = [record for record in read_records(folder_of(node)) if record.kind == "association-refused"]
        # Some more are told one by one because the flood takes a few seconds.
        assert BURST < len(refused) < BURST + 10
        assert sum(record.facts["count"] for record in refused) == FLOOD
        assert "more like this one" in refused[-1].text
        assert len([event for event in node.view.list_events(limit=500) if event.kind == "association-refused"]) == len(
            refused
        )
        assert kinds(node)[-1] == "node-stopped"
        log = (tmp_path / "node.log").read_text()
        assert log.count('"association rejected"') == FLOOD
        assert prove_trail(folder_of(node)).is_whole


def test_node_that_cannot_write_its_trail_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "audit").write_text("no folder")
    answer = run_radnode("serve", "--settings", NodeProcess(tmp_path, "").file)
    assert answer.returncode == 2
    assert "the audit trail" in answer.stderr.splitlines()[-1]
