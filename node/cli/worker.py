"""`radnode worker`: becomes a worker, and loads nothing of the node: that takes half as long again."""

import os
import sys
from typing import Annotated

import typer

from node.broker import EmbeddedBroker
from node.cli.context import DeviceOption, SettingsOption, read_settings
from node.cli.output import reports_errors
from node.data_folder import has_data_folder


@reports_errors
def worker(
    *,
    settings: SettingsOption = None,
    device: DeviceOption = "cpu",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time; unless given, 3 on a GPU, and on CPU one a core.")
    ] = None,
    warm: Annotated[
        bool, typer.Option("--warm", help="Load, calibrate and try every Pipeline before the first Job.")
    ] = False,
) -> None:
    """Run a worker of the node that these settings describe; SIGTERM finishes the Job in hand, or gives it back."""
    loaded = read_settings(settings)
    # It may stand on another machine, without a folder of its own; one that is closed to it is told in time.
    has_data_folder(loaded.node.data_dir)
    if not loaded.broker.url.get_secret_value():
        loaded = loaded.with_broker(EmbeddedBroker(loaded.broker_dir).url)
    arguments = ["serve", "--device", device, *(() if processes is None else ("--processes", str(processes)))]
    arguments += ["--warm"] if warm else []
    environment = {**os.environ, **loaded.as_environment()}
    # This process becomes the worker, so that signals and exit codes are its own.
    os.execve(sys.executable, [sys.executable, "-m", "workers", *arguments], environment)  # noqa: S606 no shell is wanted
