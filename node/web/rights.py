"""Who may do what over HTTP; until users can log in, the address decides, and nobody may delete."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request

from node.errors import NotAuthorized


class Right(StrEnum):
    """What a route does."""

    READ = "read"
    REVIEW = "review"
    STORE = "store"
    OPERATE = "operate"
    DELETE = "delete"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks.

    Attributes
    ----------
    name
        As the audit trail and the time line name whoever ordered something.
    csrf
        What a form must send back, so that no other site can send it.
    """

    name: str
    rights: frozenset[Right]
    csrf: str = ""


def authorize(right: Right) -> Callable[[Request], Awaitable[Visitor]]:
    """Return what lets a request pass that may use `right`, for ``Depends``; it gives the Visitor.

    Whoever connects from outside of security.allowed_networks never gets so far.

    Raises
    ------
    NotAuthorized
        In the dependency, if nobody may.
    """

    async def check(request: Request) -> Visitor:
        if right is Right.DELETE:
            raise NotAuthorized(f"{request.method} is refused to everybody; see radnode studies purge")
        return Visitor(name="local", rights=frozenset(Right) - {Right.DELETE})

    return check
