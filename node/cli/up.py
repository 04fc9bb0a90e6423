"""`radnode up` and `serve`: the processes of a node."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from node.app import NodeApp, Role
from node.cli.context import DeviceOption, SettingsOption, read_settings
from node.cli.output import reports_errors, stdout
from node.household import prepare_ledger
from node.logs import configure_logging
from node.web.host import url_of

InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Receive on any address from any AE title. Only on a network of your own.")
]


@reports_errors
def up(*, settings: SettingsOption = None, insecure: InsecureOption = False, device: DeviceOption = "cpu") -> None:
    """Run everything: node, worker and embedded broker; SIGTERM or Ctrl-C ends it in order."""
    _run(settings, Role(with_worker=True, insecure=insecure, device=device))


@reports_errors
def serve(*, settings: SettingsOption = None, insecure: InsecureOption = False) -> None:
    """Run the node without a worker; `radnode worker` runs elsewhere."""
    _run(settings, Role(with_worker=False, insecure=insecure))


def _tell_web(app: NodeApp, url: str) -> None:
    out, link = stdout(), app.first_link()
    out.print(f"The console is at {url}, DICOMweb at {url}/dicom-web")
    if link is not None:
        out.print(f"Nobody has an account yet; within 24 hours, make the first at {url}/welcome/{link}")


def _run(path: Path | None, role: Role) -> None:
    settings = read_settings(path)
    configure_logging(settings.log.level)
    prepare_ledger(settings)
    app = NodeApp(settings, role)
    # At the last moment at which this process has no thread.
    app.fork_nursery()
    ending = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ending.set())
    host, port = app.start()
    try:
        out = stdout()
        way = " by TLS" if settings.security.tls.certificate else ""
        out.print(f"radnode receives DICOM as {settings.node.aet} on {host}:{port}{way}")
        if settings.web.port:
            _tell_web(app, url_of(settings.web))
        out.print(f"Data lie in {settings.node.data_dir.resolve()}")
        names = ", ".join(f"{name} ({entry.transport})" for name, entry in settings.destinations.items())
        out.print(f"Results go to {names}" if names else "No Destination is configured: Results stay in the store")
        if not way:
            out.print(f"Try: radnode send FILES --to {settings.node.aet}@{host}:{port}")
        sys.stdout.flush()
        ending.wait()
    finally:
        app.stop()
