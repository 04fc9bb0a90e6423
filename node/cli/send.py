"""`radnode send`: a C-STORE SCU."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from node.cli.context import SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, reports_errors, stdout
from node.destinations import destination_spec
from node.errors import SettingsInvalid
from node.peers.peer import Peer, peer_of
from node.peers.sender import SendReport, SentFile, find_files, parse_peer, send_files
from node.settings.whole import Settings

SHOWN_REASONS = 10


@reports_errors
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders with them.")],
    *,
    to: Annotated[str, typer.Option(help="AET@HOST:PORT of the receiver, or a Destination of the settings, as it is.")],
    calling_aet: Annotated[str, typer.Option(help="AE title under which we call an AET@HOST:PORT.")] = "RADNODE",
    associations: Annotated[
        int, typer.Option(min=1, max=64, help="Parallel Associations; with one, files arrive in their order.")
    ] = 1,
    settings: SettingsOption = None,
) -> None:
    """Send files by C-STORE; exit code 1 if one was not taken."""
    peer = parse_peer(to, calling_aet=calling_aet) if "@" in to else find_destination(read_settings(settings), to)
    files = find_files(paths)
    # What stands on standard output is for other programs too.
    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"Sending to {peer.aet}", total=len(files))

        def advance(_file: SentFile) -> None:
            progress.advance(task)

        report = send_files(files, peer, associations=associations, progress=advance)
    for line in describe(report):
        stdout().print(line, markup=False)
    if report.failed:
        raise typer.Exit(EXIT_FAILURE)


def find_destination(settings: Settings, name: str) -> Peer:
    """Return the peer that a Destination is, with its TLS.

    Raises
    ------
    SettingsInvalid
        If the settings have none of this name, or it does not receive by C-STORE.
    """
    found = settings.destinations.get(name)
    if found is None or found.transport != "cstore":
        known = ", ".join(key for key, entry in settings.destinations.items() if entry.transport == "cstore")
        raise SettingsInvalid(
            f"peer {name!r}: expected AET@HOST:PORT, such as PACS@192.0.2.7:104, or the name of a C-STORE Destination "
            f"({known or 'the settings have none'})"
        )
    return peer_of(destination_spec(settings, name))


def describe(report: SendReport) -> Iterator[str]:
    """Yield how many files were taken, then each reason for which one was not, or only with a warning."""
    megabytes = report.sent_bytes / 1e6
    rate = f", {megabytes / report.seconds:.0f} MB/s" if report.sent else ""
    taken = f"{report.sent} of {len(report.files)} Instances taken by {report.peer}"
    yield f"{taken}, {megabytes:.1f} MB in {report.seconds:.1f} s{rate}"
    reasons: dict[tuple[str, str], list[SentFile]] = {}
    for file in report.files:
        if file.outcome.code is not None:
            reasons.setdefault((file.outcome.code, file.outcome.text or ""), []).append(file)
    for (code, text), files in list(reasons.items())[:SHOWN_REASONS]:
        yield f"  {_name(files)}: {code}: {text}"
    if len(reasons) > SHOWN_REASONS:
        yield f"  and {sum(map(len, list(reasons.values())[SHOWN_REASONS:]))} files for other reasons"


def _name(files: Sequence[SentFile]) -> str:
    """Return which files these are, in one phrase."""
    return str(files[0].path) if len(files) == 1 else f"{len(files)} files, the first of them {files[0].path}"
