"""The gate: the one port of the node, behind which several receiver processes share the connections."""

import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from threading import Condition, Thread, Timer
from time import monotonic
from uuid import uuid4

from node.dimse.channel import (
    Answered,
    Arrived,
    Channel,
    Committed,
    Drain,
    Ended,
    Message,
    Orphaned,
    Ready,
    Requested,
    Unwanted,
    Vacated,
)
from node.dimse.lobby import Capacity, Lobby
from node.dimse.scp import ListenerSettings
from node.errors import Broken, Misconfigured
from node.networks import is_allowed, is_loopback, open_listener
from node.tls import prove_identity

logger = logging.getLogger(__name__)

BACKLOG = 128
# The process, or the machine, has nothing left for one more connection: no descriptor, no memory.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Those that come then wait so long in the backlog.
BREATH_S = 0.2
# A peer that was told of its Association's end may call again before its receiver has told us; it waits so long.
GRACE_S = 0.5
# What happens to one address again and again is told so often.
TELL_AGAIN_S = 60.0
# Addresses that are remembered for that; more cannot make the table grow.
MAX_TOLD = 256


class _Link:
    """One receiver as the gate sees it; a receiver that comes back is another one."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.channel = channel
        self.is_ready = False

    def tell(self, message: Message, connection: socket.socket | None = None) -> bool:
        """Return whether the receiver has taken `message`; one that is gone or stuck must not stop the others."""
        try:
            self.channel.send(message, connection, waits=False)
        except OSError:
            return False
        return True


class Gate:
    """Accepts connections, and passes each to the receiver that has the fewest; counts Associations over all of them.

    Parameters
    ----------
    committed
        Called when the ledger has news for the stations; must not block.
    refused
        Called with an address outside `ListenerSettings.allowed_networks` that tried to connect, once a minute at most;
        must not block.
    name_association
        Returns an id that no Association has, of this node or another one.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        committed: Callable[[], None],
        refused: Callable[[str], None],
        name_association: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._settings = settings
        self._name_association = name_association
        self._committed = committed
        self._refused = refused
        self._lobby: Lobby[_Link] = Lobby(
            Capacity(associations=settings.max_associations, per_peer=settings.max_associations_per_peer)
        )
        self._links: list[_Link] = []
        # Number of a receiver that died to the Associations that it had.
        self._orphans: dict[int, list[str]] = {}
        # Who has asked and found no room, in their order.
        self._hopeful: dict[str, _Link] = {}
        self._drain: Drain | None = None
        self._changed = Condition()
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._socket: socket.socket | None = None
        self._accepting: Thread | None = None

    def start(self) -> tuple[str, int]:
        """Return address and port, where connections wait from now on, and are served as soon as a receiver is ready.

        Raises
        ------
        Misconfigured
            If anybody on the network could send (no calling AE titles, address not loopback), the address is none of
            this machine, or the TLS certificate would be refused.
        PortInUse
            If another process listens there.
        """
        _check_exposure(self._settings)
        if self._settings.tls is not None:
            prove_identity(self._settings.tls)
        bind, port = self._settings.bind, self._settings.port
        listening = self._socket = open_listener(bind, port, section="node", backlog=BACKLOG)
        host, port = listening.getsockname()[:2]
        self._accepting = Thread(target=self._accept_all, args=(listening,), name="gate", daemon=True)
        self._accepting.start()
        logger.info("listener started", extra={"host": host, "port": port})
        return str(host), int(port)

    def attach(self, number: int, endpoint: socket.socket) -> None:
        """Count on a receiver at the other end of `endpoint`; connections go there once it says that it is ready.

        `number` is that of an earlier receiver which died, if this one does its work now.
        """
        link = _Link(number, Channel(endpoint))
        with self._changed:
            self._links.append(link)
            if self._drain is not None:
                link.tell(self._drain)
        Thread(target=self._listen_to, args=(link,), name=f"gate-receiver-{number}", daemon=True).start()

    def wait_until_ready(self, count: int, timeout_s: float) -> bool:
        """Return whether `count` receivers are ready, as soon as they are; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(link.is_ready for link in self._links) >= count, timeout_s)

    def stop(self, drain_s: float) -> None:
        """Accept no more, and ask the receivers to finish what they have within `drain_s`; returns at once."""
        with self._changed:
            self._drain = Drain(timeout_s=drain_s)
            self._changed.notify_all()
            for link in self._links:
                link.tell(self._drain)
        if self._socket is not None and self._accepting is not None:
            # close() alone would not wake the thread that accepts.
            self._socket.shutdown(socket.SHUT_RDWR)
            self._accepting.join()
            self._socket.close()
            self._socket = None
            logger.info("listener stopped")

    def _accept_all(self, listening: socket.socket) -> None:
        while self._drain is None:
            try:
                connection, (host, port, *_) = listening.accept()
            except OSError as exc:
                if exc.errno in SHORTAGES:
                    self._hold_breath(exc)
                continue
            with connection:
                if self._is_allowed(host):
                    self._pass_on(connection, host, port)
                elif self._is_news("connection refused", host):
                    logger.warning("connection refused", extra={"peer": host, "outcome": "network not allowed"})
                    self._refused(host)

    def _hold_breath(self, exc: OSError) -> None:
        """Leave those that come in the backlog for a moment; nothing would be won by asking at once again."""
        with self._changed:
            self._changed.wait_for(lambda: self._drain is not None, BREATH_S)
        if self._drain is None and self._is_news("connections wait", ""):
            logger.error("connections wait", extra={"error_type": errno.errorcode.get(exc.errno or 0, "OSError")})

    def _is_allowed(self, host: str) -> bool:
        return is_allowed(host, self._settings.allowed_networks)

    def _pass_on(self, connection: socket.socket, host: str, port: int) -> None:
        association_id = self._name_association()
        for link in self._ready_links():
            with self._changed:
                if not self._lobby.has_room(host):
                    break
                self._lobby.enter(association_id, host=host, receiver=link)
            if link.tell(Arrived(association_id=association_id, host=host, port=port), connection):
                self._turn_out(host)
                return
            with self._changed:
                self._lobby.leave(association_id)
            if self._drain is None:
                logger.warning("receiver takes no connection", extra={"owner": f"receiver-{link.number}"})
        if self._drain is None and self._is_news("connection not served", host):
            logger.warning("connection not served", extra={"peer": host})

    def _ready_links(self) -> list[_Link]:
        """Return the receivers that are ready, as soon as there is one, that with the fewest connections first."""
        with self._changed:
            self._changed.wait_for(lambda: self._drain is not None or any(link.is_ready for link in self._links))
            if self._drain is not None:
                return []
            return sorted((link for link in self._links if link.is_ready), key=self._lobby.load)

    def _turn_out(self, host: str) -> None:
        with self._changed:
            surplus = self._lobby.turn_out()
            if surplus is None:
                return
            association_id, link = surplus
        link.tell(Unwanted(association_id=association_id))
        if self._is_news("connections turned out", host):
            logger.warning("connections turned out", extra={"peer": host, "outcome": "too many ask for nothing"})

    def _listen_to(self, link: _Link) -> None:
        try:
            while (received := link.channel.receive()) is not None:
                self._heed(link, received[0])
        finally:
            self._lose(link)

    def _heed(self, link: _Link, message: Message) -> None:
        match message:
            case Ready():
                self._welcome(link)
            case Requested():
                self._admit(link, message.association_id)
            case Vacated():
                with self._changed:
                    self._lobby.vacate(message.association_id)
                    self._admit_hopeful()
            case Ended():
                with self._changed:
                    self._lobby.leave(message.association_id)
                    self._admit_hopeful()
            case Committed():
                self._committed()
            case Arrived() | Answered() | Unwanted() | Orphaned() | Drain():
                raise Broken(f"{type(message).__name__} is no message for the gate")

    def _admit(self, link: _Link, association_id: str) -> None:
        """Answer at once when there is room, else when somebody leaves, or after `GRACE_S`."""
        with self._changed:
            self._hopeful[association_id] = link
            self._admit_hopeful()
            is_answered = association_id not in self._hopeful
        if not is_answered:
            patience = Timer(0.0 if self._drain else GRACE_S, self._reject, (association_id,))
            patience.daemon = True
            patience.start()

    def _admit_hopeful(self) -> None:
        for association_id, link in list(self._hopeful.items()):
            if self._drain is None and self._lobby.admit(association_id):
                del self._hopeful[association_id]
                link.tell(Answered(association_id=association_id, is_admitted=True))

    def _reject(self, association_id: str) -> None:
        with self._changed:
            link = self._hopeful.pop(association_id, None)
        if link is not None:
            link.tell(Answered(association_id=association_id, is_admitted=False))

    def _welcome(self, link: _Link) -> None:
        with self._changed:
            link.is_ready = True
            self._bequeath(link.number)
            self._changed.notify_all()

    def _lose(self, link: _Link) -> None:
        with self._changed:
            self._links.remove(link)
            self._orphans.setdefault(link.number, []).extend(self._lobby.lose(link))
            self._bequeath(link.number)
            self._admit_hopeful()
        link.channel.close()

    def _bequeath(self, number: int) -> None:
        """Tell the heir of `number` what was left to it; it may be ready before we hear of the death."""
        heir = next((link for link in self._links if link.number == number and link.is_ready), None)
        if heir is not None:
            for association_id in self._orphans.pop(number, []):
                heir.tell(Orphaned(association_id=association_id))

    def _is_news(self, event: str, host: str) -> bool:
        """Return whether `event` of `host` should be told now; only the thread that accepts asks."""
        now = monotonic()
        if now - self._told.get((event, host), -TELL_AGAIN_S) < TELL_AGAIN_S:
            return False
        self._told[event, host] = now
        self._told.move_to_end((event, host))
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        return True


def _check_exposure(settings: ListenerSettings) -> None:
    if settings.calling_aets or settings.insecure or is_loopback(settings.bind):
        return
    raise Misconfigured(
        f"node.bind {settings.bind} lets the network in and security.calling_aets is empty; "
        "list the AE titles that may send, bind 127.0.0.1, or start with --insecure"
    )
