"""What settings say of a Destination, as transports, confirmers and the audit trail want to know it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from node.audit.events import Remote
from node.delivery.confirmer import Terms
from node.domain.fetch_terms import FetchTerms, Poll, read_hours, read_span
from node.errors import NotFound
from node.ledger.job_workitems import Premises
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from node.settings.peers import HOLDING, DestinationTls, SenderSettings
from node.settings.whole import Settings
from node.tls import TlsTrust

# Silence after which a peer that is asked how much it holds counts as absent; Studies wait for its answer.
ASK_TIMEOUT_S = 10.0
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 compared, not bound


def destination_names(settings: Settings) -> Mapping[str, str]:
    """Return the name of each Destination to what the audit trail calls it."""
    return {name: remote_of(settings, name).name for name in settings.destinations}


def destination_spec(settings: Settings, name: str) -> DestinationSpec:
    """Return what a transport needs to know of a Destination."""
    destination = settings.destinations[name]
    tls = destination.tls
    return DestinationSpec(
        name=name,
        **destination.model_dump(exclude={"tls", "per_minute", "token"}),
        token=destination.token.get_secret_value(),
        tls=None if tls is None else tls_trust(tls, where=f"destinations.{name}.tls"),
        calling_aet=settings.node.aet,
        timeout_s=settings.delivery.timeout_s,
    )


def confirmation_terms(settings: Settings, name: str) -> Terms:
    """Return how and how often a Destination is asked whether it holds what it took."""
    told = settings.delivery
    return Terms(
        confirm=settings.destinations[name].confirm,
        after=timedelta(seconds=told.confirm_after_seconds),
        wait=timedelta(minutes=told.confirm_minutes),
        tries=told.confirm_tries,
        patience=Patience(
            first_retry_s=told.first_retry_seconds,
            max_retry_s=told.max_retry_seconds,
            give_up_days=told.give_up_days,
        ),
    )


def asked_peers(settings: Settings) -> Mapping[str, DestinationSpec]:
    """Return who is asked how much of a Study there is, by the name under which ``[sources.*]`` has it."""
    peers: dict[str, DestinationSpec] = {}
    for name, entry in settings.sources.items():
        if entry.ask:
            peers[entry.ask] = destination_spec(settings, entry.ask)
        elif entry.host or entry.url:
            peers[name] = DestinationSpec(
                name=name,
                transport="cstore" if entry.host else "stow",
                aet=entry.aet,
                host=entry.host,
                port=entry.port,
                url=entry.url,
                calling_aet=settings.node.aet,
            )
    return {name: replace(spec, timeout_s=min(spec.timeout_s, ASK_TIMEOUT_S)) for name, spec in peers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPeer:
    """Whom Studies can be fetched from, and how."""

    spec: DestinationSpec
    terms: FetchTerms


def pull_peers(settings: Settings) -> Mapping[str, PullPeer]:
    """Return whom Studies can be fetched from: Destinations that hold them, and sources that have an address."""
    terms = {
        entry.ask or name: _fetch_terms(entry) for name, entry in settings.sources.items() if entry.says_how_to_fetch
    }
    own = {name: spec for name, spec in asked_peers(settings).items() if name not in settings.destinations}
    timeout_s = settings.delivery.timeout_s
    specs = {
        **{
            name: destination_spec(settings, name)
            for name, one in settings.destinations.items()
            if one.transport in HOLDING
        },
        **{name: replace(spec, timeout_s=timeout_s) for name, spec in own.items()},
    }
    return {name: PullPeer(spec=spec, terms=terms.get(name, FetchTerms())) for name, spec in specs.items()}


def find_pull_peer(settings: Settings, name: str) -> PullPeer:
    """Return who is meant by the name of a Destination or source; a source that asks a Destination is that.

    Raises
    ------
    NotFound
        If nothing can be fetched from anybody of that name.
    """
    peers = pull_peers(settings)
    entry = settings.sources.get(name)
    found = peers.get(name if entry is None else entry.ask or name)
    if found is None:
        known = ", ".join(peers) or "none; give one in [destinations.*] or [sources.*]"
        raise NotFound(f"no source of that name; those from which Studies can be fetched: {known}")
    return found


def _fetch_terms(entry: SenderSettings) -> FetchTerms:
    poll = entry.poll
    return FetchTerms(
        retrieve=entry.retrieve,
        hours=read_hours(entry.hours),
        per_minute=entry.per_minute,
        poll=None
        if poll is None
        else Poll(query=poll.query, every=timedelta(seconds=poll.every_seconds), since=read_span(poll.since)),
    )


def workitem_premises(settings: Settings) -> Premises:
    """Return where the Series and Results that workitems list can be had."""
    web = settings.web
    scheme = "https" if web.tls.certificate or web.behind_proxy else "http"
    host = web.hosts[0] if web.hosts else web.bind
    is_one_address = host not in EVERY_ADDRESS
    port = "" if web.behind_proxy else f":{web.port}"
    root = f"{scheme}://{host}{port}/dicom-web" if web.port and is_one_address else ""
    return Premises(aet=settings.node.aet, wado_root=root)


def event_peers(settings: Settings) -> Mapping[str, DestinationSpec]:
    """Return by AE title who can be told of workitems: Destinations by C-STORE, and sources that have an address."""
    told = [name for name, entry in settings.destinations.items() if entry.transport == "cstore"]
    peers = {settings.destinations[name].aet.strip(): destination_spec(settings, name) for name in told}
    for name, entry in settings.sources.items():
        if entry.host:
            peers[entry.aet.strip()] = DestinationSpec(
                name=name,
                transport="cstore",
                aet=entry.aet,
                host=entry.host,
                port=entry.port,
                url="",
                calling_aet=settings.node.aet,
            )
    return {aet: replace(spec, timeout_s=min(spec.timeout_s, ASK_TIMEOUT_S)) for aet, spec in peers.items()}


def worklist_peer(settings: Settings) -> DestinationSpec | None:
    """Return whose Modality Worklist is asked for orders; None: nobody's."""
    told = settings.worklist
    if told.ask:
        spec = destination_spec(settings, told.ask)
    elif told.host:
        spec = DestinationSpec(
            name="worklist",
            transport="cstore",
            aet=told.aet,
            host=told.host,
            port=told.port,
            calling_aet=settings.node.aet,
        )
    else:
        return None
    return replace(spec, timeout_s=min(spec.timeout_s, ASK_TIMEOUT_S))


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
