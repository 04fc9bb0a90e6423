"""Who may do what: rights, the roles that hold them, users, and tokens of programs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from node.errors import SettingsInvalid

# Stands in logs, trails and command lines, and is compared letter by letter.
NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}\Z")


class Right(StrEnum):
    """What a route does."""

    READ = "read"
    REVIEW = "review"
    STORE = "store"
    OPERATE = "operate"
    DELETE = "delete"
    MANAGE = "manage"


class Role(StrEnum):
    """What a person is to the node."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_VIEWER = frozenset({Right.READ, Right.REVIEW})
_OPERATOR = _VIEWER | {Right.STORE, Right.OPERATE}
RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType({
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: frozenset(Right),
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may log in.

    Attributes
    ----------
    has_password
        Whether one was set; who has none uses a one-time link, or the provider.
    subject
        Issuer and subject at an OpenID provider; empty for a user of this node alone.
    seen_at
        When a session of theirs was used last, to the minute; None: there is none now.
    """

    user_id: int
    name: str
    role: Role
    is_disabled: bool
    has_password: bool
    subject: str
    created_at: datetime
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a program shows instead of a password; its secret is told once and not kept.

    Attributes
    ----------
    expires_at
        None: it stays until it is revoked.
    used_at
        To the minute; None: never.
    """

    name: str
    scopes: frozenset[Right]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    used_at: datetime | None = None


def check_name(name: str, *, what: str) -> str:
    """Return `name` in small letters, as it is kept.

    Parameters
    ----------
    what
        Whose name it is, for the text of an error.

    Raises
    ------
    SettingsInvalid
        If it is none.
    """
    small = name.strip().lower()
    if NAME.match(small) is None:
        raise SettingsInvalid(
            f"the name of a {what} is 1-64 letters (a-z), digits, or . _ @ + -, and begins with a letter or digit"
        )
    return small
