"""TLS as BCP 195 wants it, for whoever accepts or opens connections: 1.3, and 1.2 with forward secrecy and AEAD only.

References: DICOM PS3.15 B.12; RFC 9325, RFC 8996.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from node.errors import DestinationDown, Misconfigured, SettingsInvalid

# The suites of TLS 1.2 in OpenSSL's words; those of TLS 1.3 are all right.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Flights of a handshake, in both directions, with room to spare.
MAX_FLIGHTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """Who we are when we accept connections by TLS.

    Attributes
    ----------
    certificate
        PEM file: our certificate, then those between it and the root.
    key
        PEM file: the private key, not encrypted.
    ca
        PEM file: authorities whose certificates peers have to show, or the certificates of the peers themselves; None:
        peers need none.
    where
        Table of the settings, for the text of an error.
    """

    certificate: Path
    key: Path
    ca: Path | None = None
    where: str = "security.tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTrust:
    """Whom we trust when we open a connection by TLS, and how we show who we are.

    Attributes
    ----------
    ca
        PEM file: the authority of the peer's certificate, or that certificate itself; None: those of the system.
    certificate, key
        PEM files of our own, for peers that ask for them; both or none.
    check_host
        Whether the certificate has to name the host that was called.
    where
        Table of the settings, for the text of an error.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    check_host: bool = True
    where: str = "destinations"


def server_context(identity: TlsIdentity) -> ssl.SSLContext:
    """Return what accepts connections as `identity`.

    Raises
    ------
    SettingsInvalid
        If a file cannot be read or used, or the key does not fit the certificate; the message names the setting.
    """
    context = _strict(ssl.PROTOCOL_TLS_SERVER)
    # Nobody resumes sessions, and a ticket that a peer never reads turns its close into a reset.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    _show(context, identity.certificate, identity.key, identity.where)
    if identity.ca is not None:
        _trust(context, identity.ca, identity.where)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(trust: TlsTrust) -> ssl.SSLContext:
    """Return what opens connections; the certificate of the peer is verified always.

    Raises
    ------
    SettingsInvalid
        If a file cannot be read or used, the key does not fit the certificate, or nothing would tell the peer from
        anybody else.
    """
    context = _strict(ssl.PROTOCOL_TLS_CLIENT)
    if trust.ca is not None:
        _trust(context, trust.ca, trust.where)
    elif trust.check_host:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        raise SettingsInvalid(
            f"{trust.where}.check_host is false and {trust.where}.ca is empty, so any server could pass for the peer; "
            f"give its certificate, or that of its authority, as {trust.where}.ca"
        )
    context.check_hostname = trust.check_host
    if trust.certificate is not None and trust.key is not None:
        _show(context, trust.certificate, trust.key, trust.where)
    elif trust.certificate is not None or trust.key is not None:
        raise SettingsInvalid(f"{trust.where}.certificate and {trust.where}.key belong together; give both, or none")
    return context


def secure(connection: socket.socket, trust: TlsTrust, *, host: str, called: str) -> ssl.SSLSocket:
    """Return the connection after a TLS handshake with `host`; it is closed when that fails.

    Parameters
    ----------
    called
        Who is called, for the text of an error.

    Raises
    ------
    DestinationDown
        If the peer closes the connection, or does not answer in time.
    Misconfigured
        If one of both does not trust the other, or `client_context` refuses.
    """
    try:
        return client_context(trust).wrap_socket(connection, server_hostname=host)
    except (ssl.SSLEOFError, TimeoutError, ConnectionError) as exc:
        connection.close()
        raise DestinationDown(f"{called}: TLS failed: {explain(exc)}; is this a TLS port?") from exc
    except ssl.SSLError as exc:
        connection.close()
        raise Misconfigured(f"{called}: TLS failed: {explain(exc)}; check {trust.where} and the peer's own") from exc
    except SettingsInvalid:
        connection.close()
        raise


def prove_identity(identity: TlsIdentity) -> datetime:
    """Return until when the certificate is valid, in UTC, after a handshake in memory with a peer that trusts it.

    Raises
    ------
    SettingsInvalid
        If `server_context` refuses, or the handshake fails: the certificate has expired, begins later, or is not one
        for servers.
    """
    server = server_context(identity)
    # The peer in memory has no certificate.
    server.verify_mode = ssl.CERT_NONE
    client = _strict(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    _trust(client, identity.certificate, identity.where)
    try:
        shown = _shake_hands(server, client)
    except ssl.SSLError as exc:
        raise SettingsInvalid(
            f"{identity.where}.certificate {identity.certificate} would be refused: {explain(exc)}; renew it"
        ) from exc
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)


def explain(error: OSError) -> str:
    """Return why a handshake failed, in a few words; nothing in them is a peer's own text."""
    match error:
        case ssl.SSLCertVerificationError():
            return str(error.verify_message)
        case TimeoutError():
            return "not complete in time"
        case ssl.SSLEOFError() | ConnectionError():
            return "the peer closed the connection"
        case ssl.SSLError() if error.reason:
            return str(error.reason).lower().replace("_", " ")
        case _:
            return error.strerror or type(error).__name__


def _strict(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path, where: str) -> None:
    _require_readable(certificate, f"{where}.certificate")
    _require_readable(key, f"{where}.key")
    try:
        # Without a password, OpenSSL would ask the terminal for one.
        context.load_cert_chain(certificate, key, password=partial(_refuse_password, f"{where}.key {key}"))
    except ssl.SSLError as exc:
        why = explain(exc) if exc.reason else "one of the two is no PEM"
        raise SettingsInvalid(f"{where}: {certificate} with {key} cannot be used: {why}") from exc


def _trust(context: ssl.SSLContext, ca: Path, where: str) -> None:
    _require_readable(ca, f"{where}.ca")
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as exc:
        raise SettingsInvalid(f"{where}.ca {ca} holds no certificate in PEM") from exc
    # A certificate that is named itself is trusted, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _require_readable(path: Path, setting: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as exc:
        raise SettingsInvalid(f"{setting} {path} cannot be read: {exc.strerror}") from exc


def _refuse_password(what: str) -> str:
    raise SettingsInvalid(f"{what} is encrypted; nobody is there to type the password: remove it, and guard the file")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return what the certificate of `server` says, as `client` has verified it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    steps: tuple[Callable[[], None], ...] = (near.do_handshake, far.do_handshake)
    for step in steps * MAX_FLIGHTS:
        with suppress(ssl.SSLWantReadError):
            step()
    return near.getpeercert() or {}
