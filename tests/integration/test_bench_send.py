"""What is measured of sending has arrived, and every response of thousands finds its sender."""

from pathlib import Path

import pytest

from node.benchmark.load import Load
from node.benchmark.responses import Responses, count_responses
from node.benchmark.send import BASE, OURS, Row, compare, describe_rows, targets

pytestmark = [pytest.mark.needs("storescp"), pytest.mark.needs("storescu")]
MANY = 4000


def test_senders_are_measured_with_objects_that_arrive(tmp_path: Path) -> None:
    rows = compare(Load(instances=30, kilobytes=20), names=(BASE, OURS), rounds=1, folder=tmp_path)
    assert [(row.sender, row.is_complete, row.instances) for row in rows] == [(BASE, True, 29), (OURS, True, 29)]


def test_rows_and_the_target_are_told_as_tables() -> None:
    load = Load(instances=25, kilobytes=64_000)
    ours = Row(
        sender=OURS, load=load, instances=24, megabytes_per_s=1280, ratio=1.26, cpu_s_per_gb=0.21, is_complete=False
    )
    lines = describe_rows([ours]).splitlines()
    assert lines[2] == "| radnode send | 24 x 64000 KB | 1280 | 20 | 1.26 | 0.21 | NO |"
    (target,) = targets([ours])
    assert (target.at_least, target.measured) == (1.0, 1.26)


@pytest.mark.parametrize("associations", [1, 3])
def test_no_response_is_lost_or_told_twice(tmp_path: Path, associations: int) -> None:
    """`make send-race` sends 100,000."""
    found = count_responses(instances=MANY, associations=associations, folder=tmp_path)
    assert (found.answered, found.requests, found.failed, found.twice) == (MANY, MANY, 0, 0)
    assert found.is_whole


@pytest.mark.parametrize(
    "change", [{"answered": 9}, {"requests": 11}, {"requests": 9}, {"failed": 1}, {"twice": 1}, {"sent": 11}]
)
def test_one_response_too_few_or_too_many_is_seen(change: dict[str, int]) -> None:
    whole = {"sent": 10, "answered": 10, "failed": 0, "twice": 0, "requests": 10}
    assert Responses(**whole, seconds=1.0).is_whole
    assert not Responses(**{**whole, **change}, seconds=1.0).is_whole
