"""Listings as tables for a spreadsheet (RFC 4180), with nothing in them that it would compute."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from itertools import islice
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from node.ledger.pages import PageAsked, PageFound
from node.web.api.paging import MOST
from node.web.negotiation import Offer, accepted_by, choose

CSV = "text/csv"
OFFERS = (Offer(name="application/json"), Offer(name=CSV))
# A spreadsheet takes what begins so for a formula, or for the end of the cell before.
STEERING = ("=", "+", "-", "@", "\t", "\r", "\n")
HARMLESS = "'"
# What Excel sorts into columns by; without it, it takes UTF-8 for something else.
BYTE_ORDER_MARK = "\ufeff"

Row = TypeVar("Row")


def wants_sheet(request: Request) -> bool:
    """Return whether a table is accepted rather than JSON.

    Raises
    ------
    NotAcceptable
        If neither is.
    """
    return choose(accepted_by(request), OFFERS).name == CSV


def sheet_response(columns: Sequence[str], rows: Iterable[Sequence[object]], *, name: str) -> Response:
    """Return a table, made while it is sent; a browser keeps it under `name`."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(
        sheet_lines(columns, rows), media_type=f"{CSV}; charset=utf-8; header=present", headers=headers
    )


def walk(read: Callable[[PageAsked], PageFound[Row]], begin: PageAsked, *, limit: int | None = None) -> Iterator[Row]:
    """Yield the rows of page after page, from `begin` to the end of the listing, or so many."""
    return islice(_walk(read, begin), limit)


def _walk(read: Callable[[PageAsked], PageFound[Row]], begin: PageAsked) -> Iterator[Row]:
    asked: PageAsked | None = begin
    while asked is not None:
        found = read(asked)
        yield from found.rows
        asked = None if found.rest is None else PageAsked(limit=MOST, behind=found.rest)


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
    text = str(value)
    # A number is a number, also below zero.
    is_text = not isinstance(value, int | float)
    return HARMLESS + text if is_text and text.startswith(STEERING) else text
