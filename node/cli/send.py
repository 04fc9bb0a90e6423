"""`radnode send`: a C-STORE SCU."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from node.cli.output import EXIT_FAILURE, reports_errors, stdout
from node.delivery.sender import SentFile, find_files, parse_peer, send_files

SHOWN_FAILURES = 10


@reports_errors
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders with them.")],
    *,
    to: Annotated[str, typer.Option(help="AET@HOST:PORT of the receiver.")],
    associations: Annotated[int, typer.Option(min=1, help="Parallel Associations.")] = 1,
) -> None:
    """Send files by C-STORE; exit code 1 if one was not taken."""
    peer, files = parse_peer(to), find_files(paths)
    with Progress(transient=True) as progress:
        task = progress.add_task(f"Sending to {peer.aet}", total=len(files))

        def advance(_file: SentFile) -> None:
            progress.advance(task)

        report = send_files(files, peer, associations=associations, progress=advance)
    out = stdout()
    out.print(
        f"{report.sent} of {len(files)} Instances taken, {report.sent_bytes / 1e6:.1f} MB in {report.seconds:.1f} s"
    )
    for failed in report.failed[:SHOWN_FAILURES]:
        out.print(f"  {failed.path}: {failed.outcome.code}: {failed.outcome.text}")
    if report.failed:
        raise typer.Exit(EXIT_FAILURE)
