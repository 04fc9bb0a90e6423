"""A real worker whose chest X-ray Pipeline does what the Series Description of a Study tells it: crash, hang, devour.

`python -m tests.crooked_worker --settings FILE --scratch FOLDER`; everything but that Pipeline is `radnode worker`.
"""

import argparse
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset

from node.broker import EmbeddedBroker
from node.children import end_with_parent
from node.logs import configure_logging
from node.settings.loading import load_settings
from node.settings.whole import Settings
from workers.post import Post, make_post
from workers.tasks import serve_jobs

if TYPE_CHECKING:
    import torch

    from node.models import ModelCard
    from workers.pipelines.base import Analysis
    from workers.pipelines.chest_xray import FrontalRadiograph
    from workers.retraction import Registry
    from workers.runner import JobRunner

FOREVER_S = 100_000
SHORT_S = 0.05
# More than any address space has.
DEVOURED_BYTES = 1 << 60


def exit_at_once() -> None:
    os._exit(1)


def read_nowhere() -> None:
    ctypes.string_at(0)


def hang() -> None:
    threading.Event().wait()


def hang_in_c() -> None:
    """PyDLL keeps the interpreter: no thread of this process runs any more."""
    ctypes.PyDLL(None).sleep(FOREVER_S)


def devour() -> None:
    bytearray(DEVOURED_BYTES)


def break_device() -> None:
    # As in `make_crooked`.
    import torch

    raise torch.AcceleratorError("CUDA error: device-side assert triggered")


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(SHORT_S)


DEEDS: Mapping[str, Callable[[], None]] = {
    "exit": exit_at_once,
    "segfault": read_nowhere,
    "hang": hang,
    "hang in C": hang_in_c,
    "devour": devour,
    "break device": break_device,
}


class Crooked:
    """The Pipeline `chest_xray`, once it has done what was described.

    A description is a deed of `DEEDS`, or ``wait for NAME``: until a file of that name lies in `scratch`. After
    ``once`` it is done at the first attempt only. A file ``began DESCRIPTION`` tells that it is under way.
    """

    def __init__(self, card: "ModelCard", device: "torch.device", *, scratch: Path) -> None:
        # Keeps torch out of the parent process.
        from workers.pipelines.chest_xray import ChestXray

        self._honest: ChestXray = ChestXray(card, device)
        self._scratch = scratch

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> "FrontalRadiograph":
        """Do the deed, then read."""
        description = str(inputs["image"][0].get("SeriesDescription") or "")
        began = self._scratch / f"began {description}"
        is_first = not began.exists()
        began.touch()
        deed = description.removeprefix("once ")
        if is_first or deed == description:
            if deed.startswith("wait for "):
                wait_for(self._scratch / deed.removeprefix("wait for "))
            elif deed in DEEDS:
                DEEDS[deed]()
        return self._honest.read(inputs)

    def analyze(self, prepared: "FrontalRadiograph") -> "Analysis":
        """Answer as the shipped Pipeline does."""
        return self._honest.analyze(prepared)


def open_crooked_tools(settings: Settings, post: Post, *, scratch: Path) -> "tuple[JobRunner, Registry]":
    # As in `Crooked`.
    from workers.app import build_registry, build_runner

    makers = {"chest_xray": partial(Crooked, scratch=scratch)}
    return build_runner(settings, post, makers=makers), build_registry(settings)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    end_with_parent(os.getppid())
    settings = load_settings(arguments.settings)
    settings = settings.with_broker(EmbeddedBroker(settings.broker_dir).url)
    configure_logging(settings.log.level)
    tools = partial(open_crooked_tools, scratch=arguments.scratch)
    return serve_jobs(settings, make_post("cpu", processes=arguments.processes), tools=tools)


if __name__ == "__main__":
    sys.exit(main())
