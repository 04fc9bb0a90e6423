"""A web process: what comes over HTTP, stored by the same intake as what comes by DICOM.

The nursery of the node becomes it, with its settings in the environment. For the ledger it is one more
receiver: it has engine, store, registrar and journal of its own, and ends when the node says so, or is gone. Of
several, the first listens and serves everything; the others are passed their share of the connections that store.
"""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from threading import Thread
from uuid import uuid4

from node.accounts.opening import open_doorkeeper, open_registry
from node.accounts.passwords import PasswordHashes
from node.audit.events import stranger_refused
from node.audit.witness import Witness
from node.clock import utc_now
from node.errors import NodeError
from node.intake.adoption import LEFTOVER_AGE_S, Adoption
from node.journals import FAREWELL_S, adopt_journal, open_journal
from node.ledger.engine import open_engine
from node.ledger.instances import InstanceLedger, association_prefix
from node.ledger.registrar import Registrar
from node.ledger.retractions import RetractionLedger
from node.ledger.views import LedgerView
from node.receiver import (
    SWITCH_INTERVAL_S,
    build_intake,
    set_deadline,
)
from node.settings.loading import load_settings
from node.settings.receiving import MAX_RECEIVERS
from node.settings.whole import Settings
from node.tls import server_context
from node.volumes import open_store, open_trail
from node.web.app import create_app
from node.web.handover import Handover
from node.web.host import DRAIN_S, Post, identity_of, name_process
from node.web.link import Link
from node.web.pixels import PixelPool
from node.web.retraction import Retractor
from node.web.server import MAX_OF_ONE_ADDRESS, Guards, WebServer
from node.web.services import Services
from node.web.tester import Tester
from node.web.witnessing import Witnessing

logger = logging.getLogger(__name__)


def main(words: Sequence[str]) -> None:
    """Run the web process to its end."""
    parser = argparse.ArgumentParser(prog="python -m node web")
    parser.add_argument("--node", required=True, help="name of the node's data folder")
    parser.add_argument("--number", type=int, required=True, help="which of the web processes; 0 listens")
    parser.add_argument("--listening", type=_socket, help="descriptor of the socket that listens")
    parser.add_argument("--link", type=_socket, required=True, help="descriptor of our end of the link")
    parser.add_argument("--lane", type=_socket, action="append", default=[], help="descriptor of our end of a lane")
    arguments = parser.parse_args(words)
    for name in (signal.SIGTERM, signal.SIGINT):
        # Service managers and terminals send them to all processes at once; the order is the node's business.
        signal.signal(name, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    settings = load_settings()
    post = Post(
        number=arguments.number, listening=arguments.listening, link=arguments.link, lanes=tuple(arguments.lane)
    )
    try:
        serve(settings, post, node=arguments.node)
    except NodeError as exc:
        # Whoever started it tries again.
        logger.error("web not started", extra={"reason_code": exc.code})  # noqa: TRY400 no fault of ours to trace
        sys.exit(1)


def _socket(word: str) -> socket.socket:
    return socket.socket(fileno=int(word))


def serve(settings: Settings, post: Post, *, node: str) -> None:
    """Serve what connects, or is passed on; return when the node says so or is gone, and everything is committed.

    Parameters
    ----------
    node
        What tells this node from every other one on the ledger.

    Raises
    ------
    DataDirInUse
        If the web process of this number still runs.
    LedgerBusy
        If what that one has left cannot be recorded.
    """
    # Two of them, so that no search keeps a connection for which the registrar waits.
    engine, own = (open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s) for _ in range(2))
    instances = InstanceLedger(own)
    store = open_store(settings)
    own_name = f"{association_prefix(node)}{name_process(post.number)}"
    link = Link(post.link)
    # Receivers count from 1.
    with closing(open_journal(settings, MAX_RECEIVERS + post.number if post.number else 0)) as journal:
        adopt_journal(journal, Adoption(store=store, ledger=instances, clock=utc_now))
        # Requests of the process before this one, which cannot end them any more.
        instances.end_associations_of(own_name, utc_now())
        store.sweep(min_age_s=LEFTOVER_AGE_S)
        registrar = Registrar(instances, link.tell_committed, journal, max_age_s=settings.ledger.busy_timeout_s)
        witness = Witness(trail=open_trail(settings), ledger=registrar, clock=utc_now)
        intake = build_intake(settings, store=store, ledger=registrar, witness=witness)
        hashes, view = PasswordHashes(), LedgerView(engine)
        services = Services(
            settings=settings,
            engine=engine,
            view=view,
            store=store,
            intake=intake,
            doorkeeper=open_doorkeeper(engine, settings.web, hashes=hashes, clock=utc_now, tell=witness.record),
            registry=open_registry(engine, hashes=hashes, clock=utc_now, tell=witness.record),
            witnessing=Witnessing(witness.record, view.patient_id),
            record=witness.record,
            pixels=PixelPool(folder=settings.store_root),
            clock=utc_now,
            name_association=lambda: f"{association_prefix(own_name)}{uuid4().hex}",
            are_receivers_ready=link.are_receivers_ready,
            wait_committed=registrar.wait_committed,
            told=link.tell_committed,
            tester=Tester(settings, engine, clock=utc_now, record=witness.record),
            retractor=Retractor(settings, RetractionLedger(engine), view, record=witness.record, clock=utc_now),
        )
        server = _build_server(services, post)
        registrar.start()
        witness.start()
        services.witnessing.start()
        _run(server, services, post, link)
        services.witnessing.stop()
        witness.stop()
        registrar.stop()
    engine.dispose()
    own.dispose()


def _build_server(services: Services, post: Post) -> WebServer:
    settings = services.settings
    guards = Guards(
        networks=settings.web.trusted_proxies or settings.security.allowed_networks,
        refused=lambda host: services.intake.note_refusal(stranger_refused(host)),
        stalled_s=settings.node.dimse_timeout_s,
        max_of_one_address=None if settings.web.behind_proxy else MAX_OF_ONE_ADDRESS,
    )
    identity = identity_of(settings.web)
    tls = None if identity is None else server_context(identity)
    handover = Handover(post.lanes) if post.listening is not None and post.lanes else None
    return WebServer(create_app(services), guards, drain_s=DRAIN_S, tls=tls, handover=handover)


def _run(server: WebServer, services: Services, post: Post, link: Link) -> None:
    web = services.settings.web
    Thread(target=_stop_at_end, args=(link, server, services), name="link", daemon=True).start()
    logger.info("web started", extra={"host": web.bind, "port": web.port, "owner": name_process(post.number)})
    if post.listening is not None:
        server.run(post.listening)
    else:
        server.run_behind(post.lanes[0])
    services.pixels.close()


def _stop_at_end(link: Link, server: WebServer, services: Services) -> None:
    link.listen()
    set_deadline(DRAIN_S + FAREWELL_S)
    services.audience.close()
    server.stop()
