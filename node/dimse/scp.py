"""The listener: binds the port, starts and ends the DICOM service."""

import errno
import ipaddress
import logging
from dataclasses import dataclass
from threading import Thread

from pynetdicom import AE, _config, register_uid
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from node.dimse.acceptor import MAX_WAITING, Capacity, GuardedServer
from node.dimse.contexts import RETIRED_CLASSES
from node.dimse.handlers import AssociationHandlers
from node.errors import Misconfigured, PortInUse
from node.header.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.intake.station import Intake

logger = logging.getLogger(__name__)

# A connection that sends no A-ASSOCIATE-RQ for so long is closed (ARTIM, PS3.8 9.1.5).
ASSOCIATE_TIMEOUT_S = 10.0
ACCEPT_POLL_S = 0.1
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What the listener needs of the settings.

    Attributes
    ----------
    aet
        Our AE title; a request that calls another one is rejected.
    bind
        Address to listen on.
    port
        TCP port, 0 = any free one.
    max_pdu_bytes
        Largest P-DATA-TF PDU that we announce and take, bytes.
    max_associations
        Parallel Associations; one more is rejected as local limit exceeded.
    max_associations_per_peer
        The same from one address.
    dimse_timeout_s
        Silence after which an Association is aborted, seconds.
    calling_aets
        AE titles that may call; empty = any, which an address other than loopback allows only with `insecure`.
    insecure
        Listen on any address for anybody.
    """

    aet: str
    bind: str
    port: int
    max_pdu_bytes: int
    max_associations: int
    max_associations_per_peer: int
    dimse_timeout_s: float
    calling_aets: tuple[str, ...] = ()
    insecure: bool = False


class DicomListener:
    """Receives Instances by C-STORE and answers C-ECHO, until it is stopped."""

    def __init__(self, settings: ListenerSettings, intake: Intake) -> None:
        self._settings = settings
        self._handlers = AssociationHandlers(intake, aet=settings.aet)
        self._server: GuardedServer | None = None

    def start(self) -> tuple[str, int]:
        """Return address and port, on which connections are accepted from now on.

        Raises
        ------
        Misconfigured
            If anybody on the network could send (no calling AE titles, address not loopback), or the address is none
            of this machine.
        PortInUse
            If another process listens there.
        """
        _check_exposure(self._settings)
        _quieten()
        _register_retired_classes()
        settings = self._settings
        try:
            capacity = Capacity(associations=settings.max_associations, per_peer=settings.max_associations_per_peer)
            server = GuardedServer(self._entity(), (settings.bind, settings.port), self._handlers, capacity)
        except OSError as exc:
            raise _bind_error(settings, exc) from exc
        self._server = server
        Thread(target=server.serve_forever, args=(ACCEPT_POLL_S,), name="dicom-listener", daemon=True).start()
        host, port = server.server_address[0], server.server_address[1]
        logger.info("listener started", extra={"host": host, "port": port})
        return str(host), int(port)

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Return when no Association is left: accept no more, wait at most `drain_s`, abort the rest."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.drain(drain_s)
        self._server = None
        logger.info("listener stopped")

    def _entity(self) -> AE:
        settings = self._settings
        entity = AE(ae_title=settings.aet)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = settings.max_pdu_bytes
        # pynetdicom counts connections that have not even asked; `GuardedServer.admit` counts Associations.
        entity.maximum_associations = settings.max_associations + MAX_WAITING + 1
        entity.acse_timeout = min(ASSOCIATE_TIMEOUT_S, settings.dimse_timeout_s)
        entity.dimse_timeout = settings.dimse_timeout_s
        entity.network_timeout = settings.dimse_timeout_s
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.calling_aets)
        return entity


def _check_exposure(settings: ListenerSettings) -> None:
    if settings.calling_aets or settings.insecure or _is_loopback(settings.bind):
        return
    raise Misconfigured(
        f"node.bind {settings.bind} lets the network in and security.calling_aets is empty; "
        "list the AE titles that may send, bind 127.0.0.1, or start with --insecure"
    )


def _is_loopback(bind: str) -> bool:
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def _bind_error(settings: ListenerSettings, exc: OSError) -> Misconfigured:
    where = f"{settings.bind}:{settings.port}"
    if exc.errno == errno.EADDRINUSE:
        return PortInUse(f"{where} is taken by another process; stop it, or set node.port to another port (0 = any)")
    if exc.errno == errno.EACCES:
        return Misconfigured(f"{where} needs more rights; set node.port to 1024 or above")
    return Misconfigured(f"cannot listen on {where} ({exc.strerror}); set node.bind to an address of this machine")


def _quieten() -> None:
    # Its own handlers write AE titles, UIDs and identifiers to the log.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def _register_retired_classes() -> None:
    for sop_class_uid, keyword in RETIRED_CLASSES.items():
        if uid_to_service_class(sop_class_uid) is not StorageServiceClass:
            register_uid(sop_class_uid, keyword, StorageServiceClass)
