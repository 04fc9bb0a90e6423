"""`radnode bench pipeline` from the command line to the page: every Study is answered, and no figure is asserted."""

from pathlib import Path

import pytest

from tests.integration.test_bench_receive import measure, rows_of
from workers.benchmark.parts import known_parts

LIMIT_S = 1200


@pytest.mark.measuring
@pytest.mark.timeout(LIMIT_S)
def test_a_small_backlog_is_worked_on_and_told(tmp_path: Path) -> None:
    told = measure(tmp_path, "pipeline", "--part", "backlog", "--small", "--folder", str(tmp_path))
    rows = rows_of(told)
    assert [(row["kind"], row["Studies"]) for row in rows] == [("CT", "1"), ("MR", "1"), ("X-ray", "3")]
    assert all(float(row["in work p50 s"]) > 0 for row in rows)
    assert "first in, first out" in told
    assert "makespan, times its bound" in told


@pytest.mark.measuring
@pytest.mark.timeout(LIMIT_S)
def test_stages_of_each_kind_are_told(tmp_path: Path) -> None:
    told = measure(tmp_path, "pipeline", "--part", "stages", "--small", "--rounds", "1", "--folder", str(tmp_path))
    assert {row["kind"] for row in rows_of(told)} == {"CT", "MR", "X-ray"}


@pytest.mark.measuring
def test_starts_of_a_worker_are_told(tmp_path: Path) -> None:
    rows = rows_of(measure(tmp_path, "pipeline", "--part", "cold", "--rounds", "1", "--folder", str(tmp_path)))
    assert [row["until it is ready"] for row in rows] == ["radnode worker", "radnode worker --warm"]
    assert float(rows[0]["CPU s"]) < float(rows[1]["CPU s"])


@pytest.mark.measuring
def test_batches_of_films_are_measured_in_a_worker(tmp_path: Path) -> None:
    told = measure(tmp_path, "pipeline", "--part", "batch", "--rounds", "1")
    assert "batches of 16 against films one by one" in told
    assert "batch" in known_parts()


@pytest.mark.measuring
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.needs("postgres")
def test_two_workers_before_one_ledger_are_measured(tmp_path: Path) -> None:
    told = measure(
        tmp_path,
        *("scale", "--workers", "1", "--workers", "2", "--seconds", "1", "--handed-in", "8", "--folder", str(tmp_path)),
    )
    rows = rows_of(told)
    assert [(row["a device takes s"], row["workers"]) for row in rows] == [
        ("1", "1"),
        ("1", "2"),
        ("0.2", "1"),
        ("0.2", "2"),
    ]
    assert all(row["Studies/hour"] != "0" for row in rows)
    assert told.count("| SQLite |") == told.count("| PostgreSQL |") == 2
