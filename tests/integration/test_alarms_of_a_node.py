"""A node that is started, and told of: its alarms reach ledger, log, commands, webhook and metrics."""

import json
import random
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.http_listener import Listener, get, serve
from tests.node_process import Launch, NodeProcess
from tests.peers import wait_until


def fixed_port() -> int:
    """Return a free port that no client of another test is given meanwhile: Linux takes those from 32768 on."""
    for port in random.sample(range(20_000, 30_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("a hundred ports are taken")


def ask(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.thorough
def test_a_silent_source_is_told_everywhere(tmp_path: Path) -> None:
    listener, port = Listener(), fixed_port()
    server = serve(listener)
    told = f"""
[alarms]
webhook = "http://127.0.0.1:{listener.port}/"
sources = [{{ aet = "CT1", minutes = 0.0001 }}]

[metrics]
port = {port}
"""
    with NodeProcess(tmp_path, told, node_keys="receivers = 1", launch=Launch(verb="serve")) as node:
        wait_until(lambda: listener.heard, what="the webhook", limit_s=60.0)
        standing = ask("alarms", "--json", "--settings", node.file)
        tested = ask("alarms", "--test", "--settings", node.file)
        doctor = ask("doctor", "--json", "--settings", node.file)
        printed = ask("metrics", "--settings", node.file)
        served = get(port, "/metrics")[2].decode()
        log = (tmp_path / "node.log").read_text()
    server.shutdown()
    server.server_close()
    message = listener.heard[0][2]
    assert (message["alarm"], message["subject"], message["state"]) == ("source-silent", "CT1", "raised")
    assert [(alarm["kind"], alarm["subject"]) for alarm in json.loads(standing.stdout)] == [("source-silent", "CT1")]
    assert tested.exit_code == 0, tested.stderr
    assert listener.heard[-1][2]["state"] == "test"
    (wrong,) = [check for check in json.loads(doctor.stdout) if check["name"] == "alarm source-silent CT1"]
    assert (doctor.exit_code, wrong["is_right"]) == (1, False)
    for text in (printed.stdout, served):
        values = {
            sample.labels.get("kind"): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "radnode_alarms"
        }
        assert values["source-silent"] == 1
        assert values["broker-away"] == 0
    (raised,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "alarm raised"]
    assert (raised["alarm"], raised["subject"], raised["level"]) == ("source-silent", "CT1", "ERROR")
