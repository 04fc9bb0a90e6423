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


def test_a_rule_may_name_a_destination_of_its_own_settings(folder: Path) -> None:
    web = '\n[destinations.web]\ntransport = "folder"\nurl = "out"\n'
    done = run(folder, f'{web}{RULE.format(name="CT", modality="CT")}deliver_to = ["web"]\n')
    assert done.exit_code == 0, done.output
    assert "lung_nodules: would start on 1" in done.output


def test_a_file_that_holds_rules_alone_is_among_the_settings_that_are(folder: Path) -> None:
    old = write(
        folder, "old", '[destinations.pacs]\ntransport = "folder"\nurl = "out"\n', RULE.format(name="MR", modality="MR")
    )
    new = folder / "rules.toml"
    new.write_text(f'{RULE.format(name="CT", modality="CT")}deliver_to = ["pacs"]\n', encoding="utf-8")
    files = ("--settings", str(new), "--against", str(old))
    done = CliRunner().invoke(app, ["rules", "dry-run", *files, "--since", SINCE])
    assert done.exit_code == 0, done.output
    assert "lung_nodules: would start on 1" in done.output


def test_the_line_of_a_rule_that_is_refused_is_that_of_its_file(folder: Path) -> None:
    wrong = 'deliver_to = ["nowhere"]'
    done = run(folder, f"{RULE.format(name='CT', modality='CT')}{wrong}\n")
    assert done.exit_code == 2
    lines = (folder / "new.toml").read_text(encoding="utf-8").splitlines()
    assert f"line {lines.index(wrong) + 1}: rule 'CT'" in done.output


def test_what_would_be_done_otherwise_is_told_with_the_rule_that_orders_it(folder: Path) -> None:
    other = RULE.format(name="MR only", modality="MR")
    destinations = "".join(f'\n[destinations.{name}]\ntransport = "folder"\nurl = "out"\n' for name in ("pacs", "web"))
    ct = f"{other}{RULE.format(name='CT', modality='CT')}"
    old = write(folder, "old", destinations, ct, 'deliver_to = ["pacs"]\n')
    new = write(folder, "new", destinations, ct, 'deliver_to = ["pacs", "web"]\npriority = "high"\n')
    files = ("--settings", str(new), "--against", str(old))
    done = CliRunner().invoke(app, ["rules", "dry-run", *files, "--since", SINCE])
    assert done.exit_code == 0, done.output
    assert "lung_nodules: priority high instead of" in done.output
    assert "to pacs, web instead of pacs" in done.output
    (line,) = (line for line in done.output.splitlines() if STUDY in line)
    assert "CT: " in line
    assert "MR only" not in line
