"""Listings page by page, the newest row first; a page stays what it is whatever comes in meanwhile.

A page begins behind the key of the last row that was told, never after so many rows. Conditions that no index serves
are asked of so many rows at most, so that a page may be short, or empty, although more is behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    cast,
    func,
    literal,
    select,
    tuple_,
)

# Of so many rows at most, one page tells which meet its conditions.
WINDOW = 10_000

Key = tuple[datetime | int | str, ...]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAsked:
    """Which page is asked for.

    Attributes
    ----------
    limit
        Rows at most, > 0.
    behind
        Key of the last row that was told; None: the listing begins.
    """

    limit: int
    behind: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFound(Generic[Row]):
    """One page.

    Attributes
    ----------
    rest
        Behind which the next page begins; None where this is the last one.
    """

    rows: tuple[Row, ...]
    rest: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How much one page may cost.

    Attributes
    ----------
    few
        So many rows are sorted in no time; what leads to more is asked of row by row, in the order of the listing.
    window
        Of so many rows at most it is asked whether they meet the conditions.
    """

    few: int = 5000
    window: int = WINDOW


USUAL = Reach()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sieve:
    """One condition, told twice.

    Attributes
    ----------
    lead
        So that an index leads to the rows that meet it; None where none does.
    led
        The rows to which that index leads, to be counted.
    sift
        So that no index is taken for it: a database that prefers one to the order of the listing reads and sorts all
        rows that meet it, for each page.
    """

    sift: ColumnElement[bool]
    lead: ColumnElement[bool] | None = None
    led: Select[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is listed, and in which order.

    Attributes
    ----------
    key
        Columns by which rows are sorted, the greatest first; together they name one row, and an index begins with
        them.
    bounds
        Conditions on columns of the key.
    """

    rows: Select[Any]
    key: tuple[Column[Any], ...]
    bounds: tuple[ColumnElement[bool], ...] = ()
    sieves: tuple[Sieve, ...] = ()


def equals(column: Column[Any], value: str | None, *, is_indexed: bool) -> tuple[Sieve, ...]:
    """Return the condition that a text is this one; no condition where it is None."""
    if value is None:
        return ()
    sift = func.coalesce(column, "") == value
    if not is_indexed:
        return (Sieve(sift=sift),)
    lead = column == value
    return (Sieve(sift=sift, lead=lead, led=select(column).where(lead)),)


def read_page(
    connection: Connection, listing: Listing, asked: PageAsked, reach: Reach = USUAL
) -> PageFound[RowMapping]:
    """Return one page, in the caller's transaction."""
    behind = () if asked.behind is None else (_order(listing) < _literals(listing, asked.behind),)
    wanted = listing.rows.where(*listing.bounds, *behind)
    first, *others = listing.key
    leader = _find_leader(connection, listing, reach)
    if leader is not None:
        lead, sifts = leader
        # As a bare column, it would be the index that is walked along.
        order = (cast(first, BigInteger).desc(), *(column.desc() for column in others))
        return _read(connection, wanted.where(lead, *sifts).order_by(*order), listing, asked)
    end = _end_of_window(connection, listing, behind, reach)
    within = () if end is None else (_order(listing) >= _literals(listing, end),)
    sifted = wanted.where(*within, *(sieve.sift for sieve in listing.sieves))
    found = _read(connection, sifted.order_by(*(column.desc() for column in listing.key)), listing, asked)
    return found if found.rest is not None else PageFound(rows=found.rows, rest=end)


def _read(connection: Connection, statement: Select[Any], listing: Listing, asked: PageAsked) -> PageFound[RowMapping]:
    rows = connection.execute(statement.limit(asked.limit + 1)).mappings().all()
    told = tuple(rows[: asked.limit])
    rest = tuple(told[-1][column.name] for column in listing.key) if len(rows) > asked.limit else None
    return PageFound(rows=told, rest=rest)


def _find_leader(
    connection: Connection, listing: Listing, reach: Reach
) -> tuple[ColumnElement[bool], list[ColumnElement[bool]]] | None:
    """Return a condition whose index leads to few rows, and how the others are asked of these; None: there is none."""
    for sieve in listing.sieves:
        if sieve.lead is None or sieve.led is None:
            continue
        counted = select(func.count()).select_from(sieve.led.limit(reach.few + 1).subquery())
        if connection.execute(counted).scalar_one() <= reach.few:
            return sieve.lead, [other.sift for other in listing.sieves if other is not sieve]
    return None


def _end_of_window(
    connection: Connection, listing: Listing, behind: Sequence[ColumnElement[bool]], reach: Reach
) -> Key | None:
    """Return the key of the last row that is asked for conditions; None where there are no conditions, or no more rows.

    It is found on the index alone.
    """
    if not listing.sieves:
        return None
    walked = select(*listing.key).where(*listing.bounds, *behind).order_by(*(column.desc() for column in listing.key))
    row = connection.execute(walked.offset(reach.window - 1).limit(1)).first()
    return None if row is None else tuple(row)


def _order(listing: Listing) -> ColumnElement[Any]:
    """Return what rows are sorted by; a row of one column is that column."""
    return listing.key[0] if len(listing.key) == 1 else tuple_(*listing.key)


def _literals(listing: Listing, key: Key) -> ColumnElement[Any]:
    values = [literal(value, column.type) for value, column in zip(key, listing.key, strict=True)]
    return values[0] if len(values) == 1 else tuple_(*values)
