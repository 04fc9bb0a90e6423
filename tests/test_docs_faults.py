"""docs/faults.md names every fault that a test makes, and no other; each section has the files of its name."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests"
FAULTS = TESTS / "acceptance" / "faults"
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<does>[^|]+) \| (?P<tests>`[^|]+`) \|$", re.MULTILINE)
# `## Network` tells of test_network_*.py.
SECTIONS = [title.lower() for title in re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)]


def rows(section: str) -> Iterator[tuple[str, str]]:
    """Yield fault and test of each row of a section, one test at a time."""
    text = re.split(rf"^## {section}$", PAGE, flags=re.MULTILINE | re.IGNORECASE)[1].split("\n## ")[0]
    for found in ROW.finditer(text):
        for name in re.findall(r"`(test_\w+)`", found["tests"]):
            yield found["fault"], name


def cases(section: str) -> Iterator[tuple[str, str | None]]:
    """Yield each test of the files of a section with each of its cases that has a name; None where it has none."""
    for path in sorted(FAULTS.glob(f"test_{section}_*.py")):
        module = import_module(f"tests.acceptance.faults.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("test_"):
                marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
                named = [case for mark in marks for case in mark.args[1] if isinstance(case, str)]
                yield from ((name, case) for case in named)
                if not named:
                    yield name, None


@pytest.mark.parametrize("section", SECTIONS)
def test_every_test_of_a_fault_has_a_row_and_every_row_a_test(section: str) -> None:
    """A row may name a test of another folder too."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    existing = set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE))
    told = {name for _, name in rows(section)}
    assert told <= existing, told - existing
    assert {name for name, _ in cases(section)} <= told


@pytest.mark.parametrize("section", ["network", "data"])
def test_every_case_has_its_row_and_no_other_is_there(section: str) -> None:
    named = {(name, case) for name, case in cases(section) if case is not None}
    told = {(name, fault) for fault, name in rows(section) if name in {name for name, _ in named}}
    assert told == named


def test_no_row_comes_twice() -> None:
    for section in SECTIONS:
        found = list(rows(section))
        assert len(found) == len(set(found)), section
