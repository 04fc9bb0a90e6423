"""What holds for every answer, whatever its route: names of this node, ends of connections, caches, HEAD."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.errors import NodeError, NotAuthorized, NotThisHost, RequestMalformed, RequestStalled
from node.networks import Network, is_allowed
from node.web.problems import problem_of

AUTHORITY = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{0,5}))?\Z")
MAX_PORT = 65535
OWN_NAMES = ("localhost", "127.0.0.1", "::1")
# Answers depend on what is accepted and, soon, on who asks; a copy of one is asked for again by its ETag.
FORM = b"application/x-www-form-urlencoded"
# By whoever came by TLS, this node is asked by TLS only for so long: thirty days (RFC 6797 6.1).
TLS_ONLY = "max-age=2592000"
OF_OBJECTS = {"Vary": "Accept", "Cache-Control": "private, no-cache"}


class HostGuard:
    """Serves requests to names of this node only.

    A page from elsewhere that lets its own name point to this machine (DNS rebinding) reads nothing here: the browser
    sends that name.

    Parameters
    ----------
    names
        By which the node is called, beside those of the loopback and the address that a connection came to.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(map(_plain, (*OWN_NAMES, *names)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        try:
            self._check(scope)
        except NodeError as exc:
            await problem_of(exc)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        asked = Headers(scope=scope).getlist("host")
        found = AUTHORITY.match(asked[0]) if len(asked) == 1 else None
        if found is None or int(found["port"] or 0) > MAX_PORT:
            raise RequestMalformed("Host names no host; correct the client")
        name, (address, _) = _plain(found["name"]), scope.get("server") or ("", 0)
        if name not in self._names and name != _plain(address):
            raise NotThisHost("Host is no name of this node; ask by one that is, or add it to web.hosts")


class NetworkGuard:
    """Serves requests from allowed networks only, where a proxy tells from which one a request comes.

    Without a proxy, a connection from elsewhere is closed before it asks for anything.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app = app
        self._networks = networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if _is_from(scope, self._networks):
            await self._app(scope, receive, send)
            return
        await problem_of(NotAuthorized("this address is not in security.allowed_networks"))(scope, receive, send)


class ProxySpeaksTls:
    """Takes it that a browser speaks TLS to the proxy, unless the proxy says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if "x-forwarded-proto" not in Headers(scope=scope):
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"
        await self._app(scope, receive, send)


class Manners:
    """Tells caches what they may keep, and ends what cannot go on.

    A body that does not come in time is given up, and a connection whose request was answered before its body was read
    is closed: nobody waits for the rest.

    Parameters
    ----------
    prefix
        Paths of the DICOMweb services, whose bodies are large: who reads one has a patience of its own.
    body_s
        How long any other body may take as a whole; seconds.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, body_s: float) -> None:
        self._app = app
        self._prefix = prefix
        self._body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_object = scope["path"].startswith(self._prefix)
        # A form is read for its proof by the guard, wherever it is sent to.
        is_small = not is_object or dict(scope["headers"]).get(b"content-type", b"").lower().startswith(FORM)
        answer = _Answer(scope, receive, send, is_object=is_object, body_s=self._body_s if is_small else None)
        await self._app(scope, answer.receive, answer.send)


class HeadAsGet:
    """Lets routes answer HEAD like GET; of the answer only the headers are made and sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        is_over = False

        async def send_head(message: Message) -> None:
            nonlocal is_over
            if is_over:
                return
            await send(message)
            if message["type"] == "http.response.start":
                # From then on the client counts as gone, which ends whoever makes the body.
                is_over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # In place, so that the log learns the route, too.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"


class _Answer:
    def __init__(self, scope: Scope, receive: Receive, send: Send, *, is_object: bool, body_s: float | None) -> None:
        headers = Headers(scope=scope)
        self._ends_at = None if body_s is None else asyncio.get_running_loop().time() + body_s
        self._is_secure = scope["scheme"] == "https"
        self._receive = receive
        self._send = send
        self._is_object = is_object
        self._is_answered = False
        self._is_read = "transfer-encoding" not in headers and headers.get("content-length", "0").strip("0") == ""

    async def receive(self) -> Message:
        # Who has answered, or has the whole body, waits for nothing but the end of the connection.
        ends_at = None if self._is_read or self._is_answered else self._ends_at
        try:
            async with asyncio.timeout_at(ends_at):
                message = await self._receive()
        except TimeoutError as exc:
            if not self._is_answered:
                raise RequestStalled("the body did not come in time; send it again") from exc
            message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_answered = True
            headers = MutableHeaders(scope=message)
            if self._is_secure:
                headers["Strict-Transport-Security"] = TLS_ONLY
            if not self._is_read:
                headers["Connection"] = "close"
            if self._is_object:
                for name, value in OF_OBJECTS.items():
                    headers.setdefault(name, value)
        await self._send(message)


def _is_from(scope: Scope, networks: Sequence[Network]) -> bool:
    try:
        return is_allowed((scope.get("client") or ("",))[0], networks)
    except ValueError:
        # A proxy may pass on whatever somebody wrote into X-Forwarded-For.
        return False


def _plain(name: str) -> str:
    """Return a name or address in the one form in which it is compared."""
    bare = name.strip("[]").lower()
    try:
        address = ip_address(bare)
    except ValueError:
        return bare
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
