"""Tables for a spreadsheet (RFC 4180), with nothing in them that it would compute, whatever it splits cells at."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

# A spreadsheet takes what begins so for a formula, or for the end of the cell before. Where its separator is a
# semicolon or a tab, a cell of ours is several of its own, and the quotes around ours are text.
STEERING = re.compile(r"^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n\"]))(?= *[=+\-@])")
HARMLESS = "'"
# What Excel sorts into columns by; without it, it takes UTF-8 for something else.
BYTE_ORDER_MARK = "\ufeff"


def sheet_lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table, the columns' names first; of rows, none is in memory longer than it takes."""
    yield BYTE_ORDER_MARK + _line(columns)
    for row in rows:
        yield _line([_cell(value) for value in row])


def _line(cells: Sequence[str]) -> str:
    page = StringIO()
    csv.writer(page).writerow(cells)
    return page.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    # A number is a number, also below zero.
    return str(value) if isinstance(value, int | float) else STEERING.sub(HARMLESS, str(value))
