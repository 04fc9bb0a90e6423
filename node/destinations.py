"""What settings say of a Destination, as transports, confirmers and the audit trail want to know it."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from node.audit.events import Remote
from node.delivery.confirmer import Terms
from node.delivery.patience import Patience
from node.delivery.transport import DestinationSpec
from node.settings import DestinationTls, Settings
from node.tls import TlsTrust


def destination_names(settings: Settings) -> Mapping[str, str]:
    """Return the name of each Destination to what the audit trail calls it."""
    return {name: remote_of(settings, name).name for name in settings.destinations}


def destination_spec(settings: Settings, name: str) -> DestinationSpec:
    """Return what a transport needs to know of a Destination."""
    destination = settings.destinations[name]
    tls = destination.tls
    return DestinationSpec(
        name=name,
        **destination.model_dump(exclude={"tls", "per_minute"}),
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
