"""`radnode viewer`: the OHIF Viewer, which the node serves at /viewer/ of its own port."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, reports_errors, stdout
from node.viewer.address import PREFIX
from node.viewer.installation import Installation
from node.viewer.package import LICENCE, NAME, SHA512, VERSION
from node.viewer.registry import find_registry

MIB = 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="The OHIF Viewer, served at /viewer/ of the node's own HTTP port.")

RegistryOption = Annotated[str, typer.Option("--registry", help="URL of an npm registry; else the one npm is told.")]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="File of the package, brought to a machine without internet.")
]


@app.command()
@reports_errors
def install(*, registry: RegistryOption = "", source: FromOption = None, settings: SettingsOption = None) -> None:
    """Fetch the viewer, check that it is the one that is pinned, and serve it."""
    loaded = read_settings(settings)
    installation = Installation(loaded.node.data_dir)
    out = stdout()
    out.print(f"OHIF Viewer {VERSION} ({NAME}), licence {LICENCE}: free to use; not a medical device")
    if source is not None:
        installed = installation.install_from(source)
    else:
        chosen = registry or loaded.viewer.registry or find_registry(home=Path.home())
        installed = installation.install_by(chosen)
    out.print(f"installed in {installed.path}, {installed.size_bytes / MIB:.0f} MiB; served at {PREFIX} of web.port")


@app.command()
@reports_errors
def remove(*, settings: SettingsOption = None) -> None:
    """Remove the viewer."""
    was_there = Installation(read_settings(settings).node.data_dir).remove()
    stdout().print("removed" if was_there else "there was none")


@app.command()
@reports_errors
def status(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Say which viewer is installed; exit 1 when none is that this radnode serves."""
    installation = Installation(read_settings(settings).node.data_dir)
    found, others = installation.find(), installation.other_versions()
    if as_json:
        pinned = {"package": NAME, "version": VERSION, "sha512": SHA512, "licence": LICENCE}
        print_json({"pinned": pinned, "installed": found, "other_versions": others})
    elif found is not None:
        stdout().print(f"OHIF Viewer {found.version}, licence {found.licence}, in {found.path}")
    else:
        older = f" (there is {', '.join(others)}, which it does not)" if others else ""
        stdout().print(f"not installed; this radnode serves {NAME} {VERSION}{older}: radnode viewer install")
    if found is None:
        raise typer.Exit(EXIT_FAILURE)
