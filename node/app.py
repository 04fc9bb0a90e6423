"""Composition root: the only file of the node that names concrete classes."""

import logging
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from node.assembly import Assembly, QuietTime
from node.bell import CeleryRinger, DoneListener
from node.broker import EmbeddedBroker
from node.children import Child
from node.clock import utc_now
from node.delivery.courier import Courier, Surroundings
from node.delivery.lookout import Lookout
from node.delivery.patience import Patience
from node.delivery.probe import probe_forms
from node.delivery.transport import DestinationSpec, open_transport
from node.dimse.scp import DicomListener, ListenerSettings
from node.dispatch import Dispatch
from node.intake.adoption import Adoption
from node.intake.ports import IntakeLedger
from node.intake.station import Intake
from node.ledger.capabilities import CapabilityLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import Engine, migrate, open_engine
from node.ledger.instances import InstanceLedger
from node.ledger.jobs import JobLedger, RetryPolicy
from node.ledger.registrar import Registrar
from node.ledger.retractions import RetractionLedger
from node.ledger.studies import StudyLedger
from node.ledger.views import LedgerView
from node.lock import FolderLock
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.routing import Routing
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.scheduler import Belt
from node.settings import Settings
from node.store.files import FileStore, Reserve

logger = logging.getLogger(__name__)

WORKER_STOP_S = 30.0
STANDARD_ERROR = 2
# A receiver that comes back from the disk or the network waits so long for a busy station; Python's own 5 ms would be
# longer than everything else that an Instance takes.
SWITCH_INTERVAL_S = 0.0005


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
        settings.node.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(settings.node.data_dir)
        self._broker = None if settings.broker.url.get_secret_value() else EmbeddedBroker(broker_folder(settings))
        self._settings = settings if self._broker is None else settings.with_broker(self._broker.url)
        self._engine = open_ledger(settings)
        self._store = open_store(settings)
        self._routing = build_routing(self._settings, self._engine)
        self._ringer = CeleryRinger(self._broker_url)
        self._belt = self._build_belt()
        self._couriers = {name: self._build_courier(name) for name in settings.destinations}
        self._ears = DoneListener(self._broker_url, self._wake_couriers)
        self._registrar = Registrar(InstanceLedger(self._engine), self._belt.wake)
        self._listener = DicomListener(
            listener_settings(settings, insecure=self._role.insecure), self._build_intake(self._registrar)
        )
        self._worker = Child("worker", self._spawn_worker, stop_timeout_s=WORKER_STOP_S)
        self.view = LedgerView(self._engine)

    def start(self) -> tuple[str, int]:
        """Bring everything up, in the order in which it is needed; returns address and port for DICOM.

        Raises
        ------
        Misconfigured
            If the port or the data folder is taken, or the node would be open to anybody.
        BrokerUnreachable
            If the embedded broker does not start.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._lock.hold()
        instances = InstanceLedger(self._engine)
        instances.end_all_associations(utc_now())
        Adoption(store=self._store, ledger=instances, clock=utc_now).scan()
        self._registrar.start()
        address = self._listener.start()
        if self._broker is not None:
            self._broker.start()
        self._belt.start()
        for courier in self._couriers.values():
            courier.start()
        self._ears.start()
        if self._role.with_worker:
            self._worker.start()
        logger.info("node started", extra={"host": address[0], "port": address[1]})
        return address

    def stop(self) -> None:
        """Take everything down: no new Instance first, the worker's Job in hand last."""
        self._listener.stop()
        self._registrar.stop()
        self._belt.stop()
        if self._role.with_worker:
            self._worker.stop()
        self._ears.stop()
        for courier in self._couriers.values():
            courier.stop()
        if self._broker is not None:
            self._broker.stop()
        self._engine.dispose()
        self._lock.let_go()
        logger.info("node stopped")

    @property
    def _broker_url(self) -> str:
        return self._settings.broker.url.get_secret_value()

    def _wake_couriers(self) -> None:
        for courier in self._couriers.values():
            courier.wake()

    def _build_intake(self, ledger: IntakeLedger) -> Intake:
        return Intake(
            store=self._store,
            ledger=ledger,
            clock=utc_now,
            own_results=self._settings.security.own_results,
        )

    def _build_belt(self) -> Belt:
        settings = self._settings
        assembly = build_assembly(settings, self._engine)
        dispatch = Dispatch(
            JobLedger(self._engine),
            self._ringer,
            policy=retry_policy(settings),
            resend_s=settings.broker.resend_seconds,
        )
        stations = {"assembly": assembly.tick, "routing": self._routing.tick, "dispatch": dispatch.tick}
        return Belt("stations", stations, utc_now)

    def _build_courier(self, name: str) -> Belt:
        settings = self._settings
        spec = destination_spec(settings, name)
        patience = Patience(
            first_retry_s=settings.delivery.first_retry_seconds,
            max_retry_s=settings.delivery.max_retry_seconds,
            give_up_days=settings.delivery.give_up_days,
        )
        courier = Courier(
            destination=name,
            ledger=DeliveryLedger(self._engine),
            transport=open_transport(spec),
            lookout=Lookout(
                destination=name,
                address=settings.destinations[name].address,
                probe=partial(probe_forms, spec),
                ledger=CapabilityLedger(self._engine),
                patience=patience,
                chance=random.random,
            ),
            patience=patience,
            surroundings=Surroundings(locate=self._store.path, clock=utc_now, chance=random.random),
        )
        return Belt(f"delivery-{name}", {"delivery": courier.tick}, utc_now)

    def _spawn_worker(self) -> "subprocess.Popen[bytes]":
        return spawn_worker(self._settings, ("--ends-with-parent", "serve", "--device", self._role.device))


