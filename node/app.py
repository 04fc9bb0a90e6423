"""Composition root: the only file of the node that names concrete classes."""

import logging
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Thread
from uuid import uuid4

from node.accounts.opening import open_registry
from node.audit.account import find_account
from node.audit.events import Movement, Remote, StudySubject, application_activity, stranger_refused
from node.audit.transfer import Transfer
from node.audit.witness import Witness
from node.bell import CeleryRinger, DoneListener
from node.broker import EmbeddedBroker
from node.children import Child
from node.clock import utc_now
from node.data_folder import make_data_folder
from node.delivery.confirmer import Confirmer
from node.delivery.confirmer import Surroundings as Asking
from node.delivery.courier import Courier, Surroundings
from node.delivery.herald import Herald, send_events
from node.delivery.inquiry import open_inquiry
from node.delivery.lookout import Lookout
from node.delivery.probe import knock, probe_forms
from node.delivery.strays import Strays
from node.delivery.transport import open_transport
from node.destinations import (
    PullPeer,
    asked_peers,
    confirmation_terms,
    destination_names,
    destination_spec,
    event_peers,
    pull_peers,
    remote_of,
    workitem_premises,
    worklist_peer,
)
from node.dimse.gate import Gate
from node.dimse.receivers import Receivers
from node.dispatch import BrokerPatience, Dispatch
from node.domain.uids import StudyUID
from node.errors import LedgerBusy
from node.hl7.listener import Listener, Terms
from node.hl7.order_desk import OrderDesk
from node.household import load_programs, open_nursery
from node.intake.adoption import Adoption
from node.journals import adopt_journals
from node.landing import Quay
from node.ledger.answers import AnswerLedger
from node.ledger.bell import BellLedger
from node.ledger.capabilities import CapabilityLedger
from node.ledger.commitments import CommitmentLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import Engine, require_sound
from node.ledger.expectations import ExpectationLedger
from node.ledger.fetches import FetchLedger
from node.ledger.imaging_orders import OrderLedger, Told
from node.ledger.instances import InstanceLedger, association_prefix
from node.ledger.interventions import Interventions
from node.ledger.jobs import JobLedger
from node.ledger.leadership import open_leadership
from node.ledger.leaps import LeapLedger
from node.ledger.opening import open_ledger
from node.ledger.priors import PriorLedger
from node.ledger.registrar import Registrar
from node.ledger.subscriptions import SubscriptionLedger
from node.ledger.views import LedgerView
from node.lock import FolderLock
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from node.prior_waits import PriorWaits
from node.pulling.asker import Asker
from node.pulling.asker import Surroundings as Enquiring
from node.pulling.census import open_enquiry, way_to_ask
from node.pulling.fetcher import Fetcher
from node.pulling.fetcher import Surroundings as Fetching
from node.pulling.order_seeker import OrderSeeker
from node.pulling.order_seeker import Surroundings as Seeking
from node.pulling.poller import Poller
from node.pulling.poller import Surroundings as Polling
from node.pulling.prior_seeker import PriorSeeker
from node.pulling.prior_seeker import Surroundings as SeekingPriors
from node.pulling.retrieval import Retrieval, open_retrieval
from node.pulling.search import open_search
from node.pulling.worklist_query import open_worklist
from node.receiver import SWITCH_INTERVAL_S, build_intake, listener_settings, spawn_receiver, tls_identity
from node.scheduler import SHARED_SWEEP, SWEEP, Belt, Sharing, Tick
from node.settings.whole import Settings
from node.site import (
    build_assembly,
    build_imaging_orders,
    build_ordering,
    build_routing,
    completeness_terms,
    find_models,
    model_versions,
    prior_sources,
    read_rules,
    retry_policy,
)
from node.supervision import Supervision
from node.tls import server_context
from node.upgrade import Upgrade
from node.upkeep import LedgerRestorer, build_retention
from node.volumes import open_store, open_trail
from node.web.host import WebHost, exposure_of, spawn_web
from node.workforce import spawn_worker

logger = logging.getLogger(__name__)

