"""A worker that is told to warm up: ready with every Pipeline tried, and asked in the Layouts that were chosen."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from node.layouts import PLAIN, Calibration, Chosen, Layout, LayoutBook, Memory
from node.models import SHIPPED_MODELS, read_model
from node.rehearsal.modality import send
from node.settings.loading import load_settings
from tests.node_process import QUICK, Launch, NodeProcess, plain_environment
from tests.peers import wait_until
from tests.phantoms import small_chest_xray
from workers.inference.device import find_grounds

pytestmark = pytest.mark.thorough
LAST = Layout(memory=Memory.CHANNELS_LAST)
CHOSEN = {
    "ct-nodules": {"classifier": PLAIN, "outliner": PLAIN},
    "mr-tumour": {"unet": LAST},
    "cxr-pneumonia": {"densenet": LAST},
}
READY_S = 300.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path, QUICK, launch=Launch(verb="serve")) as running:
        yield running


def calibrate(node: NodeProcess) -> None:
    """Write what a calibration would have chosen, which would take a minute."""
    book = LayoutBook(load_settings(node.file).layouts_dir)
    for model, layouts in CHOSEN.items():
        card = read_model(SHIPPED_MODELS / model)
        found = Calibration(
            model=model,
            version=card.version,
            grounds=find_grounds(card, torch.device("cpu")),
            networks={name: Chosen(layout=layout, trials=()) for name, layout in layouts.items()},
            samples=4,
            at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        book.keep(found)


@contextmanager
def warm_worker(node: NodeProcess) -> Iterator[Path]:
    """Run `radnode worker --warm`, and yield its log."""
    log = node.folder / "worker.log"
    command = [sys.executable, "-m", "node", "worker", "--settings", str(node.file), "--processes", "1", "--warm"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=plain_environment())
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60.0)


def events(log: Path) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [f"{line['event']} {line.get('pipeline', '')}".strip() for line in lines]


def test_a_warm_worker_has_tried_everything_before_its_first_job(node: NodeProcess) -> None:
    calibrate(node)
    film = small_chest_xray(with_opacity=False).dataset
    assert not send([film], node.peer).failed
    with warm_worker(node) as log:
        wait_until(lambda: "worker process ready" in events(log), what="a warm worker", limit_s=READY_S)
        story = node.wait_for_study(film.StudyInstanceUID, lambda story: story.jobs and story.is_finished)
    told = events(log)
    tried = {f"pipeline warm {name}" for name in ("lung_nodules", "brain_tumour", "chest_xray")}
    assert tried <= set(told[: told.index("worker process ready")])
    assert not [event for event in told if "calibrated" in event], "all were calibrated before"
    (job,) = story.jobs
    (done,) = [event.text for event in node.view.job_events(job) if event.kind == "job-completed"]
    assert done.endswith("networks: densenet channels-last float32")
