"""The webhook over real sockets: who takes note, who does not, and who never comes to an end."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from node.alarms.webhook import Place, Webhook
from node.domain.alarm import Alarm, AlarmKind, News
from node.errors import WebhookFailed
from node.tls import TlsIdentity, TlsTrust, client_context, server_context
from tests.certificates import Authority
from tests.http_listener import Listener, serve
from tests.ledgers import at

ALARM = Alarm(
    alarm_id=7,
    kind=AlarmKind.DESTINATION_DOWN,
    subject="pacs",
    text="pacs is down",
    raised_at=at(0),
    seen_at=at(0),
    healed_at=at(60),
)


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    server = serve(found)
    yield found
    server.shutdown()
    server.server_close()


def webhook(url: str, *, tls: ssl.SSLContext | None = None, limit_s: float = 30.0) -> Webhook:
    return Webhook(url, node="RADNODE@host", tls=tls, limit_s=limit_s)


def test_it_is_told_what_is_wrong_since_when_and_that_it_is_well_again(listener: Listener) -> None:
    hook = webhook(f"http://ops:p%40ss@127.0.0.1:{listener.port}/alarms?room=7")
    for is_healed in (False, True):
        hook.post(News(alarm=ALARM, is_healed=is_healed))
    hook.post_test(at(90))
    (first, second, test) = listener.heard
    assert first == (
        "POST",
        "/alarms?room=7",
        {
            "node": "RADNODE@host",
            "alarm_id": 7,
            "alarm": "destination-down",
            "subject": "pacs",
            "state": "raised",
            "at": "2025-01-14T12:00:00+00:00",
            "raised_at": "2025-01-14T12:00:00+00:00",
            "text": "pacs is down",
        },
    )
    assert (second[2]["state"], second[2]["at"]) == ("healed", "2025-01-14T12:01:00+00:00")
    assert test[2]["state"] == "test"
    assert {headers["Authorization"] for headers in listener.headers} == {"Basic b3BzOnBAc3M="}
    assert {headers["Content-Type"] for headers in listener.headers} == {"application/json"}


@pytest.mark.parametrize(("written", "asked"), [("", "/"), ("?room=7", "/?room=7"), ("/a%20b#part", "/a%20b")])
def test_what_is_asked_for_begins_with_a_slash(listener: Listener, written: str, asked: str) -> None:
    webhook(f"http://127.0.0.1:{listener.port}{written}").post_test(at(0))
    assert [target for _, target, _ in listener.heard] == [asked]


def test_an_ipv6_address_without_a_port_is_asked_at_that_of_http(listener: Listener) -> None:
    places: list[Place] = []

    def find(place: Place) -> list[Place]:
        places.append(place)
        return [("127.0.0.1", listener.port)]

    Webhook("http://[::1]/", node="n", tls=None, limit_s=30.0, find=find).post_test(at(0))
    assert places == [("::1", 80)]


def test_an_address_that_does_not_answer_leaves_time_for_the_next(listener: Listener) -> None:
    """As where a name has an IPv6 address, and the network has none."""
    limit_s = 4.0
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as crowd:
        place = deaf.getsockname()
        for _ in range(3):
            # Once its queue is full the kernel answers nobody who knocks.
            one = crowd.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(place)
        addresses = [place, ("127.0.0.1", listener.port)]
        Webhook("http://ops/", node="n", tls=None, limit_s=limit_s, find=lambda _: addresses).post_test(at(0))
    assert len(listener.heard) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500, 503])
def test_any_answer_but_2xx_is_a_failure_and_no_redirect_is_followed(listener: Listener, status: int) -> None:
    listener.status = status
    with pytest.raises(WebhookFailed, match=str(status)):
        webhook(f"http://127.0.0.1:{listener.port}/").post_test(at(0))
    assert len(listener.heard) == 1


def test_nobody_there_is_a_failure_that_says_no_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WebhookFailed) as caught:
        webhook(f"http://ops:secret@127.0.0.1:{port}/token").post_test(at(0))
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("word", [b"", b"HTTP/1.1 200 OK\r\n", b"no HTTP\r\n\r\n"], ids=["silent", "drips", "other"])
def test_whoever_never_comes_to_an_end_is_left(word: bytes) -> None:
    """A header that grows by a line now and then would begin the limit of a read anew for ever."""
    ended = Event()

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(word)
            while word and not ended.wait(0.05):
                try:
                    connection.sendall(b"X-More: 1\r\n")
                except OSError:
                    return
            ended.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        with pytest.raises(WebhookFailed):
            webhook(f"http://127.0.0.1:{server.getsockname()[1]}/", limit_s=0.4).post_test(at(0))
        ended.set()
        thread.join()


@pytest.mark.needs("openssl")
def test_who_never_comes_to_an_end_of_the_handshake_is_left(tmp_path: Path) -> None:
    ended = Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            # The beginning of a record of 16 KB, and then byte by byte.
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not ended.wait(0.05):
                connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        trust = client_context(TlsTrust(ca=Authority(tmp_path).certificate))
        with pytest.raises(WebhookFailed):
            webhook(f"https://127.0.0.1:{server.getsockname()[1]}/", tls=trust, limit_s=0.4).post_test(at(0))
        ended.set()
        thread.join()


@pytest.mark.needs("openssl")
def test_by_tls_the_other_side_must_be_who_it_says(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    shown = authority.sign("ops")
    listener = Listener()
    server = serve(listener, server_context(TlsIdentity(certificate=shown.certificate, key=shown.key)))
    url = f"https://127.0.0.1:{listener.port}/"
    webhook(url, tls=client_context(TlsTrust(ca=authority.certificate))).post_test(at(0))
    with pytest.raises(WebhookFailed, match="SSLCertVerificationError"):
        webhook(url, tls=client_context(TlsTrust(ca=stranger.certificate))).post_test(at(0))
    assert len(listener.heard) == 1
    server.shutdown()
    server.server_close()
