"""Instances come by TLS: dcmtk sends them, and whoever does not keep to TLS stops nobody and leaves one line."""

import logging
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import enumerate as all_threads
from time import monotonic
from typing import Any

import psutil
import pytest

from node.dimse.scp import ASSOCIATE_TIMEOUT_S
from node.tls import TlsIdentity, TlsTrust, client_context
from tests.certificates import Authority, Signed
from tests.instances import INSTANCE, ct_slice, encode
from tests.integration.test_dimse import Peer, data_set_bytes
from tests.objects import write_object
from tests.pdus import (
    ECHO_RSP,
    STORAGE_ID,
    STORE_RSP,
    Closed,
    Response,
    Wire,
    associate_rq,
    echo,
    message,
    store_rq,
)
from tests.peers import require_program, wait_until

pytestmark = pytest.mark.needs("openssl", "storescu", "echoscu")

TWENTY_MB = 20_000_000
TIMEOUT_S = 1.5
# What a deadline of `TIMEOUT_S` may take on a busy machine; far less than two of them.
SOON_S = 10.0
WHOLE = encode(ct_slice())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def node(authority: Authority) -> Signed:
    return authority.sign("node")


@pytest.fixture(scope="module")
def modality(authority: Authority) -> Signed:
    return authority.sign("modality")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return Authority(tmp_path_factory.mktemp("other"), "other").sign("modality")


@contextmanager
def listening(root: Path, shown: Signed, ca: Path | None = None, **settings: Any) -> Iterator[Peer]:
    identity = TlsIdentity(certificate=shown.certificate, key=shown.key, ca=ca)
    peer = Peer(root / "store", tls=identity, **settings)
    try:
        yield peer
    finally:
        peer.listener.stop(1.0)


@contextmanager
def wire_by_tls(peer: Peer, context: ssl.SSLContext) -> Iterator[Wire]:
    with (
        socket.create_connection((peer.host, peer.port), timeout=20.0) as plain,
        context.wrap_socket(plain, server_hostname=peer.host) as connection,
    ):
        yield Wire(connection)


def assert_serves(peer: Peer, context: ssl.SSLContext) -> None:
    with wire_by_tls(peer, context) as wire:
        wire.associate()
        wire.send(echo(3))
        assert wire.answer() == Response(ECHO_RSP, 3, 0x0000)
        wire.release()


def assert_one_line(peer: Peer, caplog: pytest.LogCaptureFixture, words: str) -> None:
    """One line in the log and one event, with the same reason."""
    wait_until(lambda: peer.ledger.events, what="an event")
    ((kind, text),) = peer.ledger.events
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert (kind, record.message) == ("association-refused", "tls handshake failed")
    assert words in text
    assert words in vars(record)["outcome"]
    assert vars(record)["peer"] == "127.0.0.1"


def test_dcmtk_stores_twenty_megabytes_where_both_show_certificates(
    tmp_path: Path, authority: Authority, node: Signed, modality: Signed
) -> None:
    path = write_object(tmp_path, "large", pixel_bytes=TWENTY_MB)
    shown = ["+tls", str(modality.key), str(modality.certificate), "+cf", str(authority.certificate)]
    with listening(tmp_path, node, authority.certificate) as peer:
        peer.dcmtk("echoscu", *shown)
        peer.dcmtk("storescu", *shown, files=[path])
        (facts,) = peer.ledger.instances.values()
        assert data_set_bytes(peer.store.path(facts.path)) == data_set_bytes(path)
        assert not peer.ledger.events


def test_dcmtk_needs_no_certificate_where_none_is_asked_for(tmp_path: Path, authority: Authority, node: Signed) -> None:
    with listening(tmp_path, node) as peer:
        peer.dcmtk("echoscu", "+tla", "+cf", str(authority.certificate))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_serve_and_many_messages_fit_one_record(
    tmp_path: Path, authority: Authority, node: Signed, version: ssl.TLSVersion
) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    context.minimum_version = context.maximum_version = version
    with listening(tmp_path, node) as peer, wire_by_tls(peer, context) as wire:
        wire.associate()
        # Decrypted together, so that nothing is left on the wire for what comes second.
        wire.send(b"".join(message(STORAGE_ID, store_rq(number), WHOLE) for number in range(1, 6)))
        for number in range(1, 6):
            assert wire.answer() == Response(STORE_RSP, number, 0x0000)
        wire.send(*(bytes((byte,)) for byte in echo(6)))
        assert wire.answer() == Response(ECHO_RSP, 6, 0x0000)
        wire.release()


