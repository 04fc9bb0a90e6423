"""Processes of a real worker share a simulated device; the one that has it is killed."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from node.benchmark.invented_backlog import SMALL, XRAY, KindPress
from node.benchmark.scale import ADDED, PROCESSES, hire_simulated
from node.benchmark.yard import Yard, open_yard
from node.domain.job import Job, JobState
from tests.peers import wait_until

LONG_S, SHORT_S = "20", "0.01"
LIMIT_S = 120.0


def running(yard: Yard) -> list[Job]:
    """Return the Jobs in hand once every process has one, those that it took first at the end."""
    found = list(yard.view.list_jobs(state=JobState.IN_PROGRESS, limit=9))
    return found if len(found) == PROCESSES else []


@pytest.mark.thorough
def test_a_process_that_is_killed_in_its_turn_leaves_the_device_to_the_others(tmp_path: Path) -> None:
    told = tmp_path / "device"
    told.write_text(LONG_S)
    press = KindPress(SMALL)
    hire = partial(hire_simulated, workers=1, told=told)
    with open_yard(tmp_path / "yard", hire, added=ADDED) as yard:
        yard.take_in([press.write(XRAY, tmp_path / "in") for _ in range(PROCESSES)])
        with yard.node():
            jobs = wait_until(lambda: running(yard), what="a Job in each process", limit_s=LIMIT_S)
            told.write_text(SHORT_S)
            begun = [yard.view.job_events(job)[-1].at for job in jobs]
            first = jobs[begun.index(min(begun))]
            os.kill(int(str(first.lease_owner).rpartition(":")[2]), signal.SIGKILL)
            yard.wait_until_done()
        ended = {job.job_id: job for job in yard.view.list_jobs(state=JobState.COMPLETED, limit=9)}
    assert len(ended) == PROCESSES
    assert ended[first.job_id].attempts == 2
