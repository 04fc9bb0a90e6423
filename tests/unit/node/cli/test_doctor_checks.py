"""What `radnode doctor` says of orders in and reports out: each line names the thing, and what to do."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.main import app
from node.errors import Misconfigured
from node.hl7.listener import require_guarded
from tests.fhir_server import fhir_server
from tests.ledgers import copy_ledger
from tests.mllp_receiver import mllp_receiver
from tests.peers import free_port


def test_doctor_names_what_is_wrong_with_orders_and_reports(tmp_path: Path) -> None:
    site, closed = tmp_path / "site.toml", free_port()
    with mllp_receiver() as ris, fhir_server(token="s3cret") as his:
        site.write_text(
            f'[node]\ndata_dir = "{tmp_path}"\n[ledger]\nurl = "{copy_ledger(tmp_path)}"\n'
            f'[hl7]\nport = {ris.port}\n[worklist]\naet = "RISWL"\nhost = "127.0.0.1"\nport = {closed}\n'
            f'[destinations.ris]\ntransport = "hl7"\nhost = "127.0.0.1"\nport = {ris.port}\n'
            f'[destinations.gone]\ntransport = "hl7"\nhost = "127.0.0.1"\nport = {closed}\n'
            f'[destinations.his]\ntransport = "fhir"\nurl = "{his.url}"\n'
        )
        answer = CliRunner().invoke(app, ["doctor", "--json", "--settings", str(site)])
    found = {check["name"]: (check["is_right"], check["said"]) for check in json.loads(answer.stdout)}
    assert found["hl7"] == (True, f"127.0.0.1:{ris.port}, plain, orders of this machine: takes connections")
    assert found["destination ris"] == (
        True,
        f"127.0.0.1:{ris.port} takes connections; is told of each answer by one message",
    )
    for name, words in {
        "worklist": ("destination-down", str(closed), "correct [worklist]"),
        "destination gone": ("destination-down", str(closed), "check host and port"),
        "destination his": ("misconfigured", "set destinations.his.token"),
    }.items():
        is_right, said = found[name]
        assert not is_right, name
        assert all(word in said for word in words), said
    with pytest.raises(Misconfigured, match=r"hl7\.allowed_networks is empty; list who may send"):
        require_guarded("0.0.0.0", ())