def test_request_and_first_message_in_one_record(tmp_path: Path, authority: Authority, node: Signed) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    with listening(tmp_path, node) as peer, wire_by_tls(peer, context) as wire:
        wire.associate(associate_rq() + message(STORAGE_ID, store_rq(1), WHOLE))
        assert wire.answer() == Response(STORE_RSP, 1, 0x0000)
        wire.release()


def without_certificate(context: ssl.SSLContext, stranger: Signed, expired: Signed) -> None:
    """Show nothing."""


def of_another_authority(context: ssl.SSLContext, stranger: Signed, expired: Signed) -> None:
    context.load_cert_chain(stranger.certificate, stranger.key)


def that_has_expired(context: ssl.SSLContext, stranger: Signed, expired: Signed) -> None:
    context.load_cert_chain(expired.certificate, expired.key)


@pytest.mark.parametrize(
    ("show", "words"),
    [
        (without_certificate, "peer did not return a certificate"),
        (of_another_authority, "unable to get local issuer certificate"),
        (that_has_expired, "certificate has expired"),
    ],
)
def test_a_modality_that_does_not_prove_who_it_is_is_refused(
    tmp_path: Path,
    authority: Authority,
    node: Signed,
    modality: Signed,
    stranger: Signed,
    show: Callable[[ssl.SSLContext, Signed, Signed], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expired = authority.sign("old", days=-1)
    context = client_context(TlsTrust(ca=authority.certificate))
    show(context, stranger, expired)
    with listening(tmp_path, node, authority.certificate) as peer:
        with suppress(ssl.SSLError, ConnectionError), wire_by_tls(peer, context) as wire:
            wire.send(associate_rq())
            assert wire.answer() == Closed()
        assert_one_line(peer, caplog, words)
        proper = TlsTrust(ca=authority.certificate, certificate=modality.certificate, key=modality.key)
        assert_serves(peer, client_context(proper))


def test_a_modality_that_does_not_trust_us_leaves_a_line(
    tmp_path: Path, node: Signed, stranger: Signed, caplog: pytest.LogCaptureFixture
) -> None:
    context = client_context(TlsTrust(ca=stranger.certificate))
    with listening(tmp_path, node) as peer:
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(socket.create_connection((peer.host, peer.port)), server_hostname=peer.host)
        assert_one_line(peer, caplog, "alert unknown ca")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-tls1"], "unsupported protocol"),
        (["-tls1_1"], "unsupported protocol"),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "no shared cipher"),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"], "no shared cipher"),
    ],
    ids=["TLS 1.0", "TLS 1.1", "no forward secrecy", "no AEAD"],
)
def test_what_bcp_195_forbids_is_refused(
    tmp_path: Path, node: Signed, options: list[str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path, node) as peer:
        weak = [] if "-cipher" in options else ["-cipher", "ALL:@SECLEVEL=0"]
        command = [require_program("openssl"), "s_client", "-connect", f"{peer.host}:{peer.port}", *options, *weak]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode != 0
        assert_one_line(peer, caplog, words)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (associate_rq(), "wrong version number"),
        (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", "http request"),
        (b"\x16\x03\x01\x00\xff" + b"\xff" * 300, "unexpected message"),
    ],
    ids=["DICOM", "HTTP", "garbage"],
)
def test_what_is_no_tls_is_closed_with_a_line(
    tmp_path: Path, node: Signed, said: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path, node) as peer:
        with socket.create_connection((peer.host, peer.port), timeout=20.0) as connection:
            connection.sendall(said)
            with suppress(ConnectionError):
                while connection.recv(4096):
                    pass
        assert_one_line(peer, caplog, words)


