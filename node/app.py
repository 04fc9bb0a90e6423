"""Composition root: the only file of the node that names concrete classes."""

import logging
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from node.assembly import Assembly, QuietTime
from node.audit.account import find_account
from node.audit.events import Movement, Notice, Remote, StudySubject, application_activity
from node.audit.transfer import Transfer
from node.audit.witness import Witness
from node.bell import CeleryRinger, DoneListener
from node.broker import EmbeddedBroker
from node.children import Child
from node.clock import utc_now
from node.delivery.courier import Courier, Surroundings
from node.delivery.lookout import Lookout
from node.delivery.patience import Patience
from node.delivery.probe import knock, probe_forms
from node.delivery.transport import DestinationSpec, open_transport
from node.dimse.gate import Gate
from node.dimse.receivers import Receivers
from node.dispatch import BrokerPatience, Dispatch
from node.domain.model_version import ModelVersion
from node.domain.uids import StudyUID
from node.errors import LedgerBusy, PipelineUnknown
from node.intake.adoption import Adoption
from node.ledger.bell import BellLedger
from node.ledger.capabilities import CapabilityLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import Engine, migrate, open_engine, require_sound
from node.ledger.instances import InstanceLedger
from node.ledger.interventions import Interventions
from node.ledger.jobs import JobLedger, RetryPolicy
from node.ledger.leaps import LeapLedger
from node.ledger.retractions import RetractionLedger
from node.ledger.studies import StudyLedger
from node.ledger.views import LedgerView
from node.lock import FolderLock
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.receiver import SWITCH_INTERVAL_S, adopt_journals, listener_settings, open_store, open_trail, spawn_receiver
from node.routing import Routing
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.scheduler import Belt
from node.settings import DestinationTls, Settings
from node.tls import TlsTrust
from node.upgrade import Upgrade
from node.upkeep import LedgerRestorer, build_retention

logger = logging.getLogger(__name__)

WORKER_STOP_S = 30.0
STANDARD_ERROR = 2


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
        self._broker = None if settings.broker.url.get_secret_value() else self._build_broker(settings)
        self._settings = settings if self._broker is None else settings.with_broker(self._broker.url)
        self._engine = open_ledger(settings)
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
        self._cleaning = Belt("retention", {"retention": self._retention.tick}, utc_now)
        self._couriers = {name: self._build_courier(name) for name in settings.destinations}
        self._ears = DoneListener(self._broker_url, self._wake_couriers)
        self._receivers = self._build_receivers()
        self._worker = Child("worker", self._spawn_worker, stop_timeout_s=WORKER_STOP_S)

    def start(self) -> tuple[str, int]:
        """Bring everything up, in the order in which it is needed; returns address and port for DICOM.

        Raises
        ------
        Misconfigured
            If the port or the data folder is taken, the node would be open to anybody, or no audit trail can be
            written.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._lock.hold()
        require_sound(self._engine)
        self._trail.append(application_activity(is_start=True, launcher=find_account()))
        self._witness.start()
        self._take_stock()
        address = self._receivers.start()
        if self._broker is not None:
            self._broker.start()
        self._belt.start()
        self._cleaning.start()
        for courier in self._couriers.values():
            courier.start()
        self._ears.start()
        if self._role.with_worker:
            self._worker.start()
        self._receivers.wait_until_ready()
        logger.info("node started", extra={"host": address[0], "port": address[1]})
        return address

    def stop(self) -> None:
        """Take everything down: no new Instance first, the worker's Job in hand last."""
        self._receivers.stop()
        self._belt.stop()
        self._cleaning.stop()
        if self._role.with_worker:
            self._worker.stop()
        self._ears.stop()
        for courier in self._couriers.values():
            courier.stop()
        if self._broker is not None:
            self._broker.stop()
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
        InstanceLedger(self._engine).end_all_associations(utc_now())
        if is_new:
            restorer.restore(self._adoption)
        else:
            self._retention.resume(utc_now())
            self._adoption.scan()

    @property
    def _broker_url(self) -> str:
        return self._settings.broker.url.get_secret_value()

    def _build_broker(self, settings: Settings) -> EmbeddedBroker:
        return EmbeddedBroker(broker_folder(settings), on_damage=self._tell_damage)

    def _tell_damage(self, aside: Path) -> None:
        try:
            BellLedger(self._engine).tell_damaged(aside, utc_now())
        except LedgerBusy as exc:
            # The broker is started all the same; the log has it.
            logger.warning("damage not told", extra={"reason_code": exc.code})

    def _wake_couriers(self) -> None:
        for courier in self._couriers.values():
            courier.wake()

    def _build_receivers(self) -> Receivers:
        settings = self._settings
        gate = Gate(
            listener_settings(settings, insecure=self._role.insecure),
            committed=self._belt.wake,
            refused=self._note_stranger,
        )
        return Receivers(gate, partial(spawn_receiver, settings), count=settings.node.receivers)

    def _note_stranger(self, host: str) -> None:
        text = f"{host} is not in security.allowed_networks; add its network there if it may send"
        notice = Notice(kind="connection-refused", code="network not allowed", text=text, peer=host)
        # The ledger may be locked for long, and the gate waits for nobody; where no thread is to be had, its log tells.
        with suppress(RuntimeError):
            Thread(target=self._witness.refused, args=(notice,), daemon=True).start()

    def _build_belt(self) -> Belt:
        settings = self._settings
        assembly = build_assembly(settings, self._engine)
        dispatch = Dispatch(
            JobLedger(self._engine),
            self._ringer,
            story=BellLedger(self._engine),
            policy=retry_policy(settings),
            patience=BrokerPatience(resend_s=settings.broker.resend_seconds),
        )
        upgrade = Upgrade(Interventions(self._engine), model_versions(find_models(settings)))
        stations = {
            "assembly": assembly.tick,
            "routing": self._routing.tick,
            "upgrade": upgrade.tick,
            "dispatch": dispatch.tick,
        }
        leaps, lease_s = LeapLedger(self._engine), settings.dispatch.lease_seconds
        return Belt(
            "stations",
            stations,
            utc_now,
            follow=lambda leap, now: leaps.follow_clock(leap, now=now, lease_s=lease_s),
        )

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
            surroundings=Surroundings(
                locate=self._store.path,
                clock=utc_now,
                chance=random.random,
                depart=partial(self._open_transfer, remote_of(settings, name)),
                knock=partial(knock, spec),
            ),
        )
        return Belt(f"delivery-{name}", {"delivery": courier.tick}, utc_now)

    def _open_transfer(self, remote: Remote, study_instance_uid: StudyUID) -> Transfer:
        patient_id = self.view.patient_id(study_instance_uid)
        subject = StudySubject(study_instance_uid=study_instance_uid, patient_id=patient_id)
        return Transfer(self._witness, Movement(subject=subject, remote=remote, is_incoming=False))

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


