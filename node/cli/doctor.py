"""`radnode doctor`: tries everything that the node needs."""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import typer

from node.alarms.backlog import explain_stray
from node.audit.inspection import prove_trail
from node.bell import probe_broker
from node.broker import find_server
from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors
from node.clock import utc_now
from node.data_folder import has_data_folder
from node.delivery.inquiry import Way, offered_ways
from node.delivery.lookout import see
from node.delivery.probe import probe_destination, probe_forms
from node.destinations import destination_spec, worklist_peer
from node.domain.confirmation import ConfirmBy
from node.errors import AuditBroken, DestinationDown, NodeError, SettingsInvalid
from node.hl7.listener import require_guarded
from node.ledger.alarms import AlarmLedger
from node.ledger.engine import require_whole
from node.ledger.file import ledger_file
from node.ledger.opening import find_ledger, has_ledger, open_capabilities, open_deliveries, place_of
from node.models import find_model
from node.peers.peer import DestinationSpec
from node.pulling.worklist_query import open_worklist
from node.receiver import tls_identity
from node.settings.whole import Settings
from node.site import find_models, model_folders, read_rules
from node.tls import TlsIdentity, prove_identity
from node.volumes import audit_folder, require_room_for_store
from node.web.host import identity_of
from node.wording import age

# Files of the audit trail that are looked at: yesterday and today, where something is recorded every day.
PROVEN_FILES = 2
# What a disk of our days gives in a second or two.
LEDGER_READ_BYTES = 512 * 1024**2
# Whoever listens on this machine takes a connection sooner.
LISTENS_WITHIN_S = 2.0
# Time to renew a certificate in peace.
RENEW_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried."""

    name: str
    is_right: bool
    said: str


@reports_errors
def doctor(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Try everything that the node needs, and list its alarms; exit code 1 if one fails, or stands."""
    loaded = read_settings(settings)
    has_data_folder(loaded.node.data_dir)
    checks = [
        *(_try(name, probe) for name, probe in _probes(loaded).items()),
        *_read_alarms(loaded),
        *_read_strays(loaded),
    ]
    if as_json:
        print_json(checks)
    else:
        rows = [("right" if c.is_right else "WRONG", c.name, c.said) for c in checks]
        print_table(("", "What", "Found"), rows, empty="")
    if not all(check.is_right for check in checks):
        raise typer.Exit(EXIT_FAILURE)


def _probes(settings: Settings) -> dict[str, Callable[[], str]]:
    probes: dict[str, Callable[[], str]] = {
        "audit trail": lambda: _probe_trail(settings),
        "ledger": lambda: _probe_ledger(settings),
        "store": lambda: _probe_store(settings),
        "broker": lambda: _probe_broker(settings),
        "rules": lambda: f"{len(read_rules(settings, find_models(settings)))} rules are right",
    }
    identity = tls_identity(settings.security.tls)
    if identity is not None:
        probes["tls"] = lambda: _probe_tls(identity)
    of_web = identity_of(settings.web)
    if of_web is not None:
        probes["web tls"] = lambda: _probe_tls(of_web)
    if settings.hl7.port:
        probes["hl7"] = lambda: _probe_hl7(settings)
    source = worklist_peer(settings)
    if source is not None:
        probes["worklist"] = lambda: _probe_worklist(source)
    for name in settings.pipelines:
        probes[f"model of {name}"] = lambda name=name: _probe_model(settings, name)  # type: ignore[misc]  # binds name
    for name in settings.destinations:
        probes[f"destination {name}"] = lambda name=name: _probe_destination(settings, name)  # type: ignore[misc]  # binds name
    return probes


def _try(name: str, probe: Callable[[], str]) -> Check:
    try:
        return Check(name=name, is_right=True, said=probe())
    except NodeError as exc:
        return Check(name=name, is_right=False, said=f"{exc.code}: {exc}")


def _read_alarms(settings: Settings) -> list[Check]:
    """Return what the node itself has noticed, one for each alarm that stands; nothing before its first start."""
    try:
        if not has_ledger(settings):
            return []
        standing = AlarmLedger(find_ledger(settings)).standing_alarms()
    except NodeError as exc:
        return [Check(name="alarms", is_right=False, said=f"{exc.code}: {exc}")]
    if not standing:
        return [Check(name="alarms", is_right=True, said="none stands")]
    return [
        Check(
            name=f"alarm {alarm.kind.value} {alarm.subject}".rstrip(),
            is_right=False,
            said=f"for {age(alarm.raised_at)}: {alarm.text}",
        )
        for alarm in standing
    ]


def _read_strays(settings: Settings) -> list[Check]:
    """Return each Destination that the settings do not name, and for which something waits."""
    try:
        if not has_ledger(settings):
            return []
        waiting = open_deliveries(settings).waiting_destinations()
    except NodeError as exc:
        return [Check(name="deliveries", is_right=False, said=f"{exc.code}: {exc}")]
    strays = sorted(waiting.difference(settings.destinations))
    return [Check(name=f"destination {name}", is_right=False, said=explain_stray(name)) for name in strays]


