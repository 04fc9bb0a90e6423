"""TLS identities and trust: what cannot work is refused in words before anybody calls."""

import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.errors import SettingsInvalid
from node.tls import TlsIdentity, TlsTrust, client_context, explain, prove_identity, server_context
from tests.certificates import Authority, Signed
from tests.peers import require_program

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Signed:
    return authority.sign("node")


def identity(signed: Signed, *, key: Path | None = None, ca: Path | None = None) -> TlsIdentity:
    return TlsIdentity(certificate=signed.certificate, key=key or signed.key, ca=ca)


def test_only_bcp_195_is_spoken(good: Signed) -> None:
    for context in (server_context(identity(good)), client_context(TlsTrust(ca=good.certificate))):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        names = [cipher["name"] for cipher in context.get_ciphers()]
        assert names
        assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)
        assert all("GCM" in name or "CHACHA20" in name for name in names)


def test_peers_need_a_certificate_only_where_an_authority_is_named(good: Signed, authority: Authority) -> None:
    assert server_context(identity(good)).verify_mode is ssl.CERT_NONE
    assert server_context(identity(good, ca=authority.certificate)).verify_mode is ssl.CERT_REQUIRED


def test_a_good_identity_tells_until_when(good: Signed) -> None:
    until = prove_identity(identity(good))
    assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)


def encrypted(signed: Signed) -> Path:
    path = signed.key.with_suffix(".secret")
    openssl = require_program("openssl")
    command = [openssl, "rsa", "-aes256", "-passout", "pass:secret", "-in", str(signed.key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, g: identity(a.sign("old", days=-1)), "certificate has expired; renew it"),
        (lambda a, g: identity(a.sign("user", usage="clientAuth")), "unsuitable certificate purpose"),
        (lambda a, g: identity(g, key=a.sign("other").key), "key values mismatch"),
        (lambda a, g: identity(g, key=g.certificate), "one of the two is no PEM"),
        (lambda a, g: identity(g, key=Path("gone.key")), "security.tls.key gone.key cannot be read: No such file"),
        (lambda a, g: replace(identity(g), certificate=Path()), "security.tls.certificate . cannot be read"),
        (lambda a, g: identity(g, key=encrypted(g)), "is encrypted"),
        (lambda a, g: identity(g, ca=g.key), "holds no certificate in PEM"),
    ],
    ids=["expired", "for clients", "another key", "no key", "absent", "a folder", "encrypted", "no authority"],
)
def test_an_identity_that_would_fail_is_refused(
    authority: Authority, good: Signed, change: Callable[[Authority, Signed], TlsIdentity], words: str
) -> None:
    with pytest.raises(SettingsInvalid, match=r"security\.tls") as caught:
        prove_identity(change(authority, good))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        (TlsTrust(check_host=False), "any server could pass for the peer"),
        (TlsTrust(certificate=Path("a.pem")), "belong together"),
        (TlsTrust(ca=Path("gone.pem")), "destinations.ca gone.pem cannot be read"),
    ],
)
def test_trust_that_proves_nothing_is_refused(trust: TlsTrust, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        client_context(trust)
    assert words in str(caught.value)


def test_a_peer_is_verified_by_host_unless_its_certificate_is_pinned(good: Signed) -> None:
    assert client_context(TlsTrust()).check_hostname
    pinned = client_context(TlsTrust(ca=good.certificate, check_host=False))
    assert (pinned.check_hostname, pinned.verify_mode) == (False, ssl.CERT_REQUIRED)


def test_reasons_are_words() -> None:
    assert explain(TimeoutError()) == "not complete in time"
    assert explain(ConnectionResetError(104, "Connection reset by peer")) == "the peer closed the connection"
    assert explain(OSError(9, "Bad file descriptor")) == "Bad file descriptor"