def open_interventions(settings: Settings) -> Interventions:
    """Return the Jobs of the ledger, for a person's orders."""
    return Interventions(open_ledger(settings))


def open_deliveries(settings: Settings) -> DeliveryLedger:
    """Return the Deliveries of the ledger, for a person's orders."""
    return DeliveryLedger(open_ledger(settings))


def open_capabilities(settings: Settings) -> CapabilityLedger:
    """Return what the ledger knows of each Destination."""
    return CapabilityLedger(open_ledger(settings))


def open_restorer(settings: Settings, engine: Engine) -> LedgerRestorer:
    """Return what makes a lost ledger anew."""
    return LedgerRestorer(settings, engine, destinations=destination_names(settings), clock=utc_now)


def destination_names(settings: Settings) -> Mapping[str, str]:
    """Return the name of each Destination to what the audit trail calls it."""
    return {name: remote_of(settings, name).name for name in settings.destinations}


def open_retractions(settings: Settings) -> RetractionLedger:
    """Return the retractions of the ledger, for a person's orders."""
    return RetractionLedger(open_ledger(settings))


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


def model_versions(models: Mapping[str, ModelCard]) -> Mapping[str, ModelVersion]:
    """Return Pipeline name to the version of its model."""
    return {name: ModelVersion(name=card.name, version=card.version) for name, card in models.items()}


def installed_model(settings: Settings, pipeline: str) -> ModelVersion:
    """Return the version of the model that a Pipeline has now.

    Raises
    ------
    PipelineUnknown
        If no Pipeline of that name is configured.
    ModelInvalid
        If its model is absent or its folder incomplete.
    """
    if pipeline not in settings.pipelines:
        raise PipelineUnknown(f"pipeline {pipeline!r} is unknown; known are {', '.join(settings.pipelines)}")
    card = find_model(settings.pipelines[pipeline].model, model_folders(settings))
    return ModelVersion(name=card.name, version=card.version)


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


def destination_spec(settings: Settings, name: str) -> DestinationSpec:
    """Return what a transport needs to know of a Destination."""
    destination = settings.destinations[name]
    tls = destination.tls
    return DestinationSpec(
        name=name,
        **destination.model_dump(exclude={"tls"}),
        tls=None if tls is None else tls_trust(tls, where=f"destinations.{name}.tls"),
        calling_aet=settings.node.aet,
        timeout_s=settings.delivery.timeout_s,
    )


def tls_trust(tls: DestinationTls, *, where: str) -> TlsTrust:
    """Return whom a Destination's settings trust; `where` is their table."""
    return TlsTrust(
        ca=_path(tls.ca),
        certificate=_path(tls.certificate),
        key=_path(tls.key),
        check_host=tls.check_host,
        where=where,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def remote_of(settings: Settings, name: str) -> Remote:
    """Return a Destination as the audit trail names it."""
    destination = settings.destinations[name]
    if destination.transport == "folder":
        return Remote(name=Path(destination.url).resolve().as_uri(), is_media=True)
    host = destination.host or urlsplit(destination.url).hostname or ""
    return Remote(name=name, aet=destination.aet, address=host)


def broker_folder(settings: Settings) -> Path:
    """Return where the embedded broker keeps its files."""
    return settings.node.data_dir / "broker"
