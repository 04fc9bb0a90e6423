"""The crowd of the benchmark is what a node would have written, and every page of it is served."""

from pathlib import Path

from node.benchmark.worklist import TARGET_MS, describe_rows, measure, targets


def test_pages_of_a_crowd_are_measured(tmp_path: Path) -> None:
    """`radnode bench worklist` takes a million."""
    rows = measure(
        f"sqlite:///{tmp_path / 'ledger.sqlite'}", studies=600, rounds=1, folder=tmp_path, note=lambda _: None
    )
    assert len(rows) == 18
    assert all(row.p50_ms <= row.p95_ms <= row.max_ms for row in rows)
    assert len(describe_rows(rows).splitlines()) == 2 + len(rows)
    (target,) = targets(rows)
    assert (target.at_most, target.measured) == (TARGET_MS, max(row.p95_ms for row in rows))
