"""The ledger on the command line: tables for people, JSON for programs, one line for an error."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from node.clock import utc_now
from node.domain.finding import Presence
from tests.ledgers import (
    STUDY,
    Books,
    copy_ledger,
    make_decision,
    make_facts,
    make_order,
    make_outcome,
    make_result,
    unknown_job,
)


class Shell:
    """Runs `radnode` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "site.toml"
        self.settings.write_text(f'[node]\ndata_dir = "{folder}"\n', encoding="utf-8")
        self.url = copy_ledger(folder)

    def run(self, *words: str, settings: Path | None = None) -> Result:
        return CliRunner().invoke(app, [*words, "--settings", str(settings or self.settings)])

    def json(self, *words: str) -> object:
        answer = self.run(*words, "--json")
        assert answer.exit_code == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def fill(shell: Shell, *, presence: Presence = Presence.PRESENT, notes: tuple[str, ...] = (), **attributes: Any) -> str:
    """Put one Study with a finished Job into the ledger; returns the Job's id."""
    books = Books(shell.url)
    books.instances.record_instance(make_facts(**attributes))
    books.settle()
    study = books.studies.study_facts(STUDY)
    now = books.view.study_story(STUDY).first_instance_at
    books.studies.record_routing(study, decisions=[make_decision()], orders=[make_order()], forwards=(), now=now)
    job = books.claim(books.only_job())
    made = make_outcome(make_result(job))
    found = [{**entry, "presence": presence.value} for entry in made.findings]
    books.jobs.finish_job(job, replace(made, findings=found, notes=notes), now=now)
    books.close()
    return job.job_id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("studies", "list"), "No Study yet."),
        (("jobs", "list"), "No Job yet."),
        (("deliveries", "list"), "No Delivery yet."),
    ],
)
def test_an_empty_ledger_says_so(shell: Shell, words: tuple[str, ...], said: str) -> None:
    answer = shell.run(*words)
    assert (answer.exit_code, answer.stdout) == (0, said + "\n")
    assert shell.json(*words) == []


def test_lists_show_what_is_there(shell: Shell) -> None:
    job_id = fill(shell)
    assert "lung_nodules completed" in shell.run("studies", "list").stdout
    assert job_id in shell.run("jobs", "list", "--state", "COMPLETED").stdout
    assert "PENDING" in shell.run("deliveries", "list", "--destination", "pacs").stdout
    assert shell.run("jobs", "list", "--state", "CANCELED").stdout == "No Job yet.\n"


def test_only_what_was_seen_is_counted_and_the_notes_say_why(shell: Shell) -> None:
    job_id = fill(shell, presence=Presence.UNDETERMINED, notes=("The age is above 17 years.",))
    listed = shell.run("jobs", "list").stdout
    assert re.search(r"ROUTINE\s+\S+\s+0\s", listed, re.IGNORECASE)
    assert "answered, undetermined" in listed
    assert "The age is above 17 years." in shell.run("jobs", "show", job_id).stdout


def test_findings_that_were_given_up_are_not_none(shell: Shell) -> None:
    job_id = fill(shell)
    books = Books(shell.url)
    books.give_up(now=utc_now())
    books.close()
    assert "given up" in shell.run("jobs", "list").stdout
    for words in (("jobs", "show", job_id), ("studies", "show", STUDY)):
        told = shell.run(*words).stdout
        assert "given up here" in told
        assert "No finding" not in told
        assert "findings: 0" not in told
    assert "its file was given up on" in shell.run("results", "list").stdout


def test_json_holds_the_whole_story(shell: Shell) -> None:
    job_id = fill(shell)
    story = shell.json("studies", "show", STUDY)
    assert isinstance(story, dict)
    assert story["study_instance_uid"] == STUDY
    assert [job["job_id"] for job in story["jobs"]] == [job_id]
    assert story["events"][0]["kind"] == "study-opened"
    job = shell.json("jobs", "show", job_id)
    assert isinstance(job, dict)
    assert (job["state"], job["order"]["priority"]) == ("COMPLETED", 2)
    for words in (("studies", "list"), ("jobs", "list"), ("deliveries", "list"), ("rules", "explain", STUDY)):
        answer = shell.json(*words)
        assert isinstance(answer, list)
        assert len(answer) == 1


