"""The DICOM service of one receiver, and what it needs of the settings."""

import logging
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from pynetdicom import AE, _config

from node.dimse.acceptor import GuardedServer
from node.dimse.channel import Channel
from node.dimse.handlers import AssociationHandlers
from node.dimse.lobby import MAX_LEAVING, MAX_WAITING
from node.dimse.negotiation import HouseRules
from node.dimse.reports import TakeReport
from node.dimse.services import Services
from node.header.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.intake.station import Intake
from node.tls import TlsIdentity, server_context

# A connection that sends no A-ASSOCIATE-RQ for so long is closed (ARTIM, PS3.8 9.1.5).
ASSOCIATE_TIMEOUT_S = 10.0
NO_SERVICES: Services = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What gate and receivers need of the settings.

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
    reporting_aets
        AE titles of Destinations, which may report what they hold.
    allowed_networks
        Networks from which connections are taken; empty = any.
    insecure
        Listen on any address for anybody.
    tls
        Who we are by TLS, which alone is spoken then; None: plain.
    """

    aet: str
    bind: str
    port: int
    max_pdu_bytes: int
    max_associations: int
    max_associations_per_peer: int
    dimse_timeout_s: float
    calling_aets: tuple[str, ...] = ()
    reporting_aets: tuple[str, ...] = ()
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    insecure: bool = False
    tls: TlsIdentity | None = None


def open_server(
    settings: ListenerSettings,
    channel: Channel,
    intake: Intake,
    take_report: TakeReport,
    services: Services = NO_SERVICES,
) -> GuardedServer:
    """Return what serves the connections that come over `channel`.

    That is C-STORE into `intake`, C-ECHO, reports, and the normalized `services` by SOP Class UID.
    """
    _quieten()
    rules = HouseRules(
        aet=settings.aet,
        calling_aets=frozenset(settings.calling_aets),
        reporting_aets=frozenset(settings.reporting_aets),
    )
    tls = None if settings.tls is None else server_context(settings.tls)
    return GuardedServer(_entity(settings), channel, AssociationHandlers(intake, take_report, services), rules, tls)


def _entity(settings: ListenerSettings) -> AE:
    entity = AE(ae_title=settings.aet)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.max_pdu_bytes
    # pynetdicom counts connections that have not even asked; the gate counts Associations, over all receivers.
    entity.maximum_associations = settings.max_associations + MAX_WAITING + MAX_LEAVING
    entity.acse_timeout = min(ASSOCIATE_TIMEOUT_S, settings.dimse_timeout_s)
    entity.dimse_timeout = settings.dimse_timeout_s
    entity.network_timeout = settings.dimse_timeout_s
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.calling_aets)
    return entity


def _quieten() -> None:
    # Its own handlers write AE titles, UIDs and identifiers to the log.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
