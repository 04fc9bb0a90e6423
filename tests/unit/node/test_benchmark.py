"""What a benchmark measured becomes a section of a page, and nothing else of that page changes."""

from pathlib import Path

import pytest

from node.benchmark.report import describe_report, read_report, refresh_section
from node.errors import NotFound

MEASURED = {
    "bench": "encode",
    "rounds": 7,
    "unit": "CPU seconds",
    "tables": [
        {
            "title": "3 nodules",
            "rows": [
                {"name": "SEG", "min_s": 0.0461, "median_s": 0.05, "size_bytes": 1606424},
                {"name": "check", "min_s": 0.1, "median_s": 0.2, "size_bytes": None},
            ],
        }
    ],
    "ratios": [{"name": "ours against theirs", "times_faster": 6.81}],
    "versions": {"Python": "3.11", "pydicom": "3.0.2"},
}


def test_a_report_is_told_with_its_command_its_tables_and_its_ratios() -> None:
    told = describe_report(read_report(MEASURED), "radnode bench encode --write")
    assert told.splitlines() == [
        "`radnode bench encode --write`: CPU seconds, 7 rounds in turn after one that does not count; "
        "Python 3.11, pydicom 3.0.2.",
        "",
        "| 3 nodules | min | median | bytes |",
        "| --- | ---: | ---: | ---: |",
        "| SEG | 0.046 | 0.050 | 1,606,424 |",
        "| check | 0.100 | 0.200 |  |",
        "",
        "| by the medians | times faster |",
        "| --- | ---: |",
        "| ours against theirs | 6.81 |",
    ]


def test_promises_stand_at_the_end_of_a_report() -> None:
    promised = [
        {"what": "times the limit", "measured": 1.456, "at_most": 2.0},
        {"what": "times the naive way", "measured": 4.9, "at_least": 5.0},
    ]
    told = describe_report(read_report({**MEASURED, "targets": promised}), "radnode bench encode --write")
    assert told.splitlines()[-2:] == [
        "| times the limit | ≤ 2 | 1.46 | yes |",
        "| times the naive way | ≥ 5 | 4.9 | NO |",
    ]


def test_a_section_replaces_its_own_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    before, after = "# Title\n\nText.\n\n", "\n\n<!-- bench other -->\nkept\n<!-- end of bench other -->\n"
    page.write_text(f"{before}<!-- bench encode -->\nold\nolder\n<!-- end of bench encode -->{after}")
    refresh_section(page, "encode", "new")
    once = page.read_text()
    assert once == f"{before}<!-- bench encode -->\nnew\n<!-- end of bench encode -->{after}"
    refresh_section(page, "encode", "new")
    assert page.read_text() == once


def test_a_page_without_markers_gets_them_at_its_end(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    refresh_section(page, "encode", "new")
    assert page.read_text() == "# Title\n\n<!-- bench encode -->\nnew\n<!-- end of bench encode -->\n"


def test_a_page_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with pytest.raises(NotFound, match="checkout"):
        refresh_section(page, "encode", "new")
    assert not page.exists()
