"""`radnode feedback`: what radiologists say of findings."""

import sys
from typing import Annotated

import typer

from node.cli.context import SettingsOption, read_settings
from node.cli.output import print_json, reports_errors
from node.errors import SettingsInvalid
from node.feedback import COLUMNS, to_cells
from node.ledger.opening import find_ledger
from node.ledger.reviews import ReviewLedger
from node.sheet import sheet_lines

app = typer.Typer(no_args_is_help=True, help="What radiologists say of findings.")


@app.callback()
def feedback() -> None:
    """Keep `export` a command of its own, beside those to come."""


@app.command("export")
@reports_errors
def export_feedback(
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for a spreadsheet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
    settings: SettingsOption = None,
) -> None:
    """Write every verdict that was ever given to standard output, the newest first; no value of a patient is in it."""
    if as_csv == as_json:
        raise SettingsInvalid("say --csv or --json")
    reviews = ReviewLedger(find_ledger(read_settings(settings))).list_reviews()
    rows = [to_cells(review) for review in reviews]
    if as_json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        return
    for line in sheet_lines(COLUMNS, rows):
        sys.stdout.write(line)