def _probe_ledger(settings: Settings) -> str:
    if not has_ledger(settings):
        return f"there is none yet {place_of(settings)}; `radnode up` makes it"
    with contextlib.closing(find_ledger(settings).raw_connection()):
        said = "opens, schema is of this version"
    path = ledger_file(settings.ledger_url)
    if path is None:
        return said
    if path.stat().st_size > LEDGER_READ_BYTES:
        return f"{said}; `radnode ledger check` looks for damage, which would take too long here"
    require_whole(find_ledger(settings))
    return f"{said}, no page is damaged"


def _probe_trail(settings: Settings) -> str:
    """Return that the newest part of the trail is whole; `radnode audit verify` looks at all of it."""
    folder = audit_folder(settings)
    # Where it is closed its files are not seen, and it would seem empty.
    has_data_folder(folder)
    proof = prove_trail(folder, newest_files=PROVEN_FILES)
    if proof.broken is not None:
        raise AuditBroken(f"{proof.broken}; keep the folder as it is, and find out who changed it")
    return f"records {proof.first} to {proof.last} are whole" if proof.records else "empty"


def _probe_store(settings: Settings) -> str:
    require_room_for_store(settings)
    return f"{settings.store_root} has more free space than its reserve"


def _probe_tls(identity: TlsIdentity) -> str:
    """Return until when the certificate is valid; one that must be renewed soon is wrong already."""
    until = prove_identity(identity)
    if until - utc_now() < RENEW_BEFORE:
        raise SettingsInvalid(
            f"{identity.where}.certificate {identity.certificate} expires on {until:%Y-%m-%d}; renew it"
        )
    asked = "peers need none" if identity.ca is None else f"peers need one of {identity.ca}"
    return f"the certificate is valid until {until:%Y-%m-%d}, {asked}"


def _probe_broker(settings: Settings) -> str:
    url = settings.broker.url.get_secret_value()
    if not url:
        return f"embedded: {find_server()}, files in {settings.broker_dir}"
    probe_broker(url)
    return "answers"


def _probe_hl7(settings: Settings) -> str:
    """Return in words who may send orders, and whether anybody listens; a node that is not up does not."""
    told = settings.hl7
    require_guarded(told.bind, told.allowed_networks)
    identity = tls_identity(told.tls, where="hl7.tls")
    how = "plain" if identity is None else f"by TLS, {_probe_tls(identity)}"
    who = ", ".join(map(str, told.allowed_networks)) or "this machine"
    try:
        with socket.create_connection((told.bind, told.port), timeout=LISTENS_WITHIN_S):
            listens = "takes connections"
    except OSError:
        listens = "nobody listens there now; `radnode up` does"
    return f"{told.bind}:{told.port}, {how}, orders of {who}: {listens}"


def _probe_worklist(spec: DestinationSpec) -> str:
    """Return in words that the Modality Worklist of ``[worklist]`` can be asked."""
    try:
        with open_worklist(spec):
            return f"{spec.aet.strip()} at {spec.host}:{spec.port} has a Modality Worklist that radnode may ask"
    except DestinationDown as exc:
        raise DestinationDown(
            f"{exc}; Studies go on without orders: correct [worklist], or start the worklist"
        ) from exc


def _probe_destination(settings: Settings, name: str) -> str:
    """Return in words that a Destination answers and what it accepts, after the ledger, if there is one, knows too."""
    spec, address = destination_spec(settings, name), settings.destinations[name].address
    said = probe_destination(spec)
    if settings.destinations[name].is_told:
        return f"{said}; is told of each answer by one message"
    accepted = probe_forms(spec)
    known = None if accepted is None else see(name, address, accepted, now=utc_now())
    if has_ledger(settings):
        ledger = open_capabilities(settings)
        if known is not None:
            # Who asks by hand has perhaps changed something there: what was learned before does not count any more.
            ledger.record_probe(known, forgets_answers=True)
        known = ledger.find_capability(name, address)
    takes = known.describe() if known is not None else "what it takes shows when something is sent"
    return f"{said}; {takes}; {_probe_confirmation(settings, spec)}"


def _probe_confirmation(settings: Settings, spec: DestinationSpec) -> str:
    """Return in words how a Destination proves that it holds what it took."""
    if spec.confirm is ConfirmBy.NONE:
        return "it is not asked whether it holds what it took"
    ways = offered_ways(spec)
    if not ways:
        return "it proves nothing beyond its first answer"
    may_call = settings.security.calling_aets
    if ways[0] is Way.COMMITMENT and may_call and spec.aet.strip() not in may_call:
        raise SettingsInvalid(
            f"{spec.aet.strip()} reports by Storage Commitment, and may not call: add it to security.calling_aets, "
            f"or say 'query' or 'none' in destinations.{spec.name}.confirm"
        )
    return f"proves what it holds by {' or '.join(way.value for way in ways)}"


def _probe_model(settings: Settings, name: str) -> str:
    card = find_model(settings.pipelines[name].model, model_folders(settings))
    card.verify_weights()
    return f"{card.name} {card.version}, weights are as named; {card.notice}"
