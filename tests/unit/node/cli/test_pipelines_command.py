"""`radnode pipelines`: which are on, and the switch, in words and as JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.audit.inspection import read_records
from node.cli.main import app
from node.domain.job import JobState
from tests.ledgers import Books, copy_ledger


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = copy_ledger(tmp_path)
    monkeypatch.setenv("RADNODE__NODE__DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RADNODE__LEDGER__URL", url)
    return url


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["pipelines", *words])


def test_a_pipeline_is_switched_and_the_audit_trail_knows_by_whom(url: str, tmp_path: Path) -> None:
    books = Books(url)
    job = books.add_job()
    listed = json.loads(run("list", "--json").stdout)
    assert {one["mode"] for one in listed} == {"on"}
    answer = run("switch", "lung_nodules", "off", "--reason", "false alarms")
    assert answer.exit_code == 0, answer.output
    assert "lung_nodules is off: it is not asked." in answer.stdout
    assert "1 Jobs that waited or ran are canceled." in answer.stdout
    assert books.find(job).state is JobState.CANCELED
    (told,) = [record for record in read_records(tmp_path / "audit") if record.kind == "pipeline-switched"]
    assert (told.facts["pipeline"], told.facts["mode"]) == ("lung_nodules", "off")
    assert "false alarms" in run("list").stdout
    (listed,) = [one for one in json.loads(run("list", "--json").stdout) if one["mode"] == "off"]
    assert listed["switch"]["reason"] == "false alarms"
    books.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lung_nodules", "on"), "is on already"),
        (("nothing", "off"), "pipeline 'nothing' is unknown"),
    ],
)
def test_what_cannot_be_switched_is_said(words: tuple[str, str], said: str, url: str) -> None:
    answer = run("switch", *words)
    assert answer.exit_code == 2
    assert said in answer.stderr
    assert Books(url).view.list_events(5) == ()
