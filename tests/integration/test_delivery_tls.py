"""Objects leave by TLS: dcmtk takes them, and a peer that cannot prove who it is gets none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from node.delivery.transport import open_transport
from node.errors import DestinationDown, Misconfigured, SettingsInvalid
from node.peers.association import echo
from node.peers.parcel import Fate, Outcome, Parcel
from node.peers.peer import DestinationSpec, peer_of
from node.tls import TlsIdentity, TlsTrust, server_context
from tests.certificates import Authority, Signed
from tests.objects import data_set_bytes, parcel_of, write_object
from tests.peers import Storescp

pytestmark = pytest.mark.needs("openssl", "storescp")

TWENTY_MB = 20_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pacs(authority: Authority) -> Signed:
    return authority.sign("pacs")


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Signed:
    return authority.sign("node")


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    return parcel_of(write_object(tmp_path / "out", "seg"))


def trust(authority: Authority, ours: Signed | None = None, **changes: Any) -> TlsTrust:
    found = TlsTrust(ca=authority.certificate, where="destinations.pacs.tls", **changes)
    return found if ours is None else replace(found, certificate=ours.certificate, key=ours.key)


@contextmanager
def listening(folder: Path, shown: Signed, *options: str) -> Iterator[Storescp]:
    with Storescp(folder, "+tls", str(shown.key), str(shown.certificate), *options) as scp:
        yield scp


def spec(scp: Storescp, tls: TlsTrust | None) -> DestinationSpec:
    return DestinationSpec(
        name="pacs", transport="cstore", aet=scp.aet, host="127.0.0.1", port=scp.port, timeout_s=10.0, tls=tls
    )


def send(destination: DestinationSpec, *parcels: Parcel) -> list[Outcome]:
    outcomes: list[Outcome] = []
    open_transport(destination).send(parcels, lambda _, outcome: outcomes.append(outcome))
    return outcomes


def test_twenty_megabytes_arrive_bit_by_bit_where_both_show_certificates(
    tmp_path: Path, authority: Authority, pacs: Signed, ours: Signed
) -> None:
    parcel = parcel_of(write_object(tmp_path / "out", "large", pixel_bytes=TWENTY_MB))
    with listening(tmp_path, pacs, "+cf", str(authority.certificate)) as scp:
        echo(peer_of(spec(scp, trust(authority, ours))))
        assert send(spec(scp, trust(authority, ours)), parcel) == [Outcome.sent()]
        (received,) = scp.files()
        assert data_set_bytes(received) == data_set_bytes(parcel.path)


def test_the_certificate_of_the_peer_itself_may_be_the_one_that_is_trusted(
    tmp_path: Path, authority: Authority, pacs: Signed, parcel: Parcel
) -> None:
    with listening(tmp_path, pacs, "-ic") as scp:
        assert send(spec(scp, replace(trust(authority), ca=pacs.certificate)), parcel) == [Outcome.sent()]


@pytest.mark.parametrize(
    ("alternatives", "days", "words"),
    [("IP:127.0.0.1", -1, "certificate has expired"), ("DNS:pacs.example", 30, "IP address mismatch")],
)
def test_a_certificate_that_does_not_prove_the_host_gets_nothing(
    tmp_path: Path, authority: Authority, parcel: Parcel, alternatives: str, days: int, words: str
) -> None:
    shown = authority.sign("doubtful", alternatives=alternatives, days=days)
    with listening(tmp_path, shown, "-ic") as scp:
        with pytest.raises(Misconfigured, match=words) as caught:
            send(spec(scp, trust(authority)), parcel)
        assert "destinations.pacs.tls" in str(caught.value)
        assert not scp.files()


def test_the_host_may_go_unchecked_where_an_authority_is_named(
    tmp_path: Path, authority: Authority, parcel: Parcel
) -> None:
    shown = authority.sign("elsewhere", alternatives="DNS:pacs.example")
    with listening(tmp_path, shown, "-ic") as scp:
        assert send(spec(scp, trust(authority, check_host=False)), parcel) == [Outcome.sent()]


def test_a_peer_of_another_authority_gets_nothing(tmp_path: Path, authority: Authority, parcel: Parcel) -> None:
    shown = Authority(tmp_path / "other", "other").sign("pacs")
    with listening(tmp_path, shown, "-ic") as scp:
        for tls in (trust(authority), TlsTrust(where="destinations.pacs.tls")):
            with pytest.raises(Misconfigured, match="unable to get local issuer certificate"):
                send(spec(scp, tls), parcel)
        assert not scp.files()


def test_a_peer_that_wants_our_certificate_needs_a_person(
    tmp_path: Path, authority: Authority, pacs: Signed, parcel: Parcel
) -> None:
    stranger = Authority(tmp_path / "other", "other").sign("node")
    with listening(tmp_path, pacs, "+cf", str(authority.certificate)) as scp:
        for tls in (trust(authority), trust(authority, stranger)):
            with pytest.raises(Misconfigured, match=r"TLS failed: .*alert"):
                send(spec(scp, tls), parcel)
        assert not scp.files()


def test_a_port_without_tls_says_so(tmp_path: Path, authority: Authority, parcel: Parcel) -> None:
    with Storescp(tmp_path) as scp, pytest.raises((Misconfigured, DestinationDown), match="TLS failed"):
        send(spec(scp, trust(authority)), parcel)


def test_a_tls_port_called_without_tls_is_down(tmp_path: Path, pacs: Signed, parcel: Parcel) -> None:
    with listening(tmp_path, pacs, "-ic") as scp, pytest.raises(DestinationDown, match="is this a DICOM port"):
        send(spec(scp, None), parcel)


class Archive(BaseHTTPRequestHandler):
    """Takes whatever is stored."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Answer that all was stored."""
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class QuietServer(ThreadingHTTPServer):
    """Does not print that a client hung up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


@contextmanager
def archive(identity: TlsIdentity) -> Iterator[str]:
    server = QuietServer(("127.0.0.1", 0), Archive)
    server.socket = server_context(identity).wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stow(url: str, tls: TlsTrust | None) -> DestinationSpec:
    return DestinationSpec(name="pacs", transport="stow", url=url, timeout_s=10.0, tls=tls)


def test_stow_speaks_tls_as_its_table_says(tmp_path: Path, authority: Authority, ours: Signed, parcel: Parcel) -> None:
    shown = authority.sign("web", alternatives="DNS:pacs.example")
    identity = TlsIdentity(certificate=shown.certificate, key=shown.key, ca=authority.certificate)
    with archive(identity) as url:
        (outcome,) = send(stow(url, trust(authority, ours, check_host=False)), parcel)
        assert outcome.fate is Fate.SENT
        assert parcel.path.read_bytes() in Archive.bodies[-1]
        for tls in (None, trust(authority, ours), replace(trust(authority, ours), ca=None)):
            with pytest.raises(Misconfigured, match="TLS failed"):
                send(stow(url, tls), parcel)


def test_tls_of_a_destination_is_tried_at_the_start(authority: Authority) -> None:
    with pytest.raises(SettingsInvalid, match="no https URL"):
        open_transport(stow("http://127.0.0.1:1/dicom-web", trust(authority)))
    with pytest.raises(SettingsInvalid, match=r"destinations\.pacs\.tls\.ca gone cannot be read"):
        open_transport(stow("https://127.0.0.1:1/dicom-web", replace(trust(authority), ca=Path("gone"))))
