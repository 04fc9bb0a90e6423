"""The web's port from the node's side: who may open it, and to whom."""

import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from node.errors import Misconfigured, PortInUse, SettingsInvalid
from node.settings.loading import load_settings
from node.tls import TlsIdentity
from node.web.host import Exposure, Post, WebHost, url_of


def never(_post: Post) -> "subprocess.Popen[bytes]":
    raise AssertionError("nothing is started here")


def host_at(bind: str, port: int, *, insecure: bool = False) -> WebHost:
    exposure = Exposure(bind=bind, port=port, insecure=insecure)
    return WebHost(exposure, never, committed=lambda: None, are_receivers_ready=lambda: True)


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} .*web\.port"):
            host_at("127.0.0.1", port).open()


def test_no_password_crosses_the_network_in_clear() -> None:
    with pytest.raises(Misconfigured, match="--insecure"):
        host_at("0.0.0.0", 0).open()
    opened = host_at("0.0.0.0", 0, insecure=True)
    assert opened.open()[1] > 0
    opened.stop()
    behind = WebHost(
        Exposure(bind="0.0.0.0", port=0, behind_proxy=True), never, committed=lambda: None, are_receivers_ready=bool
    )
    assert behind.open()[1] > 0
    behind.stop()


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    tls = TlsIdentity(certificate=tmp_path / "gone.pem", key=tmp_path / "gone.key", where="web.tls")
    host = WebHost(Exposure(bind="0.0.0.0", port=0, tls=tls), never, committed=lambda: None, are_receivers_ready=bool)
    with pytest.raises(SettingsInvalid, match=r"web\.tls\.certificate .*gone\.pem"):
        host.open()


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"WEB__BIND": "::1"}, "http://[::1]:8080"),
        ({"WEB__BIND": "0.0.0.0", "WEB__HOSTS": '["ai.example.org"]'}, "http://ai.example.org:8080"),
        ({"WEB__TLS__CERTIFICATE": "a.pem", "WEB__TLS__KEY": "a.key"}, "https://127.0.0.1:8080"),
        ({"WEB__BEHIND_PROXY": "true", "WEB__HOSTS": '["ai.example.org"]'}, "https://ai.example.org"),
    ],
)
def test_a_person_is_told_where_the_console_is(changes: Mapping[str, str], url: str) -> None:
    settings = load_settings(None, {f"RADNODE__{name}": value for name, value in changes.items()})
    assert url_of(settings.web) == url


def test_an_address_of_another_machine_is_told_from_a_port_that_is_taken() -> None:
    with pytest.raises(Misconfigured, match=r"web\.bind"):
        host_at("192.0.2.1", 0, insecure=True).open()
