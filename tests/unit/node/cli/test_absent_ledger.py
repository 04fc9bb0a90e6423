"""`radnode` where no node has begun, or where its data folder is closed: it says so in one line, and makes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.ledgers import copy_ledger

# Without these root has no more rights than others.
POWERS = "-dac_override,-dac_read_search"


def run(folder: Path, *words: str) -> Result:
    settings = folder / "site.toml"
    settings.write_text(f'[node]\ndata_dir = "{folder / "data"}"\n[store]\nreserve_bytes = 0\n', encoding="utf-8")
    return CliRunner().invoke(app, [*words, "--settings", str(settings)])


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "list"),
        ("studies", "show", "1.2"),
        ("studies", "purge", "--older-than", "30d", "--dry-run"),
        ("jobs", "list"),
        ("results", "list"),
        ("deliveries", "list"),
        ("deliveries", "retry"),
        ("orders", "list"),
        ("pull", "list"),
        ("pull", "cancel", "1"),
        ("events",),
        ("alarms",),
        ("metrics",),
        ("pipelines", "list"),
        ("users", "list"),
        ("tokens", "list"),
        ("feedback", "export", "--csv"),
        ("models", "feedback"),
        ("rules", "explain", "1.2"),
        ("ledger", "check"),
        ("audit", "show"),
        ("audit", "verify"),
    ],
)
def test_who_asks_where_no_node_has_begun_is_told_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    answer = run(tmp_path, *words)
    assert (answer.exit_code, answer.stdout) == (2, "")
    (line,) = answer.stderr.splitlines()
    assert all(word in line for word in (str(tmp_path / "data"), "--settings", "RADNODE__NODE__DATA_DIR")), line
    assert not (tmp_path / "data").exists()


def test_doctor_passes_on_a_new_site_and_names_the_folder_without_making_it(tmp_path: Path) -> None:
    answer = run(tmp_path, "doctor", "--json")
    found = {check["name"]: (check["is_right"], check["said"]) for check in json.loads(answer.stdout)}
    assert answer.exit_code == 0, found
    is_right, said = found["ledger"]
    assert is_right
    assert said == f"there is none yet in data folder {tmp_path / 'data'}; `radnode up` makes it"
    # Nothing is known of alarms, and calm is not claimed.
    assert "alarms" not in found
    assert not (tmp_path / "data").exists()


def test_doctor_tells_a_place_in_which_no_file_can_be_made(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[destinations.out]\ntransport = "folder"\nurl = "/proc/nothing"\n'
    )
    answer = CliRunner().invoke(app, ["doctor", "--json", "--settings", str(site)])
    found = {check["name"]: check["said"] for check in json.loads(answer.stdout) if not check["is_right"]}
    assert "/proc/nothing cannot be written" in found["destination out"]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a node whose data folder is closed to everybody."""
    data = tmp_path / "data"
    data.mkdir()
    copy_ledger(data)
    data.chmod(0)
    yield tmp_path
    data.chmod(0o700)


def run_powerless(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    (folder / "site.toml").write_text(f'[node]\ndata_dir = "{folder / "data"}"\n', encoding="utf-8")
    drop = ("setpriv", "--bounding-set", POWERS, "--inh-caps", POWERS) if os.geteuid() == 0 else ()
    command = [*drop, sys.executable, "-m", "node", *words, "--settings", str(folder / "site.toml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("up",), ("doctor",), ("studies", "list"), ("audit", "verify"), ("worker",)])
def test_a_data_folder_that_is_closed_is_one_line_with_the_remedy(closed: Path, words: tuple[str, ...]) -> None:
    done = run_powerless(closed, *words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("radnode: ")
    assert str(closed / "data") in line
    assert "run radnode as the user of the service, or correct node.data_dir" in line


def test_a_file_below_the_data_folder_that_is_closed_is_one_line_too(tmp_path: Path) -> None:
    audit = tmp_path / "data" / "audit"
    audit.mkdir(parents=True)
    audit.chmod(0)
    done = run_powerless(tmp_path, "audit", "verify")
    audit.chmod(0o700)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(audit) in line