def spawn_worker(settings: Settings, arguments: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """Start `python -m workers` with these very settings."""
    command = [sys.executable, "-m", "workers", *arguments]
    environment = {**os.environ, **settings.as_environment()}
    # Celery says good-bye on standard output, which belongs to people and --json.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, env=environment)


def open_ledger(settings: Settings) -> Engine:
    """Return the ledger, its schema brought to this version.

    Raises
    ------
    LedgerUnusable
        If it cannot be opened, or was written by a newer radnode.
    """
    settings.node.data_dir.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    migrate(engine)
    return engine


def open_view(settings: Settings) -> LedgerView:
    """Return the ledger for reading."""
    return LedgerView(open_ledger(settings))


def open_jobs(settings: Settings) -> JobLedger:
    """Return the Jobs of the ledger, for a person's orders."""
    return JobLedger(open_ledger(settings))


def open_deliveries(settings: Settings) -> DeliveryLedger:
    """Return the Deliveries of the ledger, for a person's orders."""
    return DeliveryLedger(open_ledger(settings))


def open_capabilities(settings: Settings) -> CapabilityLedger:
    """Return what the ledger knows of each Destination."""
    return CapabilityLedger(open_ledger(settings))


def open_retractions(settings: Settings) -> RetractionLedger:
    """Return the retractions of the ledger, for a person's orders."""
    return RetractionLedger(open_ledger(settings))


def open_store(settings: Settings) -> FileStore:
    """Return the store of `settings`."""
    reserve = Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent)
    return FileStore(settings.store_root, reserve, settings.store.durability)


def model_folders(settings: Settings) -> tuple[Path, ...]:
    """Return where models are looked for, the site's own first."""
    return (*settings.models.dirs, SHIPPED_MODELS)


def find_models(settings: Settings) -> Mapping[str, ModelCard]:
    """Return Pipeline name to the model that settings give it.

    Raises
    ------
    ModelInvalid
        If a model is absent or its folder incomplete.
    """
    folders = model_folders(settings)
    return {name: find_model(entry.model, folders) for name, entry in settings.pipelines.items()}


def read_rules(settings: Settings, models: Mapping[str, ModelCard]) -> tuple[Rule, ...]:
    """Return the rules of `settings`.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If a rule cannot be evaluated.
    """
    return parse_rules(settings.rules, pipelines=models, destinations=settings.destinations)


def build_assembly(settings: Settings, engine: Engine) -> Assembly:
    """Return the assembly station."""
    assembly = settings.assembly
    heeds_ends = "association-end" in assembly.evidence
    quiet = QuietTime(
        after_association_s=assembly.quiet_seconds if heeds_ends else assembly.idle_seconds,
        while_open_s=assembly.idle_seconds,
    )
    return Assembly(StudyLedger(engine), quiet)


def build_routing(settings: Settings, engine: Engine) -> Routing:
    """Return the routing station; a rule that cannot be evaluated is refused here, before anything starts."""
    models = find_models(settings)
    return Routing(StudyLedger(engine), read_rules(settings, models), models)


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return how often a Job may start."""
    return RetryPolicy(max_attempts=settings.dispatch.max_attempts, pause_s=settings.dispatch.retry_seconds)


def listener_settings(settings: Settings, *, insecure: bool) -> ListenerSettings:
    """Return what the DICOM listener needs of `settings`."""
    node = settings.node
    return ListenerSettings(
        aet=node.aet,
        bind=node.bind,
        port=node.port,
        max_pdu_bytes=node.max_pdu_bytes,
        max_associations=node.max_associations,
        max_associations_per_peer=node.max_associations_per_peer,
        dimse_timeout_s=node.dimse_timeout_s,
        calling_aets=settings.security.calling_aets,
        insecure=insecure,
    )


def destination_spec(settings: Settings, name: str) -> DestinationSpec:
    """Return what a transport needs to know of a Destination."""
    destination = settings.destinations[name]
    return DestinationSpec(
        name=name,
        **destination.model_dump(),
        calling_aet=settings.node.aet,
        timeout_s=settings.delivery.timeout_s,
    )


def broker_folder(settings: Settings) -> Path:
    """Return where the embedded broker keeps its files."""
    return settings.node.data_dir / "broker"
