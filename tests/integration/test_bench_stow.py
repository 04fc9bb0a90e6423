"""`radnode bench stow` from the command line to the page: everything arrives at both, and no figure is asserted."""

from pathlib import Path

import pytest

from tests.integration.test_bench_receive import measure, rows_of

pytestmark = pytest.mark.needs("Orthanc")


@pytest.mark.measuring
def test_both_store_everything_that_parallel_senders_bring(tmp_path: Path) -> None:
    told = measure(
        tmp_path,
        *("stow", "--load", "5x30", "--rounds", "1", "--connections", "2", "--parts", "2"),
        *("--only", "Orthanc", "--only", "radnode fsync", "--folder", str(tmp_path)),
    )
    rows = rows_of(told)
    assert [(row["receiver"], row["Instances"], row["stored == sent"]) for row in rows] == [
        ("Orthanc", "5", "yes"),
        ("radnode fsync", "5", "yes"),
    ]
    assert rows[0]["times Orthanc"] == "1.00"
    assert all(float(row["p50 ms"]) > 0 and float(row["peak MB"]) > 0 for row in rows)
    assert "radnode fsync, times Orthanc | ≥ 2" in told
