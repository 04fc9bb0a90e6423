"""A real worker before a simulated device: a network that takes as long as it is told, one at a time, and sees nothing.

``python -m workers.benchmark.simulated --ends-with-parent PID --told FILE --processes N`` takes its settings from the
environment. FILE holds the seconds that the device needs for one film; it is read for each Job.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset

from node.children import end_with_parent
from node.logs import configure_logging
from node.settings.loading import load_settings
from node.settings.whole import Settings
from workers.post import CPU, Post, make_post
from workers.tasks import serve_jobs
from workers.turns import Gate

if TYPE_CHECKING:
    from node.models import ModelCard
    from workers.pipelines.base import Analysis
    from workers.radiograph import Radiograph
    from workers.retraction import Registry
    from workers.runner import JobRunner

# Of the shipped rules: what it is asked for, and the role of the film.
PIPELINE, ROLE = "chest_xray", "image"


class Simulated:
    """A Pipeline that reads a film, has the device for some time, and says that nobody knows.

    Parameters
    ----------
    told
        File with the seconds for which it has the device.
    """

    def __init__(self, _card: "ModelCard", _device: object, *, told: Path) -> None:
        self._told = told

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> "Radiograph":
        """Decode the film."""
        # Keeps torch out of the parent of the processes.
        from workers.radiograph import read_radiograph

        return read_radiograph(inputs[ROLE][0])

    def analyze(self, prepared: "Radiograph") -> "Analysis":
        """Wait for the device, hold it, and answer."""
        # As in `read`.
        from node.domain.codes import LUNG, PNEUMONIA
        from node.domain.finding import Finding, Presence
        from workers.inference.turn import device_turn
        from workers.pipelines.base import Analysis

        with device_turn():
            time.sleep(float(self._told.read_text(encoding="ascii")))
        finding = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.UNDETERMINED, confidence=None, site=LUNG)
        return Analysis(findings=(finding,), radiograph=prepared, notes=("The device is simulated.",))


def open_simulated_tools(settings: Settings, post: Post, *, told: Path) -> "tuple[JobRunner, Registry]":
    """Return what one process works with; to be called after the fork."""
    # As in `Simulated.read`.
    from workers.app import build_registry, build_runner

    makers = {PIPELINE: partial(Simulated, told=told)}
    return build_runner(settings, post, makers=makers), build_registry(settings)


def main() -> int:
    """Run Jobs until SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ends-with-parent", type=int, required=True)
    parser.add_argument("--told", type=Path, required=True)
    parser.add_argument("--processes", type=int, required=True)
    arguments = parser.parse_args()
    end_with_parent(arguments.ends_with_parent)
    settings = load_settings(None)
    configure_logging(settings.log.level)
    post = replace(make_post(CPU, processes=arguments.processes), gate=Gate())
    return serve_jobs(settings, post, tools=partial(open_simulated_tools, told=arguments.told))


if __name__ == "__main__":
    sys.exit(main())