@pytest.mark.parametrize("description", ["T1 [/tse]", "[bold]x[/bold]", "[red]", "\x1b]0;title\x07", "Größe"])
def test_a_description_of_any_shape_is_shown_as_it_is(shell: Shell, description: str) -> None:
    fill(shell, SeriesDescription=description)
    answer = shell.run("studies", "show", STUDY)
    assert answer.exit_code == 0, answer.exception
    assert "\x1b" not in answer.stdout
    if description.isprintable():
        assert description in answer.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("studies", "show", "9.9"), "study 9.9 is not in the ledger"),
        (("jobs", "show", unknown_job()), "is not in the ledger"),
        (("jobs", "retry", unknown_job()), "is not in the ledger"),
        (("jobs", "cancel", unknown_job()), "is not in the ledger"),
        (("rules", "explain", "9.9"), "study 9.9 is not in the ledger"),
    ],
)
def test_what_is_not_there_is_one_line_on_standard_error(shell: Shell, words: tuple[str, ...], said: str) -> None:
    answer = shell.run(*words)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert said in answer.stderr
    assert answer.stderr.startswith("radnode: ")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "list"),
        ("jobs", "list"),
        ("deliveries", "list"),
        ("rules", "check"),
        ("models", "list"),
        ("doctor",),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_and_exit_2(shell: Shell, words: tuple[str, ...]) -> None:
    wrong = shell.folder / "wrong.toml"
    wrong.write_text("[node]\nprot = 1\n", encoding="utf-8")
    answer = shell.run(*words, settings=wrong)
    assert answer.exit_code == 2
    assert answer.stderr == "radnode: unknown setting node.prot; did you mean port?\n"


def test_a_ledger_that_is_no_ledger_is_exit_2(shell: Shell) -> None:
    (shell.folder / "ledger.sqlite").write_bytes(b"no database" * 500)
    answer = shell.run("studies", "list")
    assert answer.exit_code == 2
    assert "restore the file" in answer.stderr


def test_a_person_cancels_and_retries(shell: Shell) -> None:
    books = Books(shell.url)
    job = books.add_job()
    assert shell.run("jobs", "cancel", job.job_id).exit_code == 0
    assert "canceled-by-hand" in shell.run("jobs", "list").stdout
    assert shell.run("jobs", "retry", job.job_id).stdout == f"{job.job_id} is scheduled again.\n"
    assert books.find(job).state == "SCHEDULED"
    books.close()


def test_deliveries_are_made_due_again(shell: Shell) -> None:
    fill(shell)
    assert shell.run("deliveries", "retry", "--destination", "elsewhere").stdout == "0 Deliveries are due again.\n"
    assert shell.run("deliveries", "retry").stdout == "1 Deliveries are due again.\n"


def test_the_shipped_rules_are_right_and_the_shipped_models_whole(shell: Shell) -> None:
    assert shell.run("rules", "check").stdout.count(": right\n") == 3
    assert shell.run("models", "verify").stdout.count("weights are as named") == 3
    cards = shell.json("models", "list")
    assert isinstance(cards, list)
    assert len(cards) == 3


def test_a_rule_that_cannot_be_evaluated_is_exit_2(shell: Shell) -> None:
    wrong = shell.folder / "wrong.toml"
    wrong.write_text('[[rules]]\nname = "x"\nrun = ["lung_nodules"]\nwhen = { modalty = "CT" }\n', encoding="utf-8")
    answer = shell.run("rules", "check", settings=wrong)
    assert answer.exit_code == 2
    assert "modality" in answer.stderr


def test_doctor_names_what_fails_and_exits_1(shell: Shell) -> None:
    site = shell.folder / "down.toml"
    site.write_text(
        f'[node]\ndata_dir = "{shell.folder}"\n[store]\nreserve_bytes = 0\n'
        f'[broker]\nurl = "redis+socket://{shell.folder}/nobody.sock"\n',
        encoding="utf-8",
    )
    answer = shell.run("doctor", "--json", settings=site)
    checks = {check["name"]: check["is_right"] for check in json.loads(answer.stdout)}
    assert answer.exit_code == 1
    assert [name for name, is_right in checks.items() if not is_right] == ["broker"]


def test_the_version_is_told() -> None:
    answer = CliRunner().invoke(app, ["version"])
    assert answer.exit_code == 0
    assert answer.stdout.strip()


def test_an_unknown_command_is_exit_2() -> None:
    assert CliRunner().invoke(app, ["studys"]).exit_code == 2
