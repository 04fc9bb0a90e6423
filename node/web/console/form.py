"""What a form of the console sends; that a page of ours has sent it is sure before any route is asked."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from urllib.parse import parse_qs

from fastapi import Request

from node.errors import RequestMalformed, TooLarge
from node.web.rights import Right, Visitor, authorize

# The rules of a site are the longest; as much as the guard before us passes.
MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 200
FORM = "application/x-www-form-urlencoded"
# Nobody types them, and PostgreSQL takes no NUL; lines and tabs stand in the rules of a site.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Of a row in the ledger.
MAX_SERIAL = 2**63 - 1
SERIAL = re.compile(r"[0-9]{1,19}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form, and who sent it."""

    visitor: Visitor
    fields: Mapping[str, Sequence[str]]

    def text(self, name: str) -> str:
        """Return the first value of a field, without blanks around it; empty where it is absent."""
        return self.fields.get(name, [""])[0].strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Return every value of a field, such as of boxes that are ticked."""
        return tuple(self.fields.get(name, ()))

    def number(self, name: str) -> float | None:
        """Return a number, with a comma or a point in it; None where the field is empty.

        Raises
        ------
        RequestMalformed
            If it is none.
        """
        text = self.text(name)
        try:
            found = float(text.replace(",", ".")) if text else None
        except ValueError as exc:
            raise RequestMalformed(f"{name} is a number, such as 8.4") from exc
        if found is not None and not isfinite(found):
            raise RequestMalformed(f"{name} is a number, such as 8.4")
        return found

    def serial(self, name: str) -> int | None:
        """Return the number of a row in the ledger; None where the field is empty.

        Raises
        ------
        RequestMalformed
            If no row can have it.
        """
        text = self.text(name)
        if not text:
            return None
        if SERIAL.match(text) is None or int(text) > MAX_SERIAL:
            raise RequestMalformed(f"{name} is the number of a row")
        return int(text)


def posted(right: Right) -> Callable[[Request], Awaitable[Form]]:
    """Return what lets a form pass whose sender may use `right`, for ``Depends``; it gives the Form.

    Raises
    ------
    NotAuthenticated, NotAuthorized
        In the dependency, if they may not.
    TooLarge, RequestMalformed
        In the dependency, if it is no form that a page of ours could send.
    """
    check = authorize(right)

    async def read(request: Request) -> Form:
        return Form(visitor=await check(request), fields=await read_fields(request))

    return read


async def read_fields(request: Request) -> Mapping[str, Sequence[str]]:
    """Return the fields of a form, whoever sent it.

    Raises
    ------
    TooLarge, RequestMalformed
        If it is no form that a page of ours could send.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise RequestMalformed(f"a form is sent as {FORM}")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_FORM_BYTES:
            raise TooLarge(f"a form has at most {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as exc:
        raise RequestMalformed("the form cannot be read") from exc
    if any(map(CONTROL.search, (*fields, *chain.from_iterable(fields.values())))):
        raise RequestMalformed("a field has control characters, which nobody types")
    return fields
