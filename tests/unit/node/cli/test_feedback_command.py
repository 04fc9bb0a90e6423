"""Verdicts and reprocessing on the command line."""

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from node.domain.review import ReviewOrder, Verdict
from node.ledger.reviews import ReviewLedger
from tests.ledgers import STUDY, at, make_outcome, make_result
from tests.shells import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.books.close()


def review(shell: Shell, comment: str) -> None:
    job = shell.books.claim(shell.books.add_job())
    shell.books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    order = ReviewOrder(job_id=job.job_id, number=1, verdict=Verdict.REJECT, reviewer="rita", comment=comment)
    ReviewLedger(shell.books.engine).record_review(order, now=at(2))


def test_verdicts_are_counted_by_version_and_exported(shell: Shell) -> None:
    assert shell.run("models", "feedback").stdout == "Nobody has reviewed a finding yet.\n"
    review(shell, comment="@vessel")
    assert "model  1.0.0    lung_nodules  0         1         0" in shell.run("models", "feedback").stdout
    (row,) = csv.DictReader(StringIO(shell.run("feedback", "export", "--csv").stdout.lstrip("\ufeff")))
    assert (row["label"], row["verdict"], row["comment"]) == ("Nodule 1", "reject", "'@vessel")
    (told,) = json.loads(shell.run("feedback", "export", "--json").stdout)
    assert (told["model_version"], told["comment"], told["counts"]) == ("1.0.0", "@vessel", "yes")
    assert shell.run("feedback", "export").exit_code == 2


def test_a_study_is_reprocessed_by_hand_once(shell: Shell) -> None:
    review(shell, comment="")
    assert shell.run("studies", "reprocess", STUDY).stdout.startswith("The rules are asked again")
    again = shell.run("studies", "reprocess", STUDY)
    assert (again.exit_code, again.stderr) == (
        2, f"radnode: study {STUDY} is SETTLED: its rules are asked in a moment anyway\n"
    )  # fmt: skip
    assert shell.books.view.study_story(STUDY).events[-1].kind == "study-reprocessed"
    assert (shell.settings.parent / "audit").is_dir()
