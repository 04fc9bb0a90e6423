"""Who may come in: users, and tokens of programs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Path

from node.accounts.registry import TokenOrder
from node.domain.account import RIGHTS, Role, Token, User
from node.errors import NotAuthorized
from node.web.api.conduct import Manager, new_router
from node.web.api.contract import told
from node.web.rights import Right, Visitor
from node.web.services import Services

CREATED = 201
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
MAX_DAYS = 3650
Name = Annotated[str, Path(description="Letters, digits, and . _ @ + -.", pattern=NAME)]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserResource:
    """A person who may log in.

    Attributes
    ----------
    is_of_provider
        Whether an OpenID provider knows them.
    seen_at
        When a session of theirs was used last; null: there is none now.
    """

    name: str
    role: Role
    is_disabled: bool
    has_password: bool
    is_of_provider: bool
    created_at: datetime
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserList:
    """All users by name."""

    items: tuple[UserResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOrder:
    """Who is to be a user."""

    name: Annotated[str, Body(pattern=NAME)]
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChange:
    """What is to be different; null leaves it."""

    role: Role | None = None
    is_disabled: Annotated[bool | None, Body(strict=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResource:
    """A one-time link, by which a person sets a password; it is told once.

    Attributes
    ----------
    path
        Behind the address of the node.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResource:
    """What a program shows instead of a password.

    Attributes
    ----------
    expires_at
        Null: it counts until it is revoked.
    used_at
        To the minute; null: never.
    """

    name: str
    scopes: tuple[Right, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenList:
    """All tokens by name; their secrets are not kept."""

    items: tuple[TokenResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTokenOrder:
    """What token is wanted.

    Attributes
    ----------
    scopes
        Rights that it has; no more than who orders it has.
    days
        How long it counts; null: until it is revoked.
    """

    name: Annotated[str, Body(pattern=NAME)]
    scopes: Annotated[tuple[Right, ...], Body(min_length=1, max_length=len(Right))]
    days: Annotated[float | None, Body(ge=1, le=MAX_DAYS, strict=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A new token, which nobody can learn again."""

    name: str
    token: str


def router(services: Services) -> APIRouter:
    """Return what programs ask of accounts, and order."""
    routes = new_router("accounts")
    _add_users(routes, services)
    _add_tokens(routes, services)
    return routes


def _add_users(routes: APIRouter, services: Services) -> None:
    registry = services.registry

    @routes.get("/users", **told(Right.MANAGE))
    def list_users(_manager: Manager) -> UserList:
        """List who may log in."""
        return UserList(items=tuple(map(_to_user, registry.users())))

    @routes.post("/users", status_code=CREATED, **told(Right.MANAGE, 409))
    def add_user(manager: Manager, order: UserOrder) -> LinkResource:
        """Add a user of no more rights than one's own, and tell the link by which they set a password."""
        _require_rights(manager, order.role)
        user = registry.add_user(order.name, order.role, password=None, by=manager.name)
        return _link(user.name, registry.link_for(user.name, by=manager.name))

    @routes.post("/users/{name}/change", **told(Right.MANAGE, 404, 409))
    def change_user(manager: Manager, name: Name, change: UserChange) -> UserResource:
        """Give a user another role, or let them in no more, or again; who is disabled is logged out."""
        _require_rights(manager, registry.find_user(name.lower()).role)
        if change.role is not None:
            _require_rights(manager, change.role)
            registry.set_role(name.lower(), change.role, by=manager.name)
        if change.is_disabled is not None:
            registry.set_disabled(name.lower(), is_disabled=change.is_disabled, by=manager.name)
        return _to_user(registry.find_user(name.lower()))

    @routes.post("/users/{name}/link", status_code=CREATED, **told(Right.MANAGE, 404, 409))
    def make_link(manager: Manager, name: Name) -> LinkResource:
        """Tell a new link by which a user sets a password, once, within a day."""
        _require_rights(manager, registry.find_user(name.lower()).role)
        return _link(name.lower(), registry.link_for(name.lower(), by=manager.name))

    @routes.delete("/users/{name}", status_code=204, **told(Right.MANAGE, 404, 409))
    def remove_user(manager: Manager, name: Name) -> None:
        """Remove a user."""
        _require_rights(manager, registry.find_user(name.lower()).role)
        registry.remove_user(name.lower(), by=manager.name)


def _add_tokens(routes: APIRouter, services: Services) -> None:
    registry = services.registry

    @routes.get("/tokens", **told(Right.MANAGE))
    def list_tokens(_manager: Manager) -> TokenList:
        """List the tokens of programs."""
        return TokenList(items=tuple(map(_to_token, registry.tokens())))

    @routes.post("/tokens", status_code=CREATED, **told(Right.MANAGE, 409))
    def add_token(manager: Manager, order: NewTokenOrder) -> NewToken:
        """Make a token, and tell it once."""
        scopes = frozenset(order.scopes)
        if missing := scopes - manager.rights:
            raise NotAuthorized(f"nobody gives away what they have not: {', '.join(sorted(missing))}")
        life = None if order.days is None else timedelta(days=order.days)
        name = order.name.lower()
        secret = registry.add_token(TokenOrder(name=name, scopes=scopes, life=life), by=manager.name)
        return NewToken(name=name, token=secret)

    @routes.delete("/tokens/{name}", status_code=204, **told(Right.MANAGE, 404))
    def revoke_token(manager: Manager, name: Name) -> None:
        """Revoke a token; it counts no more from now on."""
        registry.revoke_token(name.lower(), by=manager.name)


def _require_rights(manager: Visitor, role: Role) -> None:
    # Whoever could make an admin, or log in as one, would be one.
    if missing := RIGHTS[role] - manager.rights:
        raise NotAuthorized(f"nobody gives away what they have not: {', '.join(sorted(missing))}")


def _link(name: str, secret: str) -> LinkResource:
    return LinkResource(name=name, path=f"/welcome/{secret}")


def _to_user(user: User) -> UserResource:
    kept = ("name", "role", "is_disabled", "has_password", "created_at", "seen_at")
    return UserResource(is_of_provider=bool(user.subject), **{name: getattr(user, name) for name in kept})


def _to_token(token: Token) -> TokenResource:
    kept = ("name", "created_at", "created_by", "expires_at", "used_at")
    return TokenResource(scopes=tuple(sorted(token.scopes)), **{name: getattr(token, name) for name in kept})
