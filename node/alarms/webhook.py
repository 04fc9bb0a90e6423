"""A URL that is told by POST, in JSON; there is no word of a patient in it."""

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from threading import Timer
from time import monotonic
from urllib.parse import unquote, urlsplit

from node.domain.alarm import News
from node.errors import WebhookFailed

OK, MULTIPLE_CHOICES = 200, 300  # RFC 9110 15.3 and 15.4


class Webhook:
    """Posts to one URL, within a limit of time for everything.

    Parameters
    ----------
    node
        Who tells: ``AET@host``.
    tls
        Whom to trust where the URL begins with ``https``.
    limit_s
        From the first packet to the status of the answer; seconds.
    """

    def __init__(self, url: str, *, node: str, tls: ssl.SSLContext | None, limit_s: float) -> None:
        self._parts = urlsplit(url)
        self._node = node
        self._tls = tls
        self._limit_s = limit_s

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
        # The library's own limit begins anew with each packet.
        deadline = Timer(self._limit_s, _cut, (connection,))
        deadline.daemon = True
        deadline.start()
        ends_s = monotonic() + self._limit_s
        try:
            target = self._parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            body = json.dumps(message).encode()
            connection.request("POST", target, body, {"Content-Type": "application/json", **self._login()})
            status = connection.getresponse().status
            if monotonic() >= ends_s:
                # To the library, headers that were cut are headers that ended.
                raise TimeoutError
        except (OSError, http.client.HTTPException) as exc:
            # What they say may quote the URL, which may hold a secret.
            raise WebhookFailed(
                f"alarms.webhook at {self._parts.hostname} gave no answer ({type(exc).__name__})"
            ) from exc
        finally:
            deadline.cancel()
            connection.close()
        if not OK <= status < MULTIPLE_CHOICES:
            raise WebhookFailed(f"alarms.webhook at {self._parts.hostname} answered {status}; 2xx is expected")

    def _open(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, self._parts.port, timeout=self._limit_s)
        return http.client.HTTPSConnection(host, self._parts.port, timeout=self._limit_s, context=self._tls)

    def _login(self) -> Mapping[str, str]:
        """Return what shows who we are, where user and password stand in the URL (RFC 7617)."""
        if self._parts.username is None:
            return {}
        pair = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode('ascii')}"}


def _cut(connection: http.client.HTTPConnection) -> None:
    # Whoever waits for it hears of it; to close it would not wake him.
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _say(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
