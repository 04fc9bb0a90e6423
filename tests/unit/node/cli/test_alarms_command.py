"""Alarms and stories on the command line."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.alarm import AlarmKind
from node.ledger.alarms import AlarmLedger
from tests.ledgers import STUDY, at, make_outcome, make_result
from tests.shells import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.books.close()


def test_what_stands_is_listed_and_what_is_well_again_is_not(shell: Shell) -> None:
    assert shell.run("alarms").stdout == "No alarm stands.\n"
    ledger = AlarmLedger(shell.books.engine)
    for subject in ("pacs", "archive"):
        ledger.raise_alarm(AlarmKind.DESTINATION_DOWN, subject, f"{subject} is down", now=at(0))
    ledger.heal_alarm(ledger.standing_alarms()[0].alarm_id, now=at(7200))
    standing, everything = shell.run("alarms").stdout, shell.run("alarms", "--all").stdout
    assert "archive is down" in standing
    assert "pacs" not in standing
    assert [word in everything for word in ("STANDS", "healed", "2 h", "pacs is down")] == [True] * 4


def test_a_webhook_that_is_not_there_cannot_be_tried(shell: Shell) -> None:
    tried = shell.run("alarms", "--test")
    assert (tried.exit_code, tried.stderr) == (2, "radnode: alarms.webhook is empty; give the URL that is to be told\n")


def test_the_story_of_a_study_says_in_words_what_became_of_it(shell: Shell) -> None:
    books = shell.books
    job = books.claim(books.add_job(), now=at(3))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(5))
    reason = ("destination-down", "pacs does not answer")
    books.deliveries.defer_deliveries("pacs", now=at(6), not_before=at(9), reason=reason)
    told = shell.run("studies", "show", STUDY).stdout
    assert f"{STUDY}  ROUTED  lung_nodules completed; 1 pending for pacs" in told
    assert "answered, findings: 1" in told
    assert "waits: pacs does not answer" in told
    for heading in ("Rules", "Jobs", "Results", "Deliveries", "Time line"):
        assert f"\n{heading}\n" in told
    assert "lung_nodules completed; 1 pending for pacs" in shell.run("studies", "list").stdout
    assert "answered, findings: 1" in shell.run("jobs", "list").stdout
    assert STUDY in shell.run("events").stdout


def test_a_job_tells_what_its_stages_were_spent_on(shell: Shell) -> None:
    job = shell.books.claim(shell.books.add_job(), now=at(3))
    spent = {"infer": 0.25, "infer.network": 1.0, "encode": 0.5}
    shell.books.jobs.finish_job(job, replace(make_outcome(), seconds=spent), now=at(5))
    shown = shell.run("jobs", "show", job.job_id).stdout
    assert re.search(r"Seconds infer\W+1\.25: network 1, other 0\.25", shown)
    assert re.search(r"Seconds encode\W+0\.5\s", shown)
    told = json.loads(shell.run("jobs", "show", job.job_id, "--json").stdout)
    assert told["seconds"] == {"infer": 1.25, "encode": 0.5}
    assert told["stages"] == {"infer": {"network": 1.0, "other": 0.25}}


def test_the_story_of_a_job_is_its_own(shell: Shell) -> None:
    job = shell.books.claim(shell.books.add_job(), now=at(3))
    shell.books.jobs.refuse_job(job, reason_code="slice-missing", reason_text="2 gaps of 5.0 mm", now=at(4))
    facts, _, line = shell.run("jobs", "show", job.job_id).stdout.partition("Time line")
    assert "slice-missing: 2 gaps of 5.0 mm" in facts
    kinds = ("study-opened", "job-scheduled", "job-started", "job-canceled", "study-routed")
    assert [kind for kind in kinds if kind in line] == ["job-scheduled", "job-started", "job-canceled"]
