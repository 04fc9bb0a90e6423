"""`radnode rehearse` as a physicist runs it: a node passes with faults, a receiver that answers nobody fails."""

import json
import re
from pathlib import Path

import pytest
from pydicom import dcmread

from node.commissioning import Cast, running_node
from node.peers.peer import Peer
from node.rehearsal.repertoire import Repertoire, pieces
from node.rehearsal.scenario import Verdict
from node.rehearsal.script import perform, write_script
from node.rehearsal.stage import Expects, Pace
from node.settings.loading import load_settings
from tests.node_process import QUICK, NodeProcess, destination_table, run_radnode
from tests.peers import Program, free_port, is_listening, require_program, wait_until

QUICK_PACE = Pace(patience_s=120.0, watch_s=1.0)
# What only a node with an AI can show; `make rehearse` plays every fault.
FAULTS = ("late", "hostile", "pacs-busy", "pacs-aborts")


@pytest.mark.thorough
def test_a_node_of_its_own_passes_with_faults_and_leaves_a_report_to_sign(tmp_path: Path) -> None:
    phantoms = (word for name in ("chest-xray", "mr-brain") for word in ("--phantom", name))
    faults = (word for name in FAULTS for word in ("--only", name))
    ended = run_radnode("rehearse", *phantoms, *faults, "--out", tmp_path, limit_s=600.0)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((tmp_path / "rehearsal.json").read_text())
    scenarios = {scenario["name"]: scenario for scenario in report["scenarios"]}
    assert list(scenarios) == ["echo", "chest-xray", "mr-brain", *FAULTS, "at-the-end"]
    assert {scenario["verdict"] for scenario in scenarios.values()} == {report["verdict"]} == {"passed"}
    assert sum(line["text"].endswith(": A700") for line in scenarios["pacs-busy"]["evidence"]) == 3
    assert any("2 SEG, 2 SR" in check["seen"] for check in scenarios["late"]["checks"])
    assert report["node"]["implementation_version_name"] == "RADNODE"
    page = (tmp_path / "rehearsal.html").read_text()
    assert "Signature" in page
    assert report["node"]["address"] in page
    received = [dcmread(path, stop_before_pixels=True) for path in (tmp_path / "pacs").rglob("*.dcm")]
    assert {ds.Modality for ds in received} == {"SEG", "SR", "OT"}
    assert {ds.PatientID for ds in received} == {f"REHEARSAL-{report['run']}"}


def test_a_node_that_runs_is_judged_by_its_ledger_too(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    pacs = Peer(aet="REHEARSAL", host="127.0.0.1", port=free_port())
    chosen = tuple(piece for piece in pieces() if not piece.is_series)
    cast = Cast(
        repertoire=Repertoire("acceptance", chosen), calling_aet="MODALITY", expects=Expects.RESULTS, out=tmp_path
    )
    with NodeProcess(tmp_path / "node", QUICK + destination_table(pacs)) as node:
        settings = load_settings(node.file)
        with running_node(node.peer, cast, pacs=pacs, pace=QUICK_PACE, settings=settings) as venue:
            script = write_script(chosen, with_faults=True, only=("pacs-warns",))
            outcomes = [perform(venue.stage, scenario) for scenario in script]
    for outcome in outcomes:
        wrong = [(check.expected, check.seen) for check in outcome.checks if not check.holds]
        assert outcome.verdict is Verdict.PASSED, (outcome.name, wrong, outcome.remark)
    said = [check.seen for outcome in outcomes for check in outcome.checks if "own ledger" in check.expected]
    assert len(said) == 2
    assert all(re.fullmatch("Study ROUTED, 1 Job COMPLETED, 2 Deliveries (SENT|COMMITTED)", words) for words in said)


@pytest.mark.needs("storescp")
def test_a_receiver_that_sends_no_results_fails(tmp_path: Path) -> None:
    port, pacs_port = free_port(), free_port()
    (tmp_path / "kept").mkdir()
    receiver = Program(
        [require_program("storescp"), "-od", str(tmp_path / "kept"), "-aet", "STORESCP", str(port)], tmp_path
    )
    receiver.start()
    try:
        wait_until(lambda: is_listening(port), what="storescp")
        ended = run_radnode(
            *("rehearse", "--faults", "--to", f"STORESCP@127.0.0.1:{port}", "--pacs", f"PACS@127.0.0.1:{pacs_port}"),
            *("--phantom", "chest-xray", "--patience", "2", "--out", tmp_path / "out"),
        )
    finally:
        receiver.stop()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    report = json.loads((tmp_path / "out" / "rehearsal.json").read_text())
    verdicts = {scenario["name"]: scenario["verdict"] for scenario in report["scenarios"]}
    assert report["verdict"] == "failed"
    assert verdicts["echo"] == "passed"
    assert verdicts["chest-xray"] == "failed"
    assert verdicts["pacs-down"] == "not played"
    film = report["scenarios"][1]["checks"]
    assert [check["holds"] for check in film] == [True, False]
    assert "nothing within 2 s" in film[1]["seen"]


def test_a_phantom_or_a_fault_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    for option in ("--phantom", "--only"):
        ended = run_radnode("rehearse", option, "teapot", "--out", tmp_path / "none")
        assert ended.returncode == 2
        assert "teapot" in ended.stderr
    assert not (tmp_path / "none").exists()
