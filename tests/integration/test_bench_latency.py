"""`radnode bench latency` from the command line to the page: both bring SEG and SR, and the node none too early."""

from pathlib import Path

import pytest

from tests.integration.test_bench_receive import measure, rows_of

pytestmark = pytest.mark.needs("Orthanc")


@pytest.mark.measuring
def test_both_bring_results_and_the_node_none_in_a_pause(tmp_path: Path) -> None:
    told = measure(
        tmp_path,
        *("latency", "--runs", "1", "--slices", "24", "--matrix", "64", "--pause", "4", "--folder", str(tmp_path)),
    )
    rows = rows_of(told)
    assert [(row["SEG and SR in the PACS by"], row["runs"]) for row in rows] == [
        ("radnode", "1"),
        ("Orthanc and a script", "1"),
    ]
    assert all(0 < float(row["p50 s"]) == float(row["max s"]) for row in rows)
    assert "| radnode | 4 | 0 | 2 |" in told
    assert "in the worker: infer" in told
