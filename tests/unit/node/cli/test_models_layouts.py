"""`radnode models` shows what calibrations chose, and refuses to calibrate what no Pipeline uses."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from node.layouts import PLAIN, Calibration, Chosen, Grounds, Layout, LayoutBook, Memory, Trial
from node.models import SHIPPED_MODELS, read_model

MODEL = "cxr-pneumonia"
LAST = Layout(memory=Memory.CHANNELS_LAST)
CARD = read_model(SHIPPED_MODELS / MODEL)
FOUND = Calibration(
    model=MODEL,
    version=CARD.version,
    grounds=Grounds(
        weights_sha256=CARD.weights_sha256,
        device="Fine CPU",
        torch="2.13.0",
        numbers_sha256="12" * 32,
        product="0.1.0",
    ),
    networks={
        "densenet": Chosen(layout=LAST, trials=(Trial(layout=LAST, times_faster=1.25, difference=0.0012),)),
    },
    samples=4,
    at=datetime(2026, 1, 2, tzinfo=UTC),
)


@pytest.fixture(autouse=True)
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LayoutBook:
    monkeypatch.setenv("RADNODE__NODE__DATA_DIR", str(tmp_path))
    return LayoutBook(tmp_path / "calibration")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def test_a_model_shows_its_layouts(book: LayoutBook) -> None:
    assert "layout" not in run("show", MODEL).stdout
    book.keep(FOUND)
    told = run("show", MODEL).stdout
    assert "layout of densenet" in told
    assert "channels-last float32 on Fine CPU, torch 2.13.0 (channels-last float32 1.25 times as fast" in told
    assert "answers differ by 0.0012" in told


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ({}, "plain on Fine CPU: no drawn Study is read by it"),
        ({"densenet": Chosen(layout=PLAIN, trials=())}, "contiguous float32 on Fine CPU, torch 2.13.0 (nothing else"),
    ],
)
def test_a_model_that_stays_plain_says_why(book: LayoutBook, networks: Mapping[str, Chosen], said: str) -> None:
    book.keep(replace(FOUND, networks=networks))
    assert said in run("show", MODEL).stdout


def test_a_model_that_is_unknown_or_unused_is_not_calibrated() -> None:
    answer = run("calibrate", "knees")
    assert answer.exit_code == 2
    assert "knees" in answer.output
