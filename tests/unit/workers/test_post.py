"""How many processes a worker has unless it is told, and which of them take turns."""

import os
from pathlib import Path

import pytest

from workers.post import CPU, MOST_UNASKED, make_post, usual_processes


def test_a_worker_on_a_cpu_has_no_more_processes_than_cores() -> None:
    assert 1 <= usual_processes(CPU) <= min(len(os.sched_getaffinity(0)), MOST_UNASKED)


@pytest.mark.parametrize(
    ("memory", "cpu", "most"),
    [("max", "max 100000", 8), ("7000000000", "max 100000", 2), ("max", "150000 100000", 2), ("1", "50000 100000", 1)],
)
def test_a_container_has_no_more_processes_than_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, cpu: str, most: int
) -> None:
    (tmp_path / "memory.max").write_text(f"{memory}\n")
    (tmp_path / "cpu.max").write_text(f"{cpu}\n")
    monkeypatch.setattr("workers.post.CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(16))
    monkeypatch.setattr("os.sysconf", lambda _name: 2**18)
    assert usual_processes(CPU) == most


def test_a_device_has_somebody_who_reads_and_somebody_who_writes_beside_the_one_whose_network_runs() -> None:
    assert usual_processes("cuda:1") == 3


@pytest.mark.parametrize(("device", "processes", "waits"), [(CPU, 4, False), ("cuda", 1, False), ("cuda", 3, True)])
def test_only_processes_that_share_a_device_take_turns(device: str, processes: int, *, waits: bool) -> None:
    post = make_post(device, processes=processes)
    assert (post.gate is not None) == waits
    if post.gate is not None:
        post.gate.close()
        post.gate.desk.close()
