"""The web process from the node's side: its port, which stays open when it dies, and its life."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from node.children import Child
from node.errors import Misconfigured
from node.networks import is_loopback, open_listener
from node.settings import Settings, WebSettings
from node.tls import TlsIdentity, prove_identity
from node.web.link import heed, open_pair

logger = logging.getLogger(__name__)

VERB = "web"
BACKLOG = 128
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 they are what is looked for
DRAIN_S = 10.0
# It ends by itself before; then it is ended by force.
STOP_S = DRAIN_S + 8.0

# Starts the web process with the socket that listens and its end of the link.
Spawn = Callable[[socket.socket, socket.socket], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Where the web listens.

    Attributes
    ----------
    tls
        Who we are to browsers; None: no TLS.
    behind_proxy
        Whether a proxy speaks TLS to browsers, and nobody but it comes in.
    insecure
        Whether others than this machine may come although passwords cross the network for everybody to read.
    """

    bind: str
    port: int
    tls: TlsIdentity | None = None
    behind_proxy: bool = False
    insecure: bool = False

    def require_privacy(self) -> None:
        """Return if nobody on the network can read what is typed here.

        Raises
        ------
        Misconfigured
            If somebody could.
        SettingsInvalid
            If the certificate cannot be used, or has expired.
        """
        if self.tls is not None:
            prove_identity(self.tls)
        elif not (self.behind_proxy or self.insecure or is_loopback(self.bind)):
            raise Misconfigured(
                f"web.bind {self.bind} would let passwords cross the network in clear; set web.tls.certificate and "
                "web.tls.key, or web.behind_proxy, or bind 127.0.0.1; --insecure is for a network of your own"
            )


class WebHost:
    """Opens the port, and keeps a web process running behind it.

    Parameters
    ----------
    committed
        Called when the web process has recorded something; must not block.
    are_receivers_ready
        Returns whether DICOM can be received, too.
    """

    def __init__(
        self,
        exposure: Exposure,
        spawn: Spawn,
        *,
        committed: Callable[[], None],
        are_receivers_ready: Callable[[], bool],
    ) -> None:
        self._exposure = exposure
        self._spawn_process = spawn
        self._committed = committed
        self._are_receivers_ready = are_receivers_ready
        self._listening: socket.socket | None = None
        self._ours: socket.socket | None = None
        # Held while a process is born or told to end, so that none is born unheard.
        self._birth = Lock()
        self._is_ending = False
        self._child = Child("web", self._spawn, stop_timeout_s=STOP_S)

    def open(self) -> tuple[str, int]:
        """Return address and port; who connects waits until the process runs.

        Raises
        ------
        PortInUse
            If another process listens there.
        Misconfigured
            If anybody on the network could read passwords, or the address is none of this machine.
        """
        where = self._exposure
        where.require_privacy()
        self._listening = open_listener(where.bind, where.port, section="web", backlog=BACKLOG)
        host, port = self._listening.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Start the process; returns before it is ready."""
        self._child.start()

    def stop(self) -> None:
        """Return when the process has ended, its requests first."""
        self._child.expect_end()
        with self._birth:
            self._is_ending = True
            if self._ours is not None:
                self._tell_end(self._ours)
        self._child.stop()
        if self._listening is not None:
            self._listening.close()

    def _tell_end(self, ours: socket.socket) -> None:
        try:
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            # It is gone already.
            logger.debug("web process gone")

    def _spawn(self) -> "subprocess.Popen[bytes]":
        if self._listening is None:
            raise Misconfigured("the web has no port; open it before it starts")
        ours, theirs = open_pair()
        with theirs:
            try:
                process = self._spawn_process(self._listening, theirs)
            except BaseException:
                ours.close()
                raise
        with self._birth:
            self._ours = ours
            if self._is_ending:
                self._tell_end(ours)
        Thread(target=self._heed, args=(ours,), name="web-link", daemon=True).start()
        return process

    def _heed(self, ours: socket.socket) -> None:
        heed(ours, committed=self._committed, are_receivers_ready=self._are_receivers_ready)


def exposure_of(web: WebSettings, *, insecure: bool) -> Exposure:
    """Return where settings let the web listen."""
    return Exposure(
        bind=web.bind, port=web.port, tls=identity_of(web), behind_proxy=web.behind_proxy, insecure=insecure
    )


def identity_of(web: WebSettings) -> TlsIdentity | None:
    """Return who we are to browsers, None without TLS."""
    tls = web.tls
    if not tls.certificate:
        return None
    return TlsIdentity(certificate=Path(tls.certificate), key=Path(tls.key), where="web.tls")


def url_of(web: WebSettings) -> str:
    """Return where a person finds the web, as far as settings tell."""
    is_wildcard = web.bind in WILDCARDS
    name = web.hosts[0] if web.hosts else "127.0.0.1" if is_wildcard else web.bind
    scheme = "https" if web.tls.certificate or web.behind_proxy else "http"
    if web.behind_proxy:
        return f"{scheme}://{name}"
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{web.port}"


def spawn_web(
    settings: Settings, listening: socket.socket, endpoint: socket.socket, *, node: str
) -> "subprocess.Popen[bytes]":
    """Start the web process with these very settings, on `listening`, at the other end of the link."""
    descriptors = (listening.fileno(), endpoint.fileno())
    places = ("--listening", str(descriptors[0]), "--link", str(descriptors[1]))
    command = [sys.executable, "-m", "node", VERB, "--node", node, *places]
    environment = {**os.environ, **settings.as_environment()}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors, env=environment)
