"""How commands speak: tables and JSON on standard output, one line of error on standard error."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from node.errors import Misconfigured, NodeError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
# Output that goes into a file or another program is not folded to a screen.
WIDTH_OF_FILES = 200

Parameters = ParamSpec("Parameters")


def stdout() -> Console:
    """Return the console for people; no colors when it is no terminal."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    return console


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn our errors into one line on standard error and an exit code: 2 usage or settings, 1 failure."""

    @wraps(command)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except NodeError as exc:
            sys.stderr.write(f"radnode: {exc}\n")
            raise typer.Exit(EXIT_USAGE if isinstance(exc, Misconfigured) else EXIT_FAILURE) from exc
        except PermissionError as exc:
            place = "something" if exc.filename is None else Path(os.fsdecode(exc.filename)).absolute()
            sys.stderr.write(
                f"radnode: {place} is not open to this user; run radnode as the user of the service, or give this "
                "user rights there\n"
            )
            raise typer.Exit(EXIT_USAGE) from exc

    return guarded


def print_json(value: object) -> None:
    """Write `value` as JSON."""
    sys.stdout.write(json.dumps(value, default=_to_json, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write rows under their columns, or the sentence `empty` when there is none."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        # The first column is what a person copies into the next command.
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(str(cell))) for cell in row))
    stdout().print(table if table.row_count else empty)


def _printable(text: str) -> str:
    # A Series Description may hold what steers a terminal.
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _to_json(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    match value:
        case datetime():
            return value.isoformat()
        case Enum():
            return value.value
        case Path():
            return str(value)
        case Mapping():
            return dict(value)
        case _:
            return str(value)
