"""Orders as people and programs see them, and on their way through a node that runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from node.cli.main import app
from node.domain.decision import Outcome
from node.domain.imaging_order import ImagingOrder, OrderOrigin
from node.domain.job import Priority
from node.domain.uids import StudyUID
from node.ledger.imaging_orders import OrderLedger, Told
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from tests.hl7_messages import client, code_of, omi
from tests.instances import ct_slice
from tests.ledgers import STUDY, Books, at, copy_ledger, make_facts
from tests.node_process import Launch, NodeProcess
from tests.peers import free_port
from tests.websites import Website, website

ORDER = ImagingOrder(
    identity="HL7|placer|RIS|PL1",
    origin=OrderOrigin.HL7,
    source="RIS/HOSP",
    accession_number="A1",
    patient_id="P1",
    priority=Priority.STAT,
    procedure_text="CT <chest>",
    requested_by="Doctor Who",
)
WORDS = "ordered 2025-01-14 12:00 UTC by Doctor Who, priority stat, CT <chest>, told by HL7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node")
    books = Books(copy_ledger(path))
    OrderLedger(books.engine).record(Told(orders=(ORDER,)), now=at(0))
    books.instances.record_instance(make_facts(AccessionNumber="A1", PatientID="P1"))
    books.close()
    return path


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Website]:
    with website(folder) as opened:
        yield opened


def test_the_page_of_a_study_has_the_order_in_one_line(site: Website) -> None:
    headers, _ = site.log_in()
    _, body = site.ask("GET", f"/studies/{STUDY}", headers=headers)
    assert f"Order 1: {WORDS.replace('<', '&lt;').replace('>', '&gt;')}" in body.decode()


def test_programs_are_told_the_order(site: Website) -> None:
    _, body = site.ask("GET", f"/api/v1/studies/{STUDY}")
    (order,) = json.loads(body)["orders"]
    assert (order["in_words"], order["priority"], order["state"]) == (WORDS, "stat", "ORDERED")


def test_the_command_line_tells_orders(site: Website, tmp_path: Path) -> None:
    settings = tmp_path / "site.toml"
    told = site.services.settings
    settings.write_text(f'[node]\ndata_dir = "{told.node.data_dir}"\n[ledger]\nurl = "{told.ledger_url}"\n')

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--settings", str(settings)])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    assert WORDS in run("studies", "show", STUDY)
    assert "stat" in run("orders", "list")
    assert json.loads(run("orders", "list", "--json"))[0]["accession_number"] == "A1"
    assert WORDS in run("orders", "show", "1")
    assert json.loads(run("orders", "show", "1", "--json"))["studies"] == [STUDY]
    assert CliRunner().invoke(app, ["orders", "show", "9", "--settings", str(settings)]).exit_code == 2


def test_a_node_takes_an_order_and_its_rules_follow(tmp_path: Path) -> None:
    port, uid = free_port(), StudyUID("1.2.840.55.1")
    ds = ct_slice(sop_instance_uid=f"{uid}.1.1")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid, f"{uid}.1"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    text = (
        f"[assembly]\nquiet_seconds = 0.2\n[hl7]\nport = {port}\n"
        f'[destinations.desk]\ntransport = "folder"\nurl = "{tmp_path / "desk"}"\n'
        '[[rules]]\nname = "urgent"\nforward = ["desk"]\nwhen = { order_priority = "stat" }\n'
    )
    with NodeProcess(tmp_path, text, launch=Launch(verb="serve")) as node:
        with client(port) as sender:
            assert code_of(sender.ask(omi(uid="1.2.840.55.9"))) == "AA|M1"
        send([ds], node.peer)

        def outcome_is(outcome: Outcome) -> Callable[[StudyStory], bool]:
            return lambda story: story.state == "ROUTED" and any(one.outcome is outcome for one in story.decisions)

        node.wait_for_study(uid, outcome_is(Outcome.UNDETERMINED))
        # The order comes after the Study.
        with client(port) as sender:
            assert code_of(sender.ask(omi(uid=uid, control_id="M2", placer="PL2"))) == "AA|M2"
        story = node.wait_for_study(uid, outcome_is(Outcome.MATCH))
        assert "order-heard" in [event.kind for event in story.events]
        assert node.stop() == 0
    assert "Doe" not in (tmp_path / "node.log").read_text()
