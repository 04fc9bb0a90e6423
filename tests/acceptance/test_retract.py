"""What a person takes back: PACS, RIS and HIS are told so and what is right, and the node can say who did it."""

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from node.audit.inspection import read_records
from node.domain.result import DeliveryState, Result, ResultKind
from node.domain.uids import StudyUID
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.fhir_server import FhirServer, fhir_server
from tests.mllp_receiver import MllpReceiver, fields, mllp_receiver
from tests.node_process import QUICK, NodeProcess, destination_table, run_radnode
from tests.phantoms import small_chest_ct
from tests.trails import message_of
from tests.validators import list_errors

DATASETS = small_chest_ct().datasets
STUDY = str(DATASETS[0].StudyInstanceUID)
REJECTED_FOR_QUALITY = "113001"


def is_answered(story: StudyStory) -> bool:
    return bool(story.jobs) and story.is_finished


def find_results(story: StudyStory, kind: ResultKind) -> list[Result]:
    return [result for result in story.results if result.kind is kind]


def find_received(pacs: SimulatedPacs, result: Result) -> Path:
    return next(one.path for one in pacs.record.received if one.sop_instance_uid == result.sop_instance_uid)


def told(ris: MllpReceiver, his: FhirServer) -> str:
    return (
        f'[destinations.ris]\ntransport = "hl7"\nhost = "127.0.0.1"\nport = {ris.port}\napplication = "RIS"\n'
        f'[destinations.his]\ntransport = "fhir"\nurl = "{his.url}"\ntoken = "s3cret"\n'
    )


def require_told(ris: MllpReceiver, his: FhirServer, *, findings: int) -> None:
    """The first message told it all, the last one what is right; in between it may have been taken back."""
    first, last = ris.heard[0], ris.heard[-1]
    assert (fields(first, "MSH")[4], fields(first, "OBR")[25], fields(last, "OBR")[25]) == ("RIS", "P", "C")
    assert {line.split("|")[11] for line in last.split("\r") if line.startswith("OBX")} == {"C", "D"}
    assert 2 <= len(ris.heard) <= 3
    (report,) = his.all("DiagnosticReport")
    assert report["status"] == "amended"
    statuses = sorted(one["status"] for one in his.all("Observation"))
    assert statuses == ["amended"] * (findings - 1) + ["entered-in-error"]


@pytest.mark.needs("dciodvfy")
def test_a_struck_finding_leaves_the_report_and_the_pacs_is_told(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with (
        SimulatedPacs(tmp_path / "pacs") as pacs,
        mllp_receiver() as ris,
        fhir_server(token="s3cret") as his,
        NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer) + told(ris, his)) as node,
    ):
        assert not send(DATASETS, node.peer).failed
        first = node.wait_for_study(STUDY, is_answered)
        (old,) = find_results(first, ResultKind.SR)
        label = first.jobs[0].findings[0]["label"]
        ended = run_radnode(
            "results", "retract", old.sop_instance_uid, "--reason", "quality", "--strike", label,
            "--comment", "A vessel.", "--settings", node.file,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        after = node.wait_for_study(STUDY, lambda s: bool(find_results(s, ResultKind.REJECTION_NOTE)) and s.is_finished)
        (rejection,) = find_results(after, ResultKind.REJECTION_NOTE)
        note_path = find_received(pacs, rejection)
        corrected = next(r for r in find_results(after, ResultKind.SR) if r.retracted_at is None)
        report = dcmread(find_received(pacs, corrected))
        again = run_radnode("results", "retract", old.sop_instance_uid, "--reason", "quality", "--settings", node.file)
    require_told(ris, his, findings=len(first.jobs[0].findings))
    note = dcmread(note_path)
    assert note.ConceptNameCodeSequence[0].CodeValue == REJECTED_FOR_QUALITY
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    rejected = {
        item.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence for item in one.ReferencedSOPSequence
    }
    assert rejected == {r.sop_instance_uid for r in first.results if not r.is_substitute}
    predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == old.sop_instance_uid
    assert f"AI {label}" not in report.to_json()
    assert list_errors(note_path) == []
    assert "results-retracted" in [event.kind for event in after.events]
    assert again.returncode == 2
    assert "was retracted at" in again.stderr


@pytest.mark.thorough
def test_what_is_retracted_before_it_leaves_never_leaves(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    pacs = SimulatedPacs(tmp_path / "pacs")
    with pacs:
        peer = pacs.peer
    with NodeProcess(tmp_path / "node", QUICK + destination_table(peer)) as node:
        assert not send(DATASETS, node.peer).failed
        first = node.wait_for_study(STUDY, lambda s: bool(s.results))
        listed = run_radnode("results", "list", "--study", STUDY, "--json", "--settings", node.file)
        uid = next(line["sop_instance_uid"] for line in json.loads(listed.stdout) if line["kind"] == "SEG")
        assert run_radnode("results", "retract", uid, "--reason", "quality", "--settings", node.file).returncode == 0
        run_radnode("deliveries", "retry", "--settings", node.file)
        after = node.view.study_story(StudyUID(STUDY))
    held = {d.sop_instance_uid for d in after.deliveries if d.state is DeliveryState.REFUSED}
    assert held == {r.sop_instance_uid for r in first.results if not r.is_substitute}
    (retracted,) = (r for r in read_records(node.folder / "data" / "audit") if r.kind == "results-retracted")
    event = message_of(retracted).find("EventIdentification/EventTypeCode")
    assert event is not None
    assert event.attrib["csd-code"] == REJECTED_FOR_QUALITY
    assert retracted.facts["instances"] == len(held)
    waiting = [d for d in after.deliveries if d.state is DeliveryState.PENDING]
    assert [d.sop_instance_uid for d in waiting] == [
        r.sop_instance_uid for r in find_results(after, ResultKind.REJECTION_NOTE)
    ]
