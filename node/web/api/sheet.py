"""Listings as tables that a browser keeps; each that leaves is a record of the audit trail."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from node.ledger.pages import PageAsked, PageFound
from node.sheet import sheet_lines
from node.web.api.paging import MOST
from node.web.negotiation import Offer, accepted_by, choose
from node.web.rights import Visitor
from node.web.witnessing import Witnessing

CSV = "text/csv"
OFFERS = (Offer(name="application/json"), Offer(name=CSV))

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """Who takes a table away.

    Attributes
    ----------
    name
        Of the table; a browser keeps it under that.
    """

    witnessing: Witnessing
    request: Request
    visitor: Visitor
    name: str


def wants_sheet(request: Request) -> bool:
    """Return whether a table is accepted rather than JSON.

    Raises
    ------
    NotAcceptable
        If neither is.
    """
    return choose(accepted_by(request), OFFERS).name == CSV


def sheet_response(columns: Sequence[str], rows: Iterable[Sequence[object]], taking: Taking) -> Response:
    """Return a table, made while it is sent; it is recorded with the rows that left, also where a client goes early."""
    headers = {"Content-Disposition": f'attachment; filename="{taking.name}.csv"', "Cache-Control": "no-store"}
    lines = sheet_lines(columns, _counted(rows, taking))
    return StreamingResponse(lines, media_type=f"{CSV}; charset=utf-8; header=present", headers=headers)


def walk(read: Callable[[PageAsked], PageFound[Row]], begin: PageAsked, *, limit: int | None = None) -> Iterator[Row]:
    """Yield the rows of page after page, from `begin` to the end of the listing, or so many."""
    return islice(_walk(read, begin), limit)


def _walk(read: Callable[[PageAsked], PageFound[Row]], begin: PageAsked) -> Iterator[Row]:
    asked: PageAsked | None = begin
    while asked is not None:
        found = read(asked)
        yield from found.rows
        asked = None if found.rest is None else PageAsked(limit=MOST, behind=found.rest)


def _counted(rows: Iterable[Row], taking: Taking) -> Iterator[Row]:
    count = 0
    try:
        for row in rows:
            count += 1
            yield row
    finally:
        taking.witnessing.exported(taking.request, taking.visitor, taking.name, rows=count)