WORKER_STOP_S = 30.0
# Threads that bring to the disk what is fetched by WADO-RS.
CLOSERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Which parts of the product run in this process or below it.

    Attributes
    ----------
    with_worker
        Start a worker process and keep it running.
    insecure
        Listen on any address for any calling AE title.
    device
        ``cpu``, ``cuda`` or ``cuda:N`` for the worker.
    """

    with_worker: bool = True
    insecure: bool = False
    device: str = "cpu"


class NodeApp:
    """A whole node: listener, stations, couriers, and what they need to run."""

    def __init__(self, settings: Settings, role: Role | None = None) -> None:
        self._role = role or Role()
        self._nursery = open_nursery(settings)
        make_data_folder(settings.node.data_dir)
        self._lock = FolderLock(settings.node.data_dir)
        self._broker = None if settings.broker.url.get_secret_value() else self._build_broker(settings)
        self._settings = settings if self._broker is None else settings.with_broker(self._broker.url)
        self._engine = open_ledger(settings)
        self._leadership = open_leadership(self._engine)
        sweep = SHARED_SWEEP if self._leadership.is_shared else SWEEP
        self._sharing = Sharing(leads=self._leadership.is_ours, sweep=sweep)
        self._store = open_store(settings)
        self.view = LedgerView(self._engine)
        self._trail = open_trail(settings)
        self._witness = Witness(trail=self._trail, ledger=InstanceLedger(self._engine), clock=utc_now)
        self._routing = build_routing(self._settings, self._engine)
        self._ringer = CeleryRinger(self._broker_url)
        self._adoption = Adoption(
            store=self._store, ledger=InstanceLedger(self._engine), clock=utc_now, teller=self._witness
        )
        self._retention = build_retention(settings, self._engine, adoption=self._adoption, teller=self._witness)
        self._belt = self._build_belt()
        # On its own: removing many files takes long, and no Job waits for it.
        self._cleaning = self._build_led("retention", self._retention.tick)
        strays = Strays(
            settings.destinations, DeliveryLedger(self._engine), give_up_days=settings.delivery.give_up_days
        )
        self._clearing = self._build_led("strays", strays.tick)
        self._confirmers = {name: self._build_confirmer(name) for name in settings.destinations}
        self._couriers = {name: self._build_courier(name) for name in settings.destinations}
        self._askers = {name: self._build_asker(name, spec) for name, spec in asked_peers(settings).items()}
        self._registrar = Registrar(InstanceLedger(self._engine), lambda: self._belt.wake())
        self._closers = ThreadPoolExecutor(CLOSERS, "fetch-closer")
        self._fetchers = {name: self._build_fetcher(name, peer) for name, peer in pull_peers(settings).items()}
        self._fetching = {name: self._build_fetching(name, peer) for name, peer in pull_peers(settings).items()}
        self._prior_seekers = self._build_prior_seekers()
        self._herald = self._build_led("herald", self._build_herald().tick)
        self._seeker = self._build_seeker()
        self._belts = (
            self._belt,
            *self._seeker,
            self._herald,
            *self._askers.values(),
            *self._fetching.values(),
            *self._prior_seekers,
            self._cleaning,
            self._clearing,
            *self._couriers.values(),
            *self._confirmers.values(),
        )
        self._ears = DoneListener(self._broker_url, self._hear_done)
        self._receivers = self._build_receivers()
        self._web = self._build_web() if settings.web.port else None
        self._hl7 = self._build_hl7() if settings.hl7.port else None
        self._supervision = Supervision(self._settings, self._engine, sharing=self._sharing)
        self._worker = Child("worker", self._spawn_worker, stop_timeout_s=WORKER_STOP_S)

    def fork_nursery(self) -> None:
        """Let receivers and web processes share what this process has loaded; call it before any thread is begun.

        Where nobody does, they share among each other alone.
        """
        # No connection to the ledger may be known to two processes.
        self._engine.dispose()
        self._nursery.fork(load_programs)

    def start(self) -> tuple[str, int]:
        """Bring everything up, in the order in which it is needed; returns address and port for DICOM.

        Raises
        ------
        Misconfigured
            If a port or the data folder is taken, the node would be open to anybody, or no audit trail can be
            written.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._lock.hold()
        require_sound(self._engine)
        self._trail.append(application_activity(is_start=True, launcher=find_account()))
        self._witness.start()
        with self._leadership.alone():
            self._take_stock()
        if self._web is not None:
            self._web.open()
        self._supervision.start()
        self._nursery.start()
        address = self._receivers.start()
        if self._hl7 is not None:
            self._hl7.start()
        if self._web is not None:
            self._web.start()
        if self._broker is not None:
            self._broker.start()
        self._registrar.start()
        for belt in self._belts:
            belt.start()
        self._ears.start()
        if self._role.with_worker:
            self._worker.start()
        self._receivers.wait_until_ready()
        logger.info("node started", extra={"host": address[0], "port": address[1]})
        return address

    def first_link(self) -> str | None:
        """Return the secret of a new one-time link by which the first admin is made; None: there is a user already."""
        registry = open_registry(self._engine, clock=utc_now, tell=self._witness.record)
        return None if self._web is None or registry.has_users() else registry.link_for(None, by=find_account())

    def stop(self) -> None:
        """Take everything down: nothing new begins, all that is in hand comes to its end, and another node leads last.

        What waits for others, such as a Delivery to a Destination that is silent, waits at the same time.
        """
        self._supervision.expect_end()
        for fetcher in self._fetchers.values():
            fetcher.expect_end()
        for belt in self._belts:
            belt.expect_end()
        if self._web is not None:
            self._web.stop()
        if self._hl7 is not None:
            self._hl7.stop()
        self._receivers.stop()
        self._nursery.close()
        if self._role.with_worker:
            self._worker.stop()
        self._ears.stop()
        for belt in self._belts:
            belt.stop()
        self._closers.shutdown()
        self._registrar.stop()
        if self._broker is not None:
            self._broker.stop()
        self._supervision.stop()
        # A belt that still ran would ask whether this node leads, and so take the lead again.
        self._leadership.resign()
        self._witness.record(application_activity(is_start=False, launcher=find_account()))
        self._witness.stop()
        self._engine.dispose()
        self._lock.let_go()
        logger.info("node stopped")

    def _take_stock(self) -> None:
        """Bring store and ledger together, after whatever ended the node's last life."""
        restorer = open_restorer(self._settings, self._engine)
        is_new = restorer.prepare()
        # Returns when no receiver of an earlier life is left.
        adopt_journals(self._settings, self._adoption)
        InstanceLedger(self._engine).end_associations_of(self._lock.read_name(), utc_now())
        if is_new:
            restorer.restore(self._adoption)
        else:
            if self._leadership.is_ours():
                self._retention.resume(utc_now())
            restorer.catch_up(self._adoption)

    @property
    def _broker_url(self) -> str:
        return self._settings.broker.url.get_secret_value()

    def _build_broker(self, settings: Settings) -> EmbeddedBroker:
        return EmbeddedBroker(settings.broker_dir, on_damage=self._tell_damage)

    def _tell_damage(self, aside: Path) -> None:
        try:
            BellLedger(self._engine).tell_damaged(aside, utc_now())
        except LedgerBusy as exc:
            # The broker is started all the same; the log has it.
            logger.warning("damage not told", extra={"reason_code": exc.code})

    def _hear_done(self) -> None:
        for courier in self._couriers.values():
            courier.wake()
        # Rules may ask for what was answered.
        self._belt.wake()
        self._herald.wake()

    def _wake_stations(self) -> None:
        self._belt.wake()
        for asker in (*self._askers.values(), *self._seeker, *self._fetching.values()):
            asker.wake()
        self._herald.wake()

    def _build_receivers(self) -> Receivers:
        settings = self._settings
        gate = Gate(
            listener_settings(settings, insecure=self._role.insecure),
            committed=self._wake_stations,
            refused=self._note_stranger,
            name_association=lambda: f"{association_prefix(self._lock.read_name())}{uuid4().hex}",
        )
        return Receivers(gate, partial(spawn_receiver, self._nursery, settings), count=settings.node.receivers)

    def _build_web(self) -> WebHost:
        settings = self._settings
        return WebHost(
            exposure_of(settings.web, insecure=self._role.insecure),
            lambda post: spawn_web(self._nursery, settings, post, node=self._lock.read_name()),
            committed=self._wake_stations,
            are_receivers_ready=self._receivers.are_ready,
            processes=settings.web.processes,
        )

    def _note_stranger(self, host: str) -> None:
        # The ledger may be locked for long, and the gate waits for nobody; where no thread is to be had, its log tells.
        with suppress(RuntimeError):
            Thread(target=self._witness.refused, args=(stranger_refused(host),), daemon=True).start()

    def _build_belt(self) -> Belt:
        settings = self._settings
        assembly = build_assembly(settings, self._engine)
        dispatch = Dispatch(
            JobLedger(self._engine),
            self._ringer,
            story=BellLedger(self._engine),
            policy=retry_policy(settings),
            patience=BrokerPatience(resend_s=settings.broker.resend_seconds, ageing_s=settings.dispatch.ageing_seconds),
        )
        upgrade = Upgrade(Interventions(self._engine), model_versions(find_models(settings)))
        stations = {
            "assembly": assembly.tick,
            "imaging_orders": build_imaging_orders(settings, self._engine).tick,
            "routing": self._routing.tick,
            "ordering": build_ordering(settings, self._engine).tick,
            "prior_waits": PriorWaits(PriorLedger(self._engine), call=self._call_prior_seekers).tick,
            "upgrade": upgrade.tick,
            "dispatch": dispatch.tick,
        }
        leaps, lease_s = LeapLedger(self._engine), settings.dispatch.lease_seconds
        return Belt(
            "stations",
            stations,
            utc_now,
            follow=lambda leap, now: leaps.follow_clock(leap, now=now, lease_s=lease_s),
            sharing=self._sharing,
        )

    def _build_led(self, name: str, tick: Tick) -> Belt:
        """Return a belt of one station that ticks on one node of the ledger at a time."""
        station = name.partition("-")[0]
        return Belt(name, {station: tick}, utc_now, sharing=self._sharing)

    def _build_courier(self, name: str) -> Belt:
        settings = self._settings
        spec = destination_spec(settings, name)
        patience = Patience(
            first_retry_s=settings.delivery.first_retry_seconds,
            max_retry_s=settings.delivery.max_retry_seconds,
            give_up_days=settings.delivery.give_up_days,
            per_minute=settings.destinations[name].per_minute,
        )
        courier = Courier(
            destination=name,
            ledger=DeliveryLedger(self._engine),
            transport=open_transport(spec, read_answer=AnswerLedger(self._engine).read_answer),
            lookout=Lookout(
                destination=name,
                address=settings.destinations[name].address,
                probe=partial(probe_forms, spec),
                ledger=CapabilityLedger(self._engine),
                patience=patience,
                chance=random.random,
            ),
            patience=patience,
            surroundings=Surroundings(
                locate=self._store.path,
                clock=utc_now,
                chance=random.random,
                depart=partial(self._open_transfer, remote_of(settings, name)),
                knock=partial(knock, spec),
            ),
        )

        def tick(now: datetime) -> datetime | None:
            next_at = courier.tick(now)
            self._confirmers[name].wake()
            return next_at

        return self._build_led(f"delivery-{name}", tick)

    def _build_confirmer(self, name: str) -> Belt:
        """Return what asks a Destination whether it holds what it took; on its own: no Delivery waits for it."""
        confirmer = Confirmer(
            destination=name,
            ledger=CommitmentLedger(self._engine),
            terms=confirmation_terms(self._settings, name),
            surroundings=Asking(
                open_inquiry=partial(open_inquiry, destination_spec(self._settings, name)),
                clock=utc_now,
                chance=random.random,
                resent=lambda: self._couriers[name].wake(),
            ),
        )
        return self._build_led(f"confirmation-{name}", confirmer.tick)

    def _build_herald(self) -> Herald:
        """Return what tells subscribers of workitems; on its own: they may be slow, or silent."""
        ledger = SubscriptionLedger(self._engine, workitem_premises(self._settings))
        return Herald(ledger, event_peers(self._settings), send_events)

    def _build_asker(self, name: str, spec: DestinationSpec) -> Belt:
        """Return what asks a peer how much there is of open Studies; on its own: it may be slow, or silent."""
        asker = Asker(
            peer=name,
            ledger=ExpectationLedger(self._engine),
            terms=completeness_terms(self._settings),
            surroundings=Enquiring(
                open_enquiry=partial(open_enquiry, spec),
                told=way_to_ask(spec),
                clock=utc_now,
                chance=random.random,
                answered=self._belt.wake,
            ),
            per_minute=self._settings.assembly.questions_per_minute,
        )
        return self._build_led(f"asker-{name}", asker.tick)

    def _build_fetcher(self, name: str, peer: PullPeer) -> Fetcher:
        """Return what fetches from a peer; what does not come by its own Associations enters by `Quay`."""
        quay = Quay(
            intake=build_intake(self._settings, store=self._store, ledger=self._registrar, witness=self._witness),
            association_prefix=lambda: association_prefix(self._lock.read_name()),
            closers=self._closers,
        )

        @contextmanager
        def open_peer() -> Iterator[Retrieval]:
            with (
                quay.land(peer.spec) as landing,
                open_retrieval(peer.spec, landing, retrieve=peer.terms.retrieve) as retrieval,
            ):
                yield retrieval

        return Fetcher(
            source=name,
            queue=FetchLedger(self._engine),
            terms=peer.terms,
            surroundings=Fetching(
                open_retrieval=open_peer, clock=utc_now, chance=random.random, ended=lambda: self._belt.wake()
            ),
        )

    def _build_fetching(self, name: str, peer: PullPeer) -> Belt:
        """Return what fetches from a peer, and asks it where that is set; on its own: it may be slow, or silent."""
        stations: dict[str, Tick] = {"fetching": self._fetchers[name].tick}
        if peer.terms.poll is not None:
            poller = Poller(
                source=name,
                ledger=FetchLedger(self._engine),
                terms=peer.terms,
                poll=peer.terms.poll,
                surroundings=Polling(open_search=partial(open_search, peer.spec), clock=utc_now, chance=random.random),
            )
            stations = {"polling": poller.tick, **stations}
        return Belt(f"fetching-{name}", stations, utc_now, sharing=self._sharing)

    def _build_prior_seekers(self) -> tuple[Belt, ...]:
        """Return what asks each peer for the priors that rules want of it; a fetch that takes long holds none up."""
        settings, peers = self._settings, pull_peers(self._settings)
        seekers = {
            peer: PriorSeeker(
                peer=peer,
                sources=sources,
                ledger=PriorLedger(self._engine),
                surroundings=SeekingPriors(
                    open_search=partial(open_search, peers[peer].spec),
                    committed=self._wake_stations,
                    clock=utc_now,
                    chance=random.random,
                ),
            )
            for peer, sources in prior_sources(settings, read_rules(settings, find_models(settings))).items()
        }
        return tuple(self._build_led(f"priors-{peer}", seeker.tick) for peer, seeker in seekers.items())

    def _call_prior_seekers(self) -> None:
        for seeker in self._prior_seekers:
            seeker.wake()

    def _build_seeker(self) -> tuple[Belt, ...]:
        """Return what asks a Modality Worklist for orders, on its own; none where nobody is to be asked."""
        spec, ledger = worklist_peer(self._settings), OrderLedger(self._engine)
        if spec is None:
            return ()
        seeker = OrderSeeker(
            peer=spec.name,
            surroundings=Seeking(
                unordered=ledger.unordered_studies,
                open_worklist=partial(open_worklist, spec),
                record=lambda orders: ledger.record(Told(orders=tuple(orders)), now=utc_now()),
                committed=self._belt.wake,
                clock=utc_now,
                chance=random.random,
            ),
        )
        return (self._build_led("seeker", seeker.tick),)

    def _build_hl7(self) -> Listener:
        settings, ledger = self._settings.hl7, OrderLedger(self._engine)
        desk = OrderDesk(
            lambda orders, digest: ledger.record(Told(orders=tuple(orders), digest=digest), now=utc_now()),
            committed=self._belt.wake,
            clock=utc_now,
        )
        identity = tls_identity(settings.tls, where="hl7.tls")
        terms = Terms(
            bind=settings.bind,
            port=settings.port,
            networks=settings.allowed_networks,
            max_connections=settings.max_connections,
            max_bytes=settings.max_message_bytes,
            message_s=settings.message_s,
        )
        return Listener(terms, desk, tls=None if identity is None else server_context(identity))

    def _open_transfer(self, remote: Remote, study_instance_uid: StudyUID) -> Transfer:
        patient_id = self.view.patient_id(study_instance_uid)
        subject = StudySubject(study_instance_uid=study_instance_uid, patient_id=patient_id)
        return Transfer(self._witness, Movement(subject=subject, remote=remote, is_incoming=False))

    def _spawn_worker(self) -> "subprocess.Popen[bytes]":
        device = self._role.device
        # Beside the node it has the cores for one Job at a time; how many suit a device it knows itself.
        processes = ("--processes", "1") if device == "cpu" else ()
        return spawn_worker(self._settings, ("serve", "--device", device, *processes))


def open_restorer(settings: Settings, engine: Engine) -> LedgerRestorer:
    """Return what makes a lost ledger anew, and brings an older one up to the store."""
    return LedgerRestorer(settings, engine, destinations=destination_names(settings), clock=utc_now)
