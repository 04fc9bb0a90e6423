"""Users in the ledger, and the one-time links by which they set a password."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from node.domain.account import Role, User
from node.errors import NotFound, WrongState
from node.ledger.engine import Desk
from node.ledger.schema import links, sessions, users


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """Who is to be added.

    Attributes
    ----------
    password
        A hash; None: none yet.
    subject
        Issuer and subject at an OpenID provider; empty for none.
    """

    name: str
    role: Role
    password: str | None = None
    subject: str = ""


class AccountLedger(Desk):
    """Who may log in."""

    def has_users(self) -> bool:
        """Return whether there is anybody."""
        with self.reading() as connection:
            return _has_users(connection)

    def list_users(self) -> tuple[User, ...]:
        """Return all users by name."""
        with self.reading() as connection:
            return tuple(_to_user(row) for row in connection.execute(_asked().order_by(users.c.name)))

    def find_user(self, name: str) -> User:
        """Return a user.

        Raises
        ------
        NotFound
            If there is none of this name.
        """
        with self.reading() as connection:
            return _to_user(_row_of(connection, name))

    def find_password(self, name: str) -> tuple[User, str | None] | None:
        """Return a user with the hash of the password, None where there is no such user."""
        with self.reading() as connection:
            row = connection.execute(_asked().where(users.c.name == name)).one_or_none()
            return None if row is None else (_to_user(row), row.password)

    def find_subject(self, subject: str) -> User | None:
        """Return whom an OpenID provider knows by this issuer and subject."""
        with self.reading() as connection:
            row = connection.execute(_asked().where(users.c.subject == subject)).one_or_none()
            return None if row is None else _to_user(row)

    def add_user(self, new: NewUser, *, now: datetime) -> User:
        """Commit a new user.

        Raises
        ------
        WrongState
            If the name is taken.
        """
        try:
            with self.writing() as connection:
                return _add(connection, new, now)
        except IntegrityError as exc:
            # Two at once: PostgreSQL lets both look before one of them writes.
            raise WrongState(f"there is a user {new.name} already; take another name") from exc

    def remove_user(self, name: str) -> None:
        """Commit that somebody is no user any more; sessions and links go with them.

        Raises
        ------
        NotFound
            If there is none of this name.
        WrongState
            If they are the last admin who may come in.
        """
        with self.writing() as connection:
            found = _row_of(connection, name).user_id
            _require_other_admin(connection, found)
            connection.execute(delete(users).where(users.c.user_id == found))

    def set_password(self, name: str, password: str) -> None:
        """Commit a hash; every session and every link of the user ends.

        Raises
        ------
        NotFound
            If there is none of this name.
        """
        with self.writing() as connection:
            _set_password(connection, _row_of(connection, name).user_id, password)

    def set_role(self, name: str, role: Role, *, is_of_provider: bool = False) -> None:
        """Commit a role; it counts from the next request on.

        Parameters
        ----------
        is_of_provider
            Whether an OpenID provider says so, which names another admin when it likes.

        Raises
        ------
        NotFound
            If there is none of this name.
        WrongState
            If they are the last admin who may come in, and would be none any more.
        """
        with self.writing() as connection:
            found = _row_of(connection, name).user_id
            if role is not Role.ADMIN and not is_of_provider:
                _require_other_admin(connection, found)
            connection.execute(update(users).where(users.c.user_id == found).values(role=role.value))

    def set_disabled(self, name: str, *, is_disabled: bool) -> None:
        """Commit whether a user may come in; every session of one who may not ends.

        Raises
        ------
        NotFound
            If there is none of this name.
        WrongState
            If they are the last admin who may come in.
        """
        with self.writing() as connection:
            found = _row_of(connection, name).user_id
            if is_disabled:
                _require_other_admin(connection, found)
            connection.execute(update(users).where(users.c.user_id == found).values(is_disabled=is_disabled))
            if is_disabled:
                connection.execute(delete(sessions).where(sessions.c.user_id == found))
                connection.execute(delete(links).where(links.c.user_id == found))

    def add_link(self, digest: str, *, name: str | None, expires_at: datetime) -> None:
        """Commit a one-time link, which replaces those before it.

        Parameters
        ----------
        name
            Of the user who sets a password by it; None: it makes the first user.

        Raises
        ------
        NotFound
            If there is no user of this name.
        WrongState
            If the user is disabled.
        """
        with self.writing() as connection:
            row = None if name is None else _row_of(connection, name)
            if row is not None and row.is_disabled:
                raise WrongState(f"user {name} is disabled; `radnode users enable {name}` first")
            found = None if row is None else row.user_id
            connection.execute(delete(links).where(links.c.user_id.is_not_distinct_from(found)))
            connection.execute(insert(links).values(digest=digest, user_id=found, expires_at=expires_at))

    def find_link(self, digest: str, *, now: datetime) -> User | None:
        """Return whose password a link sets; None: it makes the first user.

        Raises
        ------
        NotFound
            If it was used, has expired, or never was.
        """
        with self.reading() as connection:
            return _whose_link(connection, digest, now)

    def use_link(self, digest: str, password: str, *, name: str, now: datetime) -> tuple[User, bool]:
        """Commit a password by a link, which is used up by that, and return whose it is, and whether they are new.

        Parameters
        ----------
        password
            A hash.
        name
            Of the first user, if the link is for that.

        Raises
        ------
        NotFound
            If it was used, has expired, or never was.
        """
        with self.writing() as connection:
            found = _whose_link(connection, digest, now)
            if connection.execute(delete(links).where(links.c.digest == digest)).rowcount != 1:
                raise _link_gone()
            if found is None:
                connection.execute(delete(links).where(links.c.user_id.is_(None)))
                return _add(connection, NewUser(name=name, role=Role.ADMIN, password=password), now), True
            _set_password(connection, found.user_id, password)
            return _to_user(_row_of(connection, found.name)), False


def _asked() -> Select[Any]:
    seen_at = select(func.max(sessions.c.seen_at)).where(sessions.c.user_id == users.c.user_id).scalar_subquery()
    return select(users, seen_at.label("session_seen_at"))


def _has_users(connection: Connection) -> bool:
    return connection.execute(select(users.c.user_id).limit(1)).first() is not None


def _row_of(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(_asked().where(users.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no user {name}; see `radnode users list`")
    return row


def _require_other_admin(connection: Connection, user_id: int) -> None:
    """Return unless this user is the only one who may manage; all admins are locked, so that no two go at a time."""
    may = select(users.c.user_id).where(users.c.role == Role.ADMIN.value, users.c.is_disabled.is_(False))
    if connection.execute(may.with_for_update()).scalars().all() == [user_id]:
        raise WrongState("this is the last admin who may come in; make another user admin first")


def _add(connection: Connection, new: NewUser, now: datetime) -> User:
    if connection.execute(select(users.c.user_id).where(users.c.name == new.name)).first() is not None:
        raise WrongState(f"there is a user {new.name} already; take another name")
    values = {"name": new.name, "role": new.role.value, "password": new.password, "subject": new.subject or None}
    connection.execute(insert(users).values(**values, is_disabled=False, created_at=now))
    return _to_user(_row_of(connection, new.name))


def _set_password(connection: Connection, user_id: int, password: str) -> None:
    connection.execute(update(users).where(users.c.user_id == user_id).values(password=password))
    connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
    connection.execute(delete(links).where(links.c.user_id == user_id))


def _whose_link(connection: Connection, digest: str, now: datetime) -> User | None:
    link = connection.execute(select(links).where(links.c.digest == digest, links.c.expires_at > now)).one_or_none()
    if link is None or (link.user_id is None and _has_users(connection)):
        raise _link_gone()
    if link.user_id is None:
        return None
    owner = _to_user(connection.execute(_asked().where(users.c.user_id == link.user_id)).one())
    if owner.is_disabled:
        raise _link_gone()
    return owner


def _link_gone() -> NotFound:
    return NotFound("this link was used, or is older than a day; ask for another one by `radnode users password`")


def _to_user(row: Row[Any]) -> User:
    return User(
        user_id=row.user_id,
        name=row.name,
        role=Role(row.role),
        is_disabled=row.is_disabled,
        has_password=row.password is not None,
        subject=row.subject or "",
        created_at=row.created_at,
        seen_at=row.session_seen_at,
    )
