"""`radnode bench pipeline --part warm`: what it measures, and that it measures at all."""

import pytest

from node.benchmark.report import run_in_worker
from node.settings.loading import load_settings

pytestmark = pytest.mark.measuring
KINDS = ("CT", "MR", "X-ray")


def test_first_second_and_later_jobs_are_measured_with_memory_and_layouts() -> None:
    report = run_in_worker(load_settings(None, {}), "warm", rounds=1)
    jobs, memory = report.tables
    assert [row.name for row in jobs.rows] == [
        f"{kind}, {which}" for kind in KINDS for which in ("fresh process", "second Job", "later Job")
    ]
    assert all(row.min_s > 0 and (row.size_bytes or 0) > 0 for row in (*jobs.rows, *memory.rows))
    told = [ratio.name for ratio in report.ratios]
    assert told[: 2 * len(KINDS) : 2] == [f"{kind}: second Job against a fresh process" for kind in KINDS]
    assert sum("channels-last float32" in name for name in told) == 4
