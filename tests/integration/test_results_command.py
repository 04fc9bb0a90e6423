"""`radnode results check` as a person types it: what it prints, and with which exit code it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmwrite

from node.domain.result import ResultKind
from tests.analyses import known
from tests.changes import multiply, rewrite

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with originals, true Results and Results of which one is wrong."""
    folder = tmp_path_factory.mktemp("results")
    case, results = known("ct")
    for name in ("ct", "true", "wrong", "empty"):
        (folder / name).mkdir()
    for number, ds in enumerate(case.inputs["ct"]):
        dcmwrite(folder / "ct" / f"{number}.dcm", ds, enforce_file_format=True)
    for result in results:
        (folder / "true" / f"{result.kind}.dcm").write_bytes(result.content)
        spoilt = rewrite(result, multiply("118565006", 1.5)) if result.kind is ResultKind.SR else result
        (folder / "wrong" / f"{result.kind}.dcm").write_bytes(spoilt.content)
    return folder


def check(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", "results", "check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_true_results_end_with_0(folder: Path) -> None:
    done = check(folder / "true", "--originals", folder / "ct")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("3 right; 12 originals\n")


def test_a_wrong_result_ends_with_1_and_is_named(folder: Path) -> None:
    done = check(folder / "wrong", "--originals", folder / "ct")
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        f"WRONG       SR   {folder / 'wrong' / 'SR.dcm'}\n  1. volume of group 1 (segment 1): expected" in done.stdout
    )
    assert "which Slice Thickness gives. Measure by the distance between Image Positions" in done.stdout


def test_json_tells_the_same(folder: Path) -> None:
    done = check(folder / "wrong", "--originals", folder / "ct", "--json")
    verdicts = {one["kind"]: one["verdict"] for one in json.loads(done.stdout)["objects"]}
    assert (done.returncode, verdicts) == (1, {"SEG": "right", "SR": "WRONG", "SC": "right"})


def test_without_originals_nothing_is_proven_and_it_ends_with_3(folder: Path) -> None:
    done = check(folder / "true", "--originals", folder / "empty")
    assert done.returncode == 3
    assert done.stdout.endswith("3 not proven; 0 originals\n")


def test_a_folder_that_is_not_there_ends_with_2(folder: Path) -> None:
    done = check(folder / "nowhere", "--originals", folder / "ct")
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not exist" in done.stderr
