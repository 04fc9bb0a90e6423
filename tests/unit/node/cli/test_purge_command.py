"""`radnode studies purge` and `radnode deliveries dismiss`: what a person gives up, and what the node keeps."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from node.domain.result import DeliveryState
from node.ledger.retention import RetentionLedger
from tests.ledgers import NOON, STUDY, Books, copy_ledger, make_outcome, make_result


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Return a ledger with a Study whose one Result was refused."""
    made = Books(copy_ledger(tmp_path))
    job = made.claim(made.add_job())
    made.jobs.finish_job(job, make_outcome(make_result(job)), now=NOON)
    for delivery in made.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=9):
        made.deliveries.record_refused(delivery, now=NOON, reason_code="destination-refused", reason_text="no")
    yield made
    made.close()


def run(folder: Path, *words: str) -> Result:
    settings = folder / "site.toml"
    settings.write_text(f'[node]\ndata_dir = "{folder}"\n', encoding="utf-8")
    return CliRunner().invoke(app, [*words, "--settings", str(settings)])


def purge(folder: Path, *words: str) -> Result:
    return run(folder, "studies", "purge", *words)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ((), "name Studies"),
        ((STUDY, "--older-than", "1d", "--reason", "x"), "name Studies"),
        ((STUDY,), "--reason"),
        (("--older-than", "1d", "--anyway", "--reason", "x"), "--anyway"),
        (("--older-than", "a while", "--reason", "x"), "30d, 12h or 30m"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], remedy: str) -> None:
    copy_ledger(tmp_path)
    done = purge(tmp_path, *words)
    assert (done.exit_code, remedy in done.stderr) == (2, True), done.stderr


def test_a_trial_says_what_keeps_a_study_and_changes_nothing(books: Books, tmp_path: Path) -> None:
    done = purge(tmp_path, STUDY, "--dry-run")
    assert done.exit_code == 1
    assert "stays" in done.stdout
    assert "`radnode deliveries dismiss` takes note" in done.stdout
    forced = purge(tmp_path, STUDY, "--dry-run", "--anyway", "--json")
    assert json.loads(forced.stdout) == [{"study_instance_uid": STUDY, "goes": True, "said": ""}]
    assert RetentionLedger(books.engine).pending_purges() == ()


def test_what_was_dismissed_goes_and_who_ordered_it_is_told(books: Books, tmp_path: Path) -> None:
    assert purge(tmp_path, STUDY, "--reason", "asked for").exit_code == 1
    assert "1 refused" in run(tmp_path, "deliveries", "dismiss", "--study", STUDY).stdout
    assert run(tmp_path, "deliveries", "dismiss").exit_code == 2
    done = purge(tmp_path, STUDY, "--reason", "asked for")
    assert (done.exit_code, "2 files, 1010 bytes" in done.stdout) == (0, True), done.stdout
    (event,) = [event for event in books.view.study_story(STUDY).events if event.kind == "purge-ordered"]
    assert event.text.endswith("asked for")


def test_an_age_takes_only_what_may_go(books: Books, tmp_path: Path) -> None:
    assert "No Study is so old" in purge(tmp_path, "--older-than", "1d", "--reason", "age").stdout
    books.deliveries.dismiss_deliveries(destination=None, study=STUDY, ordered_by="keeper", now=NOON)
    assert "goes" in purge(tmp_path, "--older-than", "1d", "--reason", "age").stdout
    assert len(RetentionLedger(books.engine).pending_purges()) == 1


def test_one_that_stays_does_not_hold_up_the_others(books: Books, tmp_path: Path) -> None:
    done = purge(tmp_path, "9.9", STUDY, "--anyway", "--reason", "asked for")
    assert done.exit_code == 1
    assert "9.9" in done.stdout
    assert "is not in the ledger" in done.stdout
    assert len(RetentionLedger(books.engine).pending_purges()) == 1
