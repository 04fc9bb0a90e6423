"""A URL that is told by POST, in JSON; there is no word of a patient in it."""

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from threading import Timer
from time import monotonic
from urllib.parse import unquote, urlsplit

from node.domain.alarm import News
from node.errors import WebhookFailed

OK, MULTIPLE_CHOICES = 200, 300  # RFC 9110 15.3 and 15.4

# Host (a name, or an address) and port.
Place = tuple[str, int]


def find_addresses(place: Place) -> Sequence[Place]:
    """Return every address of a host, in the order in which they are to be tried; OSError where it has none."""
    found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]


class Webhook:
    """Posts to one URL, within a limit of time for everything but the look-up of the host's name.

    That one nobody can break off; the resolver has limits of its own (``resolv.conf``, commonly some 10 s). Where a
    name has several addresses, those that do not answer share the time.

    Parameters
    ----------
    node
        Who tells: ``AET@host``.
    tls
        Whom to trust where the URL begins with ``https``.
    limit_s
        From the first packet to the status of the answer; seconds.
    find
        Returns the addresses of a host.
    """

    def __init__(
        self,
        url: str,
        *,
        node: str,
        tls: ssl.SSLContext | None,
        limit_s: float,
        find: Callable[[Place], Sequence[Place]] = find_addresses,
    ) -> None:
        self._parts = urlsplit(url)
        self._node = node
        self._tls = tls
        self._limit_s = limit_s
        self._find = find

    def post(self, news: News) -> None:
        """Return after the other side answered 2xx.

        Raises
        ------
        WebhookFailed
            If it did not, in time.
        """
        self._send(
            {
                "node": self._node,
                "alarm_id": news.alarm.alarm_id,
                "alarm": news.alarm.kind.value,
                "subject": news.alarm.subject,
                "state": news.word,
                "at": _say(news.at),
                "raised_at": _say(news.alarm.raised_at),
                "text": news.alarm.text,
            }
        )

    def post_test(self, now: datetime) -> None:
        """Return after the other side answered 2xx to a message that is no alarm.

        Raises
        ------
        WebhookFailed
            If it did not, in time.
        """
        text = "a person tries whether alarms of this node arrive"
        self._send({"node": self._node, "alarm": "test", "state": "test", "at": _say(now), "text": text})

    def _send(self, message: Mapping[str, object]) -> None:
        connection = self._open()
        try:
            addresses = self._find((connection.host, connection.port))
            ends_s = monotonic() + self._limit_s
            connection.sock = _connect(addresses, ends_s)
            # The library's own limit begins anew with each packet.
            deadline = Timer(max(0.0, ends_s - monotonic()), _cut, (connection,))
            deadline.daemon = True
            deadline.start()
            try:
                status = self._ask(connection, json.dumps(message).encode())
            finally:
                deadline.cancel()
            if monotonic() >= ends_s:
                # To the library, headers that were cut are headers that ended.
                raise TimeoutError
        except (OSError, http.client.HTTPException) as exc:
            # What they say may quote the URL, which may hold a secret.
            raise WebhookFailed(
                f"alarms.webhook at {self._parts.hostname} gave no answer ({type(exc).__name__})"
            ) from exc
        finally:
            connection.close()
        if not OK <= status < MULTIPLE_CHOICES:
            raise WebhookFailed(f"alarms.webhook at {self._parts.hostname} answered {status}; 2xx is expected")

    def _ask(self, connection: http.client.HTTPConnection, body: bytes) -> int:
        """Return the status of the answer over a connection that stands."""
        if self._tls is not None:
            # Only what the connection holds is cut at the end of the time, and a handshake may drip, too.
            secured = connection.sock = self._tls.wrap_socket(
                connection.sock, server_hostname=connection.host, do_handshake_on_connect=False
            )
            secured.do_handshake()
        target = self._parts._replace(scheme="", netloc="", fragment="", path=self._parts.path or "/").geturl()
        connection.request("POST", target, body, {"Content-Type": "application/json", **self._login()})
        return connection.getresponse().status

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        # Without a port the library would take the end of an IPv6 address for one.
        if self._tls is None:
            return http.client.HTTPConnection(host, port or http.client.HTTP_PORT)
        return http.client.HTTPSConnection(host, port or http.client.HTTPS_PORT, context=self._tls)

    def _login(self) -> Mapping[str, str]:
        """Return what shows who we are, where user and password stand in the URL (RFC 7617)."""
        if self._parts.username is None:
            return {}
        pair = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode('ascii')}"}


def _connect(addresses: Sequence[Place], ends_s: float) -> socket.socket:
    """Return a connection to the first address that takes one; each has its share of what is left of the time."""
    failure: OSError = TimeoutError()
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        share_s = (ends_s - monotonic()) / left
        if share_s <= 0:
            break
        try:
            connected = socket.create_connection(address, timeout=share_s)
        except OSError as exc:
            failure = exc
        else:
            connected.settimeout(max(0.001, ends_s - monotonic()))
            return connected
    raise failure


def _cut(connection: http.client.HTTPConnection) -> None:
    # Whoever waits for it hears of it; to close it would not wake him. The socket below TLS: the one above would be
    # taken away from under him.
    with suppress(OSError):
        if connection.sock is not None:
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _say(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
