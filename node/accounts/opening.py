"""Doorkeeper and registry on one ledger, put together as settings say."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from node.accounts.claims import RoleTerms
from node.accounts.doorkeeper import Doorkeeper
from node.accounts.passwords import PasswordHashes
from node.accounts.registry import Registry
from node.audit.message import AuditEvent
from node.clock import Clock
from node.domain.account import Role
from node.ledger.accounts import AccountLedger
from node.ledger.engine import Engine
from node.ledger.logins import Lifetimes, LoginLedger
from node.settings.web import OidcSettings, WebSettings

if TYPE_CHECKING:
    from node.accounts.provider import Provider


def open_doorkeeper(
    engine: Engine,
    web: WebSettings,
    *,
    clock: Clock,
    tell: Callable[[AuditEvent], None],
    hashes: PasswordHashes | None = None,
) -> Doorkeeper:
    """Return what lets people and programs in."""
    lifetimes = Lifetimes(idle=timedelta(hours=web.session_idle_hours), whole=timedelta(days=web.session_days))
    ledgers = (AccountLedger(engine), LoginLedger(engine))
    return Doorkeeper(ledgers, lifetimes=lifetimes, hashes=hashes or PasswordHashes(), clock=clock, tell=tell)


def open_registry(
    engine: Engine,
    *,
    clock: Clock,
    tell: Callable[[AuditEvent], None],
    hashes: PasswordHashes | None = None,
) -> Registry:
    """Return what changes who may come in."""
    ledgers = (AccountLedger(engine), LoginLedger(engine))
    return Registry(ledgers, hashes=hashes or PasswordHashes(), clock=clock, tell=tell)


def open_provider(oidc: OidcSettings, *, clock: Clock) -> "Provider | None":
    """Return the OpenID provider, None where there is none."""
    if not oidc.issuer:
        return None
    # Here: it takes a quarter of a second, and most nodes have none.
    from node.accounts.provider import Provider, Terms

    roles = {Role.ADMIN: oidc.admins, Role.OPERATOR: oidc.operators, Role.VIEWER: oidc.viewers}
    terms = Terms(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        client_secret=oidc.client_secret.get_secret_value(),
        scopes=oidc.scopes,
        ca=oidc.ca,
        roles=RoleTerms(claim=oidc.role_claim, values=roles),
    )
    return Provider(terms, clock=clock)
