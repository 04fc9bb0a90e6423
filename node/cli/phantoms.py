"""`radnode phantoms`: drawn Studies with known truth, to try a model or a connection with."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.output import reports_errors, stdout
from node.errors import NotFound, SettingsInvalid
from node.rehearsal.specimens import KINDS, STUDIES, write_specimens


@reports_errors
def phantoms(
    kind: Annotated[str, typer.Argument(help=f"What is drawn: {', '.join(KINDS)}.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for studies and truth.")],
    count: Annotated[int, typer.Option(min=1, help="How many Studies.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the first; the same seed draws the same.")] = 90_000,
) -> None:
    """Draw Studies with known truth, for `radnode evaluate`; nobody's images."""
    if kind not in KINDS:
        raise SettingsInvalid(f"{kind} is not drawn; known are {', '.join(KINDS)}")
    try:
        truth = write_specimens(kind, out, count=count, seed=seed)
    except OSError as exc:
        raise NotFound(f"--out {out} cannot be written ({exc.strerror}); name a folder that can be written") from exc
    stdout().print(f"Studies: {out / STUDIES}\nTruth: {truth}", markup=False)
