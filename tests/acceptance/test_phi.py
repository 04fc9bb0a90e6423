"""A name that occurs nowhere else goes through the whole node: it is in the Results, and in nothing that is watched.

The audit trail alone holds the Patient ID, as PS3.15 A.5.3 asks; the name is not even there.
"""

import copy
from pathlib import Path

from pydicom import dcmread
from redis import Redis
from typer.testing import CliRunner

from node.broker import socket_path
from node.cli.main import app
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.node_process import QUICK, NodeProcess, destination_table
from tests.phantoms import small_chest_xray

CANARY = "Quetzalcoatlus"
PATIENT_ID = "PID-8815162342"


def test_a_patient_is_in_no_log_and_no_broker_message(tmp_path: Path) -> None:
    ds = copy.deepcopy(small_chest_xray(with_opacity=True).dataset)
    ds.PatientName, ds.PatientID = f"{CANARY}^Maria", PATIENT_ID
    (tmp_path / "node").mkdir()
    with (
        SimulatedPacs(tmp_path / "pacs") as pacs,
        NodeProcess(tmp_path / "node", '[log]\nlevel = "DEBUG"\n' + QUICK + destination_table(pacs.peer)) as node,
    ):
        send([ds], node.peer)
        node.wait_for_study(str(ds.StudyInstanceUID), lambda story: story.jobs and story.is_finished)
        broker = Redis(unix_socket_path=str(socket_path(tmp_path / "node" / "data" / "broker")))
        kept = repr([(key, broker.dump(key)) for key in broker.scan_iter()])
        metrics = CliRunner().invoke(app, ["metrics", "--settings", str(node.file)]).stdout
        trail = "".join(path.read_text() for path in (tmp_path / "node" / "data" / "audit").iterdir())
        delivered = [dcmread(instance.path) for instance in pacs.record.received]
    assert {str(result.PatientID) for result in delivered} == {PATIENT_ID}
    watched = [kept, (tmp_path / "node" / "node.log").read_text(), (tmp_path / "node" / "output.txt").read_text()]
    watched += [path.read_text(errors="replace") for path in (tmp_path / "node" / "data" / "broker").rglob("*.log")]
    assert 'radnode_studies{state="ROUTED"} 1.0' in metrics
    watched.append(metrics)
    assert PATIENT_ID in trail
    assert CANARY not in trail
    for text in watched:
        assert CANARY not in text
        assert PATIENT_ID not in text
