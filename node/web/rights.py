"""Who asks over HTTP, by session or token, and what they may do."""

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from node.accounts.doorkeeper import Doorkeeper, Identity
from node.domain.account import Right
from node.errors import NotAuthenticated, NotAuthorized

__all__ = ["Right", "Visitor", "authorize", "identify", "is_secure", "session_cookie"]

# A browser takes the first kind of cookie from HTTPS only, for this host only, and for all of it (RFC 6265bis 4.1.3).
SECURE_COOKIE, PLAIN_COOKIE = "__Host-radnode", "radnode"
SECURE_SCHEMES = frozenset({"https", "wss"})
# What a page shows that asks for itself anew, with nobody who clicked.
BY_ITSELF = "x-live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks.

    Attributes
    ----------
    name
        As the audit trail and the time line name whoever ordered something.
    csrf
        What a form must send back, so that no other site can send it.
    address
        Where they are, as far as a proxy tells.
    """

    name: str
    rights: frozenset[Right]
    csrf: str = ""
    address: str = ""


def authorize(right: Right, *, is_use: bool = True) -> Callable[[HTTPConnection], Awaitable[Visitor]]:
    """Return what lets a request pass that may use `right`, for ``Depends``; it gives the Visitor.

    Whoever connects from outside of security.allowed_networks never gets so far.

    Parameters
    ----------
    is_use
        Whether a person asks, which keeps their session alive; False for what an open page asks by itself.

    Raises
    ------
    NotAuthenticated
        In the dependency, if nobody knows who asks.
    NotAuthorized
        In the dependency, if they may not.
    """

    async def check(request: HTTPConnection) -> Visitor:
        # It asks the ledger, for which the loop does not wait.
        visitor = await run_in_threadpool(_identify, request, is_use=is_use)
        if right not in visitor.rights:
            raise NotAuthorized(f"{visitor.name} may not do that; it needs the right to {right.value}")
        return visitor

    return check


def identify(request: HTTPConnection) -> Visitor:
    """Return who asks; a token counts more than a session.

    Raises
    ------
    NotAuthenticated
        If nobody knows.
    """
    return _identify(request, is_use=True)


def _identify(request: HTTPConnection, *, is_use: bool) -> Visitor:
    keeper: Doorkeeper = request.app.state.doorkeeper
    shown = request.headers.get("authorization", "")
    if shown:
        return _visitor(keeper.of_token(_token_of(shown)), request)
    secret = session_cookie(request)
    if not secret:
        raise NotAuthenticated("log in, or show a token; see docs/accounts.md")
    return _visitor(keeper.of_session(secret, is_use=is_use and BY_ITSELF not in request.headers), request)


def session_cookie(request: HTTPConnection) -> str:
    """Return the secret of the session that a browser shows; empty for none."""
    return request.cookies.get(cookie_name(request), "")


def cookie_name(request: HTTPConnection) -> str:
    """Return what the cookie of a session is called."""
    return SECURE_COOKIE if is_secure(request) else PLAIN_COOKIE


def is_secure(request: HTTPConnection) -> bool:
    """Return whether the browser speaks TLS, to us or to the proxy."""
    return request.url.scheme in SECURE_SCHEMES


def address_of(request: HTTPConnection) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


def _visitor(identity: Identity, request: HTTPConnection) -> Visitor:
    address = address_of(request)
    return Visitor(name=identity.name, rights=identity.rights, csrf=identity.csrf, address=address)


def _token_of(shown: str) -> str:
    """Return the token of an Authorization header: Bearer, or Basic where it is the password (RFC 6750, RFC 7617)."""
    scheme, _, rest = shown.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                text = b64decode(rest.strip(), validate=True).decode("utf-8", "replace")
            except (binascii.Error, ValueError) as exc:
                raise NotAuthenticated("Authorization is no Basic of RFC 7617; correct the client") from exc
            return text.partition(":")[2]
        case _:
            raise NotAuthenticated("Authorization is neither Bearer nor Basic; show a token, see docs/accounts.md")
