"""The marker ``needs(peer)``: absent peers skip by name, and fail where CI=true."""

from collections.abc import Mapping
from pathlib import Path

import pytest

import tests.conftest as machinery

pytest_plugins = ["pytester"]

WANTS_A_PROGRAM = """
import pytest

@pytest.mark.needs("no-such-program")
def test_it() -> None:
    raise AssertionError("must not run")
"""
WANTS_DATA = """
def test_it(data_dir) -> None:
    assert (data_dir / "here").exists()
"""
CONFIGURATION = "[pytest]\nmarkers =\n    needs(peer): the test needs it\n"


@pytest.fixture
def outcomes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> "Runner":
    pytester.makeini(CONFIGURATION)
    return Runner(pytester, monkeypatch)


class Runner:
    """Runs one test file under the machinery of this suite."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch

    def __call__(self, code: str, environment: Mapping[str, str]) -> tuple[dict[str, int], str]:
        self._monkeypatch.delenv("CI", raising=False)
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        self._pytester.makepyfile(code)
        result = self._pytester.runpytest_inprocess("-ra", "-p", "no:cacheprovider", plugins=[machinery])
        return result.parseoutcomes(), result.stdout.str()


def test_an_absent_program_skips_by_name(outcomes: Runner) -> None:
    counts, said = outcomes(WANTS_A_PROGRAM, {})
    assert counts == {"skipped": 1}
    assert "no-such-program is not installed" in said


def test_an_absent_program_fails_in_ci(outcomes: Runner) -> None:
    counts, said = outcomes(WANTS_A_PROGRAM, {"CI": "true"})
    assert counts in ({"failed": 1}, {"errors": 1})
    assert "no-such-program is not installed, and CI=true allows no skip" in said


def test_absent_data_skips_by_name(outcomes: Runner, tmp_path: Path) -> None:
    counts, said = outcomes(WANTS_DATA, {"RADNODE_TEST_DATA": str(tmp_path / "nowhere")})
    assert counts == {"skipped": 1}
    assert "RADNODE_TEST_DATA" in said


def test_absent_data_fails_in_ci(outcomes: Runner, tmp_path: Path) -> None:
    counts, _ = outcomes(WANTS_DATA, {"RADNODE_TEST_DATA": str(tmp_path / "nowhere"), "CI": "true"})
    assert counts in ({"failed": 1}, {"errors": 1})


def test_data_are_found_where_the_variable_says(outcomes: Runner, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    counts, _ = outcomes(WANTS_DATA, {"RADNODE_TEST_DATA": str(tmp_path), "CI": "true"})
    assert counts == {"passed": 1}
