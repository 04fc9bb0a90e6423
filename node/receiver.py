"""A receiver: a process that takes the connections which the gate passes on, and stores what comes over them.

The nursery of the node becomes it, with its settings in the environment. It has engine, store and registrar
of its own, and ends when the gate says so, or is gone.
"""

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Timer

from node.audit.witness import Witness
from node.children import Process
from node.clock import utc_now
from node.comparison.reader import CagedReader
from node.destinations import event_peers, workitem_premises
from node.dimse.acceptor import ABORT_S
from node.dimse.channel import Channel, Committed
from node.dimse.notices import NoticeTaker
from node.dimse.scp import ListenerSettings, open_server
from node.dimse.workitems import Acquaintance, Surroundings, WorkitemService
from node.domain.confirmation import ConfirmBy
from node.errors import NodeError
from node.intake.adoption import LEFTOVER_AGE_S, Adoption
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.journals import FAREWELL_S, adopt_journal, open_journal
from node.ledger.commitments import CommitmentLedger
from node.ledger.engine import Engine, open_engine
from node.ledger.instances import InstanceLedger
from node.ledger.notices import NoticeLedger
from node.ledger.registrar import Registrar
from node.ledger.subscriptions import SubscriptionLedger
from node.ledger.workitems import WorkitemLedger
from node.nurse import Order
from node.nursery import Nursery
from node.settings.loading import load_settings
from node.settings.receiving import TlsSettings
from node.settings.whole import Settings
from node.store.files import FileStore
from node.tls import TlsIdentity
from node.volumes import open_store, open_trail

logger = logging.getLogger(__name__)

VERB = "receiver"

# A thread that comes back from the disk or the network waits so long for a busy one; Python's own 5 ms would be longer
# than everything else that an Instance takes.
SWITCH_INTERVAL_S = 0.0005
# So long a sender waits for a server of the ledger that is started anew; it gives up itself after 30 s or more.
SENDERS_PATIENCE_S = 10.0


