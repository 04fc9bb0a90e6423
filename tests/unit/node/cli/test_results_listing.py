"""`radnode results list` and `show`: what was written, where it went, what no longer stands."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from node.domain.result import ResultKind
from node.domain.retraction import RejectionReason, RetractionOrder
from node.ledger.retractions import RetractionLedger
from tests.ledgers import NOON, STUDY, Books, at, copy_ledger, make_outcome, make_result


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """Return a ledger with a finished Job: a SEG, an SR and a picture that nobody wished for."""
    books = Books(copy_ledger(tmp_path))
    job = books.claim(books.add_job())
    results = (
        make_result(job),
        make_result(job, kind=ResultKind.SR, number=2),
        replace(make_result(job, kind=ResultKind.SC, number=3), is_substitute=True),
    )
    books.jobs.finish_job(job, make_outcome(*results), now=NOON)
    return books


def run(folder: Path, *words: str) -> Result:
    settings = folder / "site.toml"
    settings.write_text(f'[node]\ndata_dir = "{folder}"\n', encoding="utf-8")
    return CliRunner().invoke(app, ["results", *words, "--settings", str(settings)])


def test_an_empty_ledger_says_so(tmp_path: Path) -> None:
    copy_ledger(tmp_path)
    assert run(tmp_path, "list").stdout == "No Result yet.\n"


def test_a_listing_tells_kind_way_and_standing(books: Books, tmp_path: Path) -> None:
    lines = {line.split()[1]: line for line in run(tmp_path, "list").stdout.splitlines()[1:]}
    assert set(lines) == {"SEG", "SR", "SC"}
    assert all("lung_nodules" in line for line in lines.values())
    assert "pacs PENDING" in lines["SEG"]
    assert "stands" in lines["SEG"]
    assert "pacs" not in lines["SC"]
    assert "substitute" in lines["SC"]


def test_a_listing_keeps_to_one_study(books: Books, tmp_path: Path) -> None:
    assert len(json.loads(run(tmp_path, "list", "--study", STUDY, "--json").stdout)) == 3
    assert run(tmp_path, "list", "--study", "9.9").stdout == "No Result yet.\n"
    assert len(json.loads(run(tmp_path, "list", "--limit", "1", "--json").stdout)) == 1


def test_one_result_is_shown_with_its_file_and_deliveries(books: Books, tmp_path: Path) -> None:
    told = run(tmp_path, "show", "2.25.1").stdout
    assert str(tmp_path / "store" / "results" / "2.25.1.dcm") in told.replace("\n", "")
    assert "PENDING" in told
    document = json.loads(run(tmp_path, "show", "2.25.3", "--json").stdout)
    assert (document["kind"], document["is_substitute"], document["deliveries"]) == ("SC", True, [])
    assert document["pipeline"] == "lung_nodules"


def test_a_retracted_result_says_when(books: Books, tmp_path: Path) -> None:
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="a person")
    book = RetractionLedger(books.engine)
    book.order_retraction(make_result(books.only_job()).sop_instance_uid, order, now=at(60))
    assert "retracted 2025-01-14T12:01+00:00" in run(tmp_path, "list").stdout
    assert "retracted 2025-01-14T12:01+00:00" in run(tmp_path, "show", "2.25.1").stdout


def test_a_result_that_is_not_there_is_one_line_on_standard_error(tmp_path: Path) -> None:
    copy_ledger(tmp_path)
    answer = run(tmp_path, "show", "9.9")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr == "radnode: result 9.9 is not in the ledger; see `radnode results list`\n"
