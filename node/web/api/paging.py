"""Pages of listings: where the next one begins, as an opaque word, and the links that lead there (RFC 8288)."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from node.errors import RequestMalformed
from node.ledger.pages import Key, PageAsked, PageFound

MOST, USUAL = 500, 100
# What every reader of JSON can tell from its neighbors (RFC 8259 6).
MAX_SERIAL = 2**53 - 1
MAX_CURSOR = 256

Instant = Annotated[
    str | None, Query(description="A point in time (RFC 3339).", json_schema_extra={"format": "date-time"})
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Which page of a listing a request asks for, and the response that says where the next one is."""

    request: Request
    response: Response
    limit: Annotated[
        int | None,
        Query(description=f"How many at most; {USUAL} unless it is said, of a table all.", ge=1, le=MOST),
    ] = None
    cursor: Annotated[
        str | None,
        Query(
            description="Where the page begins, from `next` of the page before.", max_length=MAX_CURSOR, min_length=1
        ),
    ] = None

    def asked_for(self, *kinds: type) -> PageAsked:
        """Return the page that is asked for.

        Parameters
        ----------
        kinds
            Of the values in the listing's key.

        Raises
        ------
        RequestMalformed
            If the cursor is none of this listing.
        """
        return PageAsked(limit=self.limit or USUAL, behind=None if self.cursor is None else _read(self.cursor, kinds))

    def point_to_next(self, found: PageFound[Any]) -> str | None:
        """Return where the next page is, None behind the last one, after a header of the response says it, too."""
        if found.rest is None:
            return None
        asked = [(name, value) for name, value in self.request.query_params.multi_items() if name != "cursor"]
        link = f"{self.request.url.path}?{urlencode([*asked, ('cursor', _write(found.rest))])}"
        self.response.headers["Link"] = f'<{link}>; rel="next"'
        return link


Page = Annotated[Paging, Depends()]


def read_instant(text: str | None, *, name: str) -> datetime | None:
    """Return a point in time of a query; None where nothing is asked.

    Raises
    ------
    RequestMalformed
        If it is none, or does not tell its zone.
    """
    if text is None:
        return None
    try:
        # Who leaves the + of a zone as it is sends a space.
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return at.astimezone(UTC) if at.tzinfo is not None else _refuse_instant(name)
    except (ValueError, OverflowError):
        return _refuse_instant(name)


def _refuse_instant(name: str) -> NoReturn:
    raise RequestMalformed(f"{name} is a point in time with its zone, such as 2025-01-14T12:00:00Z")


def _write(key: Key) -> str:
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(cursor: str, kinds: Sequence[type]) -> Key:
    try:
        values = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        pairs = zip(values, kinds, strict=True) if isinstance(values, list) else ()
        key = tuple(_value(value, kind) for value, kind in pairs)
    except (ValueError, OverflowError, RecursionError):
        key = ()
    if len(key) != len(kinds) or None in key:
        raise RequestMalformed("cursor is none of this listing; begin without one, then follow `next`")
    return tuple(value for value in key if value is not None)


def _value(value: object, kind: type) -> datetime | int | str | None:
    """Return a value of a key; None where it is none of its kind."""
    if kind is datetime and isinstance(value, str):
        at = datetime.fromisoformat(value)
        return None if at.tzinfo is None else at
    if kind is int and type(value) is int and 0 <= value <= MAX_SERIAL:
        return value
    is_word = kind is str and isinstance(value, str) and value.isascii() and value.isprintable()
    return value if is_word and isinstance(value, str) else None
