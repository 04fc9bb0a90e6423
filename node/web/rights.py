"""Who may do what over HTTP; until users can log in, the address decides, and nobody may delete."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from fastapi import Request

from node.errors import NotAuthorized


class Right(StrEnum):
    """What a route does."""

    READ = "read"
    STORE = "store"
    DELETE = "delete"


def authorize(right: Right) -> Callable[[Request], Awaitable[None]]:
    """Return what lets a request pass that may use `right`, for ``Depends``.

    Whoever connects from outside of security.allowed_networks never gets so far.

    Raises
    ------
    NotAuthorized
        In the dependency, if nobody may.
    """

    async def check(request: Request) -> None:
        if right is Right.DELETE:
            raise NotAuthorized(f"{request.method} is refused to everybody; see radnode studies purge")

    return check
