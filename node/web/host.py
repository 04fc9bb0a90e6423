"""The web processes from the node's side: their port, which stays open when they die, and their lives."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from node.children import Child, Process
from node.errors import Misconfigured
from node.networks import is_loopback, open_listener
from node.nurse import Order
from node.nursery import Nursery
from node.settings.web import WebSettings
from node.settings.whole import Settings
from node.tls import TlsIdentity, prove_identity
from node.web.lane import open_lane
from node.web.link import heed, open_pair

logger = logging.getLogger(__name__)

VERB = "web"
BACKLOG = 128
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 they are what is looked for
DRAIN_S = 10.0
# It ends by itself before; then it is ended by force.
STOP_S = DRAIN_S + 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What one of the web processes is handed.

    Attributes
    ----------
    number
        0 is the one that listens.
    listening
        None for the others.
    link
        Its end of the link to the node.
    lanes
        Of the one that listens, its ends of the lanes to all others; of another one, the end of its own.
    """

    number: int
    listening: socket.socket | None
    link: socket.socket
    lanes: tuple[socket.socket, ...] = ()


# Starts a web process.
Spawn = Callable[[Post], Process]


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
    """Opens the port, and keeps web processes running behind it.

    Parameters
    ----------
    committed
        Called when a web process has recorded something; must not block.
    are_receivers_ready
        Returns whether DICOM can be received, too.
    processes
        One listens and serves everything; the others take their share of the connections that store.
    """

    def __init__(
        self,
        exposure: Exposure,
        spawn: Spawn,
        *,
        committed: Callable[[], None],
        are_receivers_ready: Callable[[], bool],
        processes: int = 1,
    ) -> None:
        self._exposure = exposure
        self._spawn_process = spawn
        self._committed = committed
        self._are_receivers_ready = are_receivers_ready
        self._listening: socket.socket | None = None
        # Both ends stay open here: what was passed on waits for whoever comes after a process that died.
        self._lanes: list[tuple[socket.socket, socket.socket]] = []
        self._kept = [_Kept(number, self._spawn, self._heed) for number in range(processes)]

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
        self._lanes = [open_lane() for _ in self._kept[1:]]
        host, port = self._listening.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Start the processes; returns before they are ready."""
        for kept in self._kept:
            kept.child.start()

    def stop(self) -> None:
        """Return when all processes have ended, their requests first."""
        for kept in self._kept:
            kept.expect_end()
        for kept in self._kept:
            kept.child.stop()
        for opened in (self._listening, *(end for lane in self._lanes for end in lane)):
            if opened is not None:
                opened.close()

    def _spawn(self, number: int, endpoint: socket.socket) -> Process:
        if self._listening is None:
            raise Misconfigured("the web has no port; open it before it starts")
        if number:
            own = self._lanes[number - 1][1]
            return self._spawn_process(Post(number=number, listening=None, link=endpoint, lanes=(own,)))
        others = tuple(lane for lane, _ in self._lanes)
        return self._spawn_process(Post(number=number, listening=self._listening, link=endpoint, lanes=others))

    def _heed(self, ours: socket.socket) -> None:
        heed(ours, committed=self._committed, are_receivers_ready=self._are_receivers_ready)


class _Kept:
    """One process, which is kept running.

    Parameters
    ----------
    spawn
        Starts it with its number and its end of the link.
    heed
        Serves our end of the link, until it is gone.
    """

    def __init__(
        self,
        number: int,
        spawn: Callable[[int, socket.socket], Process],
        heed: Callable[[socket.socket], None],
    ) -> None:
        self._number = number
        self._spawn_process = spawn
        self._heed = heed
        self._ours: socket.socket | None = None
        # Held while a process is born or told to end, so that none is born unheard.
        self._birth = Lock()
        self._is_ending = False
        self.child = Child(name_process(number), self._spawn, stop_timeout_s=STOP_S)

    def expect_end(self) -> None:
        """Tell the process to end; it is not started again."""
        self.child.expect_end()
        with self._birth:
            self._is_ending = True
            if self._ours is not None:
                self._tell_end(self._ours)

    def _tell_end(self, ours: socket.socket) -> None:
        try:
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            # It is gone already.
            logger.debug("web process gone")

    def _spawn(self) -> Process:
        ours, theirs = open_pair()
        with theirs:
            try:
                process = self._spawn_process(self._number, theirs)
            except BaseException:
                ours.close()
                raise
        with self._birth:
            self._ours = ours
            if self._is_ending:
                self._tell_end(ours)
        Thread(target=self._heed, args=(ours,), name="web-link", daemon=True).start()
        return process


def name_process(number: int) -> str:
    """Return what one of the web processes is called."""
    return f"{VERB}-{number}" if number else VERB


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


def spawn_web(nursery: Nursery, settings: Settings, post: Post, *, node: str) -> Process:
    """Start a web process with these very settings."""
    handed: Sequence[tuple[str, socket.socket | None]] = (
        ("--listening", post.listening),
        ("--link", post.link),
        *(("--lane", lane) for lane in post.lanes),
    )
    options = [(option, end) for option, end in handed if end is not None]
    words = [word for place, (option, _) in enumerate(options) for word in (option, f"{{{place}}}")]
    order = Order(
        program=VERB,
        words=("--number", str(post.number), "--node", node, *words),
        environment={**os.environ, **settings.as_environment()},
    )
    return nursery.bear(order, [end for _, end in options])
