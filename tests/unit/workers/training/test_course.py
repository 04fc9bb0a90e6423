"""A training that is broken off and gone on with gives the weights of one that was not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.training.__main__ import main
from workers.training.course import Course, Plan
from workers.training.order import Order

PLAN = Plan(steps=30, peak_rate=1e-2, validate_every=10, keep_every=10)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _course(order: Order, plan: Plan = PLAN) -> Course:
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )
    return Course(network, order, rng=np.random.default_rng(5), plan=plan)


def _run(order: Order, *, stop_after: int | None = None, plan: Plan = PLAN) -> Course:
    course = _course(order, plan)
    taken = 0

    def loss_of() -> torch.Tensor:
        nonlocal taken
        if taken == stop_after:
            raise KeyboardInterrupt
        taken += 1
        batch = torch.from_numpy(course.rng.normal(size=(16, 4))).float()
        error: torch.Tensor = course.network(batch)[:, 0] - batch.sum(dim=1)
        return (error**2).mean()

    course.run(loss_of, validate=lambda: {"size": float(sum(p.abs().sum() for p in course.averaged.parameters()))})
    return course


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, steps=10, more_steps=20, more_peak_rate=5e-3)])
def test_a_broken_off_training_goes_on_to_the_same_weights(plan: Plan, tmp_path: Path) -> None:
    whole = Order(data=tmp_path, out=tmp_path / "whole")
    parts = Order(data=tmp_path, out=tmp_path / "parts")
    for order in (whole, parts):
        order.out.mkdir()
    expected = _run(whole, plan=plan)
    with pytest.raises(KeyboardInterrupt):
        _run(parts, stop_after=17, plan=plan)
    resumed = _run(Order(data=tmp_path, out=parts.out, resume=True), plan=plan)
    for name, value in expected.averaged.state_dict().items():
        assert torch.equal(value, resumed.averaged.state_dict()[name]), name
    assert (whole.out / "curve.csv").read_text() == (parts.out / "curve.csv").read_text()
    assert (parts.out / "curve.png").stat().st_size > 1000


def test_the_rate_falls_to_nothing_and_rises_once_more_where_the_plan_says_so(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=100, more_steps=50, more_peak_rate=4e-3)
    course = _run(Order(data=tmp_path, out=tmp_path), plan=plan)
    rates = []
    for step in range(150):
        course._done = step
        rates.append(course._rate())
    assert max(rates[:100]) == pytest.approx(plan.peak_rate)
    assert max(rates[100:]) == pytest.approx(plan.more_peak_rate)
    assert max(rates[99], rates[149]) < 1e-4
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 1 + 15 * 2


def test_the_loss_falls_and_the_average_follows(tmp_path: Path) -> None:
    _run(Order(data=tmp_path, out=tmp_path, steps=300))
    rows = [line.split(",") for line in (tmp_path / "curve.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, figure, value in rows if figure == "loss"]
    assert len(losses) == 30
    assert losses[-1] < losses[0] / 3


def test_resuming_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint to go on from"):
        _course(Order(data=tmp_path, out=tmp_path, resume=True))


@pytest.mark.parametrize("name", ["mr-tumour", "cxr-pneumonia"])
def test_nobody_learns_from_patients_without_the_list_of_those_kept_for_evaluation(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([name, "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--steps", "1"])
    assert code == 2
    assert "name it by --exclude" in capsys.readouterr().err