def main(words: Sequence[str]) -> None:
    """Run a receiver to its end."""
    parser = argparse.ArgumentParser(prog="python -m node receiver")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True, help="descriptor of our end of the channel")
    arguments = parser.parse_args(words)
    for name in (signal.SIGTERM, signal.SIGINT):
        # Service managers and terminals send them to all processes at once; the order is the node's business.
        signal.signal(name, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    settings = load_settings()
    try:
        receive(settings, number=arguments.number, endpoint=socket.socket(fileno=arguments.channel))
    except NodeError as exc:
        # Whoever started it tries again.
        logger.error("receiver not started", extra={"reason_code": exc.code})  # noqa: TRY400 no fault of ours to trace
        sys.exit(1)


def receive(settings: Settings, *, number: int, endpoint: socket.socket) -> None:
    """Serve what comes over the channel; return when it said Drain or is closed, and everything is committed.

    Raises
    ------
    DataDirInUse
        If the receiver of this number still runs.
    LedgerBusy
        If what the receiver of this number has left cannot be recorded.
    """
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    instances = InstanceLedger(engine, patience_s=min(settings.ledger.busy_timeout_s, SENDERS_PATIENCE_S))
    store = open_store(settings)
    channel = Channel(endpoint)
    with closing(open_journal(settings, number)) as journal:
        adopt_journal(journal, Adoption(store=store, ledger=instances, clock=utc_now))
        store.sweep(min_age_s=LEFTOVER_AGE_S)
        registrar = Registrar(
            instances, lambda: _tell_committed(channel), journal, max_age_s=settings.ledger.busy_timeout_s
        )
        witness = Witness(trail=open_trail(settings), ledger=registrar, clock=utc_now)
        intake = build_intake(settings, store=store, ledger=registrar, witness=witness)
        commitments = CommitmentLedger(engine)
        server = open_server(
            listener_settings(settings),
            channel,
            intake,
            lambda report: commitments.record_report(report, now=utc_now()),
            {
                **NoticeTaker(NoticeLedger(engine), utc_now, lambda: _tell_committed(channel)).services(),
                **build_workitems(settings, engine, witness, lambda: _tell_committed(channel)).services(),
            },
        )
        registrar.start()
        witness.start()
        drain_s = server.serve()
        set_deadline(drain_s + ABORT_S + FAREWELL_S)
        server.drain(drain_s)
        witness.stop()
        registrar.stop()
    engine.dispose()


def spawn_receiver(nursery: Nursery, settings: Settings, number: int, endpoint: socket.socket) -> Process:
    """Start a receiver with these very settings at the other end of the channel."""
    order = Order(
        program=VERB,
        words=("--number", str(number), "--channel", "{0}"),
        environment={**os.environ, **settings.as_environment()},
    )
    return nursery.bear(order, [endpoint])


def build_intake(settings: Settings, *, store: FileStore, ledger: Registrar, witness: Witness) -> Intake:
    """Return the intake of a process that receives."""
    return Intake(
        store=store,
        ledger=ledger,
        clock=utc_now,
        terms=IntakeTerms(
            own_results=settings.security.own_results, max_instance_bytes=settings.store.max_instance_bytes
        ),
        witness=witness,
        compare=CagedReader(store.path).difference,
    )


def build_workitems(settings: Settings, engine: Engine, witness: Witness, told: Callable[[], None]) -> WorkitemService:
    """Return what serves Unified Procedure Steps.

    Parameters
    ----------
    told
        Called after each commit; must not block.
    """
    premises = workitem_premises(settings)
    known = Acquaintance(pipelines=frozenset(settings.pipelines), subscribers=frozenset(event_peers(settings)))
    ledgers = WorkitemLedger(engine, premises), SubscriptionLedger(engine, premises)
    surroundings = Surroundings(clock=utc_now, record=witness.record, told=told)
    return WorkitemService(*ledgers, known, surroundings)


def listener_settings(settings: Settings, *, insecure: bool = False) -> ListenerSettings:
    """Return what gate and receivers need of `settings`."""
    node, security = settings.node, settings.security
    return ListenerSettings(
        aet=node.aet,
        bind=node.bind,
        port=node.port,
        max_pdu_bytes=node.max_pdu_bytes,
        max_associations=node.max_associations,
        max_associations_per_peer=node.max_associations_per_peer,
        dimse_timeout_s=node.dimse_timeout_s,
        calling_aets=security.calling_aets,
        reporting_aets=reporting_aets(settings),
        allowed_networks=security.allowed_networks,
        insecure=insecure,
        tls=tls_identity(settings.security.tls),
    )


def reporting_aets(settings: Settings) -> tuple[str, ...]:
    """Return the AE titles of the Destinations that may be asked for Storage Commitment, and report."""
    asked = (ConfirmBy.AUTO, ConfirmBy.COMMITMENT)
    reporting = (entry for entry in settings.destinations.values() if entry.transport == "cstore")
    return tuple(entry.aet.strip() for entry in reporting if entry.confirm in asked)


def tls_identity(tls: TlsSettings, *, where: str = "security.tls") -> TlsIdentity | None:
    """Return who we are to those who connect by TLS; None: they connect without.

    Parameters
    ----------
    where
        Table of the settings, for the text of an error.
    """
    if not tls.certificate:
        return None
    ca = Path(tls.ca) if tls.ca else None
    return TlsIdentity(certificate=Path(tls.certificate), key=Path(tls.key), ca=ca, where=where)


def set_deadline(seconds: float) -> None:
    """End this process so long from now, whatever hangs then."""
    # Whatever hangs then is on the disk and in the journal.
    deadline = Timer(seconds, os._exit, (1,))
    deadline.daemon = True
    deadline.start()


def _tell_committed(channel: Channel) -> None:
    # The stations look for themselves now and then, so a wake-up may be lost.
    with suppress(OSError):
        channel.send(Committed(), waits=False)
