"""`radnode audit` on trails of every kind: whole, changed, cut, absent; and what the doctor says of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from node.audit.events import audit_log_used
from node.audit.inspection import prove_trail
from node.audit.trail import trail_files
from node.cli.main import app
from tests.ledgers import copy_ledger
from tests.trails import lines, make_alert, make_trail, texts


class Desk:
    """A node's data folder with a trail of three records, and `radnode` on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "audit"
        self.settings = folder / "site.toml"
        self.settings.write_text(f'[node]\ndata_dir = "{folder}"\n[store]\nreserve_bytes = 0\n', encoding="utf-8")
        copy_ledger(folder)
        self.trail = make_trail(self.folder)
        for text in ("one", "two", "three"):
            self.trail.append(make_alert(text))

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--settings", str(self.settings)])

    def change(self) -> None:
        (path,) = trail_files(self.folder)
        path.write_bytes(path.read_bytes().replace(b'"text":"two"', b'"text":"TWO"'))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_whole_trail_is_exit_0_with_the_digest_to_keep(desk: Desk) -> None:
    answer = desk.run("audit", "verify")
    digest = prove_trail(desk.folder).last_digest
    assert answer.exit_code == 0
    assert answer.stdout == f"3 records are whole, 1 to 3.\nDigest of the last: {digest}\n"
    assert desk.run("audit", "verify", "--holds", digest).exit_code == 0


def test_changed_trail_is_exit_1_and_names_the_first_broken_record(desk: Desk) -> None:
    desk.change()
    answer = desk.run("audit", "verify")
    assert answer.exit_code == 1
    assert answer.stdout.startswith("BROKEN: 000000000001.2025-01-14.jsonl, line 2 is no record, or was changed\n")
    facts = json.loads(desk.run("audit", "verify", "--json").stdout)
    assert (facts["is_whole"], facts["records"]) == (False, 1)


def test_cut_trail_is_exit_1_for_whoever_kept_a_digest(desk: Desk) -> None:
    digest = prove_trail(desk.folder).last_digest
    trail_files(desk.folder)[0].write_bytes(b"".join(lines(desk.folder)[:2]))
    assert desk.run("audit", "verify").exit_code == 0
    assert desk.run("audit", "verify", "--holds", digest).exit_code == 1


def test_unfinished_line_and_earlier_files_elsewhere_are_said_and_are_exit_0(desk: Desk) -> None:
    (path,) = trail_files(desk.folder)
    path.write_bytes(b"".join(lines(desk.folder)[1:]) + b'{"sequence":4')
    answer = desk.run("audit", "verify")
    assert answer.exit_code == 0
    assert "Records 1 to 1 are not in this folder." in answer.stdout
    assert "1 lines were left unfinished" in answer.stdout


def test_folder_without_a_trail_is_said_and_is_not_made(desk: Desk) -> None:
    for path in trail_files(desk.folder):
        path.unlink()
    desk.folder.rmdir()
    assert "There is no record" in desk.run("audit", "verify").stdout
    assert desk.run("audit", "show").stdout == "No such record.\n"
    assert not desk.folder.exists()


def test_records_are_shown_newest_first_and_that_somebody_looked_is_one_more(desk: Desk) -> None:
    found: list[dict[str, Any]] = json.loads(desk.run("audit", "show", "--json").stdout)
    assert [record["text"] for record in found] == ["three", "two", "one"]
    assert found[0]["facts"]["peer"] == "192.0.2.7"
    desk.trail.append(audit_log_used("file:///elsewhere", account="bob"))
    table = desk.run("audit", "show", "--kind", "audit-log-used").stdout
    assert "bob read the audit trail" in table
    assert "three" not in table
    assert len(texts(desk.folder)) == 6
    assert prove_trail(desk.folder).is_whole


@pytest.mark.parametrize(("since", "count"), [("2025-01-14", 3), ("2025-01-14T12:00:01", 0), ("20000d", 3), ("5m", 0)])
def test_records_are_shown_from_a_time_on(desk: Desk, since: str, count: int) -> None:
    assert len(json.loads(desk.run("audit", "show", "--since", since, "--json").stdout)) == count


@pytest.mark.parametrize("since", ["yesterday", "9999999999d", "7w"])
def test_time_that_is_none_is_one_line_and_exit_2(desk: Desk, since: str) -> None:
    answer = desk.run("audit", "show", "--since", since)
    assert (answer.exit_code, answer.stderr.count("\n")) == (2, 1)
    assert since in answer.stderr


def test_doctor_says_whether_the_trail_is_whole(desk: Desk) -> None:
    def said() -> tuple[bool, str]:
        checks = {check["name"]: check for check in json.loads(desk.run("doctor", "--json").stdout)}
        return checks["audit trail"]["is_right"], checks["audit trail"]["said"]

    assert said() == (True, "records 1 to 3 are whole")
    desk.change()
    is_right, text = said()
    assert not is_right
    assert text.startswith("audit-broken: 000000000001.2025-01-14.jsonl, line 2 ")
