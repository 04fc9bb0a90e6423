"""Metrics on the HTTP port: for whoever may read, the same as everywhere else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.domain.account import Right
from node.lock import FolderLock
from node.metrics.memory import measure_memory
from tests.websites import Website, website


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    folder = tmp_path_factory.mktemp("site")
    lock = FolderLock(folder)
    lock.hold()
    with website(folder, rights=frozenset({Right.READ})) as running:
        yield running
    lock.let_go()


def test_who_may_read_is_told(site: Website) -> None:
    response, body = site.ask("GET", "/metrics")
    told = {sample.name for family in text_string_to_metric_families(body.decode()) for sample in family.samples}
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert response.headers["Cache-Control"] == "no-store"
    assert {"radnode_info", "radnode_studies", "radnode_stage_seconds_bucket", "radnode_memory_bytes"} <= told


def test_a_stranger_is_told_nothing_but_that_the_node_lives(site: Website) -> None:
    stranger = {"Authorization": "Bearer no-token-of-anybody"}
    response, body = site.ask("GET", "/metrics", headers=stranger)
    assert response.status == 401
    assert b"radnode_" not in body
    assert site.ask("GET", "/healthz", headers=stranger)[0].status == 200


def test_memory_is_that_of_the_node_and_of_what_it_started(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.hold()
    command = [sys.executable, "-c", "print(1,flush=True);input()", "receiver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = measure_memory(tmp_path)
        child.communicate(b"\n")
    assert found["node"] > 10_000_000
    assert 1_000_000 < found["receiver"] < found["node"]
    lock.let_go()
    assert measure_memory(tmp_path) == {}


HEIR = """
import sys
from pathlib import Path
from node.ledger.journal import FOLDER, Journal

journal = Journal(Path(sys.argv[2]) / FOLDER, 1, wait_s=0.0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_memory_counts_a_receiver_whose_parent_has_died(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.hold()
    program = tmp_path / "heir.py"
    program.write_text(HEIR)
    # Its parent ends at once.
    begin = "import subprocess, sys; subprocess.Popen(sys.argv[1:])"
    command = [sys.executable, "-c", begin, sys.executable, str(program), "receiver", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.wait()
        assert measure_memory(tmp_path)["receiver"] > 1_000_000
    lock.let_go()


def test_a_folder_of_no_node_has_no_memory(tmp_path: Path) -> None:
    assert measure_memory(tmp_path) == {}
