"""`radnode rules dry-run`: what other rules would have done with the Studies of the ledger."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.ledgers import NOON, STUDY, Books, copy_ledger, make_facts

RULE = '\n[[rules]]\nname = "{name}"\nwhen = {{ modality = "{modality}" }}\nrun = ["lung_nodules"]\n'
SINCE = f"{NOON:%Y-%m-%d}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a node that knows one CT Series."""
    books = Books(copy_ledger(tmp_path))
    books.instances.record_instance(make_facts(Modality="CT"))
    yield tmp_path
    books.close()


def write(folder: Path, name: str, *rules: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'[node]\ndata_dir = "{folder}"\n{"".join(rules)}', encoding="utf-8")
    return path


def run(folder: Path, edited: str, *words: str) -> Result:
    old = write(folder, "old", RULE.format(name="MR only", modality="MR"))
    new = write(folder, "new", edited)
    files = ("--settings", str(new), "--against", str(old))
    return CliRunner().invoke(app, ["rules", "dry-run", *files, "--since", SINCE, *words])


def test_each_study_is_listed_with_what_would_start_and_why(folder: Path) -> None:
    done = run(folder, RULE.format(name="CT, too", modality="CT"))
    assert done.exit_code == 0, done.output
    assert "1 of 1 Studies asked about; otherwise with 1." in done.output
    assert "lung_nodules: would start on 1" in done.output
    assert STUDY in done.output
    told = json.loads(run(folder, RULE.format(name="CT, too", modality="CT"), "--json").output)
    assert told["found"]["differences"][0]["starts"] == ["lung_nodules"]


def test_rules_that_do_the_same_change_nothing(folder: Path) -> None:
    done = run(folder, RULE.format(name="another name", modality="MR"))
    assert done.exit_code == 0
    assert "Nothing would be done otherwise." in done.output


def test_rules_that_cannot_be_evaluated_are_refused(folder: Path) -> None:
    done = run(folder, RULE.format(name="wrong", modality="CT").replace("modality", "modalty"))
    assert done.exit_code == 2
    assert 'did you mean "modality"' in done.output
