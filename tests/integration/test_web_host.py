"""The web's port from the node's side: who may open it, and to whom."""

import socket
import subprocess

import pytest

from node.errors import Misconfigured, PortInUse
from node.web.host import Exposure, WebHost


def host_at(bind: str, port: int, *, insecure: bool = False) -> WebHost:
    def spawn(_listening: socket.socket, _endpoint: socket.socket) -> "subprocess.Popen[bytes]":
        raise AssertionError("nothing is started here")

    exposure = Exposure(bind=bind, port=port, insecure=insecure)
    return WebHost(exposure, spawn, committed=lambda: None, are_receivers_ready=lambda: True)


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} .*web\.port"):
            host_at("127.0.0.1", port).open()


def test_the_network_is_not_let_in_while_nobody_has_to_log_in() -> None:
    with pytest.raises(Misconfigured, match="--insecure"):
        host_at("0.0.0.0", 0).open()
    opened = host_at("0.0.0.0", 0, insecure=True)
    assert opened.open()[1] > 0
    opened.stop()


def test_an_address_of_another_machine_is_told_from_a_port_that_is_taken() -> None:
    with pytest.raises(Misconfigured, match=r"web\.bind"):
        host_at("192.0.2.1", 0, insecure=True).open()