def test_twenty_silent_and_half_said_handshakes_stop_nobody_and_end_in_time(
    tmp_path: Path, authority: Authority, node: Signed
) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    hello = client_hello(context)
    before, descriptors = set(all_threads()), psutil.Process().num_fds()
    with listening(tmp_path, node, dimse_timeout_s=TIMEOUT_S) as peer:
        threads, open_now = set(all_threads()), psutil.Process().num_fds()
        held = [socket.create_connection((peer.host, peer.port), timeout=20.0) for _ in range(20)]
        try:
            for connection in held[::2]:
                connection.sendall(hello[: len(hello) // 2])
            began = monotonic()
            assert_serves(peer, context)
            for connection in held:
                with suppress(ConnectionError):
                    while connection.recv(4096):
                        pass
            assert monotonic() - began < SOON_S
        finally:
            for connection in held:
                connection.close()
        wait_until(lambda: set(all_threads()) <= threads, what="every thread is gone")
        wait_until(lambda: psutil.Process().num_fds() <= open_now, what="every descriptor is closed")
        assert [text.rpartition(": ")[2] for _, text in peer.ledger.events] == ["not complete in time"] * 10
    wait_until(lambda: set(all_threads()) <= before, what="the listener is gone")
    assert psutil.Process().num_fds() <= descriptors


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return the first flight of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


def test_time_to_ask_counts_from_the_connection_and_not_from_the_handshake(
    tmp_path: Path, authority: Authority, node: Signed
) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    with listening(tmp_path, node, dimse_timeout_s=TIMEOUT_S) as peer:
        with wire_by_tls(peer, context) as wire:
            assert wire.answer(SOON_S) == Closed()
        with wire_by_tls(peer, context) as wire:
            began = monotonic()
            for byte in associate_rq():
                wire.send(bytes((byte,)))
                wire.connection.settimeout(0.05)
                with suppress(TimeoutError, OSError):
                    if wire.connection.recv(1) == b"":
                        break
            # The whole request would take 15 s.
            assert monotonic() - began < SOON_S
        assert_serves(peer, context)


def test_a_handshake_that_dribbles_ends_in_time(
    tmp_path: Path, authority: Authority, node: Signed, caplog: pytest.LogCaptureFixture
) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    with listening(tmp_path, node, dimse_timeout_s=TIMEOUT_S) as peer:
        with socket.create_connection((peer.host, peer.port), timeout=20.0) as connection:
            connection.settimeout(0.05)
            began = monotonic()
            with suppress(ConnectionError):
                for byte in client_hello(context):
                    connection.sendall(bytes((byte,)))
                    with suppress(TimeoutError):
                        if connection.recv(1) == b"":
                            break
            assert monotonic() - began < SOON_S
        assert_one_line(peer, caplog, "not complete in time")


def test_who_only_looks_at_the_port_leaves_no_line(tmp_path: Path, authority: Authority, node: Signed) -> None:
    with listening(tmp_path, node) as peer:
        for _ in range(3):
            socket.create_connection((peer.host, peer.port)).close()
        assert_serves(peer, client_context(TlsTrust(ca=authority.certificate)))
        assert not peer.ledger.events


def test_connection_that_is_cut_mid_message_leaves_nothing(tmp_path: Path, authority: Authority, node: Signed) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    with listening(tmp_path, node) as peer:
        with wire_by_tls(peer, context) as wire:
            wire.associate()
            wire.send(message(STORAGE_ID, store_rq(1), WHOLE)[:-50])
            wire.reset()
        assert_serves(peer, context)
        assert not peer.ledger.instances
        with wire_by_tls(peer, context) as wire:
            wire.associate()
            wire.send(message(STORAGE_ID, store_rq(1), WHOLE))
            assert wire.answer() == Response(STORE_RSP, 1, 0x0000)
            wire.release()
        assert list(peer.ledger.instances) == [INSTANCE]


def test_stop_does_not_wait_for_handshakes(tmp_path: Path, node: Signed) -> None:
    with listening(tmp_path, node, dimse_timeout_s=60.0) as peer:
        held = [socket.create_connection((peer.host, peer.port), timeout=20.0) for _ in range(4)]
        held[0].sendall(b"\x16\x03\x01")
        began = monotonic()
    assert monotonic() - began < ASSOCIATE_TIMEOUT_S
    for connection in held:
        connection.close()


def test_refusal_reaches_a_peer_by_tls_and_the_connection_ends_with_an_alert(
    tmp_path: Path, authority: Authority, node: Signed
) -> None:
    context = client_context(TlsTrust(ca=authority.certificate))
    with (
        listening(tmp_path, node) as peer,
        socket.create_connection((peer.host, peer.port), timeout=20.0) as plain,
        context.wrap_socket(plain, server_hostname=peer.host, suppress_ragged_eofs=False) as connection,
    ):
        connection.sendall(associate_rq(called="OTHER"))
        assert connection.recv(10) == b"\x03\0\0\0\0\4\0\1\1\7"
        # Without the alert this would raise an error: somebody may have cut the connection.
        assert connection.recv(1) == b""
