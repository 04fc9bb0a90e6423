"""`radnode bench rest` from the command line to the page: nodes are told part by part, and no figure is asserted."""

from pathlib import Path

import pytest

from tests.node_process import run_radnode


@pytest.mark.measuring
def test_a_node_at_rest_is_told_process_by_process(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Benchmarks\n")
    ran = run_radnode("bench", "rest", "--rounds", "1", "--without-worker", "--write", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in page.read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in ran.stdout.split("\n\n")[1].splitlines()]
    heads, _, plain, with_web = lines
    assert heads[1:6] == ["node MB", "nursery MB", "receiver MB", "web MB", "together MB"]
    for row, parts in ((plain, plain[1:4]), (with_web, with_web[1:5])):
        sizes = [int(part) for part in parts]
        assert min(sizes) > 0
        # Each is rounded for itself.
        assert abs(sum(sizes) - int(row[5])) <= len(sizes)
    assert plain[4] == ""
    assert "| radnode serve, MB at rest | ≤ 150 |" in ran.stdout
