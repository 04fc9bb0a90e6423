"""Figures of `radnode bench pipeline` and `radnode bench scale`: bounds, gaps, who waited, and what was promised."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from node.benchmark import cold_start, scale, stages
from node.benchmark.alone import Alone
from node.benchmark.backlog import FIFO, LANES, Backlog, Outcome, Rush, describe, plan, targets
from node.benchmark.invented_backlog import CT, MR, PIPELINES, XRAY, KindPress, Sizes
from node.benchmark.usage import machine_cpu_s
from node.benchmark.yard import Served
from node.cli.bench_pipeline import PARTS, WORKER_PARTS, _chosen
from node.errors import NotFound
from node.settings.loading import load_settings

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
TINY = Sizes(mr_slices=3)


def served(kind: str, owner: str, begun_s: float, ended_s: float) -> Served:
    return Served(
        kind=kind,
        owner=owner,
        ordered_at=BEGUN,
        begun_at=BEGUN + timedelta(seconds=begun_s),
        ended_at=BEGUN + timedelta(seconds=ended_s),
        stages={("prepare", ""): 0.25, ("infer", "network"): (ended_s - begun_s) / 2},
        answer=f"what a {kind} shows",
    )


BACKLOG = Backlog(
    served=[
        served(XRAY, "a", 0.0, 1.0),
        served(CT, "b", 0.0, 10.0),
        served(CT, "a", 1.5, 9.0),
        served(XRAY, "a", 9.1, 10.0),
    ],
    begun_at=BEGUN,
    worker_cpu_s=16.0,
    node_cpu_s=2.0,
    machine_cpu_s=20.0,
)
OUTCOME = Outcome(
    plan=replace(plan(device="cpu", is_small=False), counts={CT: 2, XRAY: 2}),
    backlog=BACKLOG,
    rushes=[
        Rush(name=LANES, xrays_s=[1.0, 2.0, 3.0], cts_s=[5.0, 40.0]),
        Rush(name=FIFO, xrays_s=[5.0, 9.0, 10.0], cts_s=[5.0, 30.0]),
    ],
    alone=[Alone(kind=CT, seconds=30.0, cpu_s=20.0), Alone(kind=XRAY, seconds=10.0, cpu_s=8.0)],
    cores=2,
)


def test_a_backlog_is_measured_beside_what_its_cores_need_for_it() -> None:
    assert BACKLOG.makespan_s == 10.0
    assert list(BACKLOG.gaps_s) == pytest.approx([0.1, 0.5])
    same, bound, share = targets(OUTCOME)
    assert (same.measured, same.is_held) == (1, True)
    assert (bound.measured, bound.is_held) == (10.0 / 8.0, False)
    assert (share.measured, share.is_held) == (0.3, True)
    on_device = targets(replace(OUTCOME, plan=replace(OUTCOME.plan, device="cuda")))[0]
    assert on_device.what == "device busy"
    assert on_device.measured == pytest.approx(0.97)
    odd = replace(BACKLOG.served[0], answer="something else")
    assert not targets(replace(OUTCOME, backlog=replace(BACKLOG, served=[odd, *BACKLOG.served])))[0].is_held
    assert all(one.is_held for one in targets(replace(OUTCOME, backlog=replace(BACKLOG, worker_cpu_s=17.0))))


def test_the_page_tells_who_waited_and_what_a_process_for_each_study_takes() -> None:
    told = describe(OUTCOME)
    assert "| CT | 2 | 7.50 | 9.00 | 10.00 | 10.00 |" in told
    assert "| the worker's processes | 16.0 | 8.0 | 10.0 | 1.25 |" in told
    assert "| everybody on this machine | 20.0 | 10.0 | 10.0 | 1.00 |" in told
    assert "100 ms (p50), 500 ms (p95), 0.6 s in all. Networks took 97% of the makespan." in told
    assert f"| {LANES} | 3 | 2.00 | 3.00 | 3.00 | 2 | 40.00 |" in told
    assert "would take 80 s so" in told
    assert "8.0 times the makespan above, and 56 CPU s" in told


def test_the_backlog_is_that_of_the_promise_and_a_small_one_has_all_kinds() -> None:
    assert plan(device="cpu", is_small=False).counts == {CT: 10, MR: 10, XRAY: 100}
    assert plan(device="cpu", is_small=True).counts.keys() == PIPELINES.keys()
    assert plan(device="cuda", is_small=True).processes == 3


def test_stages_are_told_by_kind_with_what_no_stage_took() -> None:
    kinds = [served(kind, "a", 0.0, 2.0) for kind in PIPELINES]
    told = stages.describe(stages.Outcome(served=kinds, alone=[Alone(kind=CT, seconds=20.0, cpu_s=12.0)]))
    assert "| CT | prepare |  | 0.250 | 12% |" in told
    assert "| CT | infer | network | 1.000 | 50% |" in told
    assert "| CT | all the rest |  | 0.750 | 38% |" in told
    assert "| CT | 2.00 | 20.00 | 10.0 | 12.00 |" in told


def test_starts_of_a_worker_are_told_by_their_middle_and_the_plain_one_is_promised() -> None:
    starts = [
        cold_start.Start(way=way, seconds=seconds, cpu_s=seconds + 1)
        for way, seconds in ((cold_start.PLAIN, 3.0), (cold_start.WARM, 9.0), (cold_start.PLAIN, 5.5))
    ]
    told = cold_start.describe(starts)
    assert "| radnode worker | 3.00 | 4.25 | 5.25 |" in told
    assert "| radnode worker --warm | 9.00 | 9.00 | 10.00 |" in told
    assert not any(target.is_held for target in cold_start.targets(starts))
    assert all(target.is_held for target in cold_start.targets(starts[:2]))


def test_workers_are_told_with_how_busy_device_and_cores_were() -> None:
    point = scale.Point(workers=2, device_s=0.2, studies=100, seconds=12.5, cores_busy=0.5)
    rate = scale.Rate(ledger=scale.POSTGRESQL, clerks=2, per_s=123.4)
    told = scale.describe(scale.Outcome(points=[point], rates=[rate]))
    assert "| 0.2 | 2 | 100 | 28,800 | 80% | 50% |" in told
    assert "| PostgreSQL | 2 | 123 |" in told


def test_each_study_is_a_new_one_with_as_many_series(tmp_path: Path) -> None:
    press = KindPress(TINY)
    written = [press.write(MR, tmp_path) for _ in range(2)]
    found = [[dcmread(path, stop_before_pixels=True) for path in files] for files in written]
    assert [len({ds.StudyInstanceUID for ds in study}) for study in found] == [1, 1]
    assert [len({ds.SeriesInstanceUID for ds in study}) for study in found] == [3, 3]
    assert len({ds.SOPInstanceUID for study in found for ds in study}) == 18
    assert len({study[0].StudyInstanceUID for study in found}) == 2


def test_the_kinds_are_those_of_the_shipped_pipelines() -> None:
    assert set(PIPELINES.values()) <= load_settings(None, {}).pipelines.keys()


def test_the_processor_time_of_the_machine_grows() -> None:
    before_s = machine_cpu_s()
    while machine_cpu_s() == before_s:
        sum(range(10_000))


def test_unless_parts_are_named_all_are_measured() -> None:
    assert _chosen(None) == (*WORKER_PARTS, *PARTS)
    assert _chosen(["backlog"]) == ["backlog"]
    with pytest.raises(NotFound, match="backlog"):
        _chosen(["everything"])
