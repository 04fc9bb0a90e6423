"""`radnode bench encode` from the command line to the page: it measures what it says, and no figure is asserted."""

import json
from pathlib import Path

import pytest

from tests.node_process import run_radnode


@pytest.mark.measuring
def test_one_round_fills_the_tables_and_its_section_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Benchmarks\n\n<!-- bench encode -->\n<!-- end of bench encode -->\n")
    ran = run_radnode("bench", "encode", "--rounds", "1", "--write", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    rows = {table["title"]: {row["name"]: row for row in table["rows"]} for table in report["tables"]}
    assert all(0 < row["min_s"] <= row["median_s"] for table in rows.values() for row in table.values())
    organs = rows["20 segments on 400 slices"]
    ours, theirs = organs["SEG BINARY"], organs["SEG BINARY by highdicom's default call"]
    # 4,000 Frames of 512 x 512 bits; the headers differ by what only ours says of the Series.
    assert abs(ours["size_bytes"] - theirs["size_bytes"]) < 1000
    assert ours["size_bytes"] > 4000 * 512 * 512 // 8
    assert organs["SEG LABELMAP"]["size_bytes"] < ours["size_bytes"] // 100
    written = page.read_text()
    assert "`radnode bench encode --rounds 1 --write`" in written
    assert f"{ours['size_bytes']:,}" in written
