"""Who is in: sessions of people, tokens of programs, and how often it went wrong."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from node.domain.account import Right, Role, Token
from node.errors import NotFound, WrongState
from node.ledger.engine import Desk, Engine, Question
from node.ledger.schema import login_failures, sessions, to_instant, tokens, users

# Who asks every second costs one write in so long.
NOTED_EVERY = timedelta(minutes=1)
TOKEN_COLUMNS = tuple(
    tokens.c[name] for name in ("name", "scopes", "created_at", "created_by", "expires_at", "used_at")
)
TOKEN_OF = select(*TOKEN_COLUMNS).where(tokens.c.digest == bindparam("digest"))
SESSION_OF = (
    select(users.c.name, users.c.role, sessions.c.created_at, sessions.c.seen_at)
    .join_from(sessions, users, sessions.c.user_id == users.c.user_id)
    .where(sessions.c.digest == bindparam("digest"), users.c.is_disabled.is_(False))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a session may last.

    Attributes
    ----------
    idle
        After the last request.
    whole
        After the login.
    """

    idle: timedelta
    whole: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is logged in."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many wrong tries are free, and what the next ones cost.

    Attributes
    ----------
    pause
        After the first that is not free; doubled for each further one.
    longest
        No pause is longer.
    forget
        After so long without one, nothing is remembered.
    """

    free: int
    pause: timedelta
    longest: timedelta
    forget: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A session that is to be.

    Attributes
    ----------
    password
        Hash that must still be the user's; None: any, or none.
    """

    digest: str
    user_id: int
    password: str | None = None


class LoginLedger(Desk):
    """Sessions, tokens, and failures."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        # Both are asked for every request.
        self._session_of = Question(engine, SESSION_OF)
        self._token_of = Question(engine, TOKEN_OF)

    def open_session(self, opening: Opening, *, now: datetime, lifetimes: Lifetimes) -> bool:
        """Commit that somebody has logged in; sessions of anybody that are over are forgotten.

        Returns
        -------
        bool
            False, and nothing was opened: the user is gone or disabled, or has another password by now.
        """
        over = or_(sessions.c.seen_at <= now - lifetimes.idle, sessions.c.created_at <= now - lifetimes.whole)
        # Whoever changes the user ends their sessions; locked, so that this one is there by then, or never is.
        asked = select(users.c.password, users.c.is_disabled).where(users.c.user_id == opening.user_id)
        with self.writing() as connection:
            connection.execute(delete(sessions).where(over))
            user = connection.execute(asked.with_for_update()).one_or_none()
            if user is None or user.is_disabled or opening.password not in {None, user.password}:
                return False
            values = {"digest": opening.digest, "user_id": opening.user_id, "created_at": now, "seen_at": now}
            connection.execute(insert(sessions).values(**values))
            return True

    def find_session(self, digest: str, *, now: datetime, lifetimes: Lifetimes, is_use: bool = True) -> Session | None:
        """Return whose session it is, and commit now and then that it was used; None: it is none, or over.

        Parameters
        ----------
        is_use
            False: it ends as if nobody had asked.
        """
        row = self._session_of.ask(digest=digest)
        if row is None:
            return None
        name, role, created_at, seen_at = row[0], Role(row[1]), to_instant(row[2]), to_instant(row[3])
        if seen_at <= now - lifetimes.idle or created_at <= now - lifetimes.whole:
            return None
        if is_use and now - seen_at >= NOTED_EVERY:
            with self.writing() as connection:
                connection.execute(update(sessions).where(sessions.c.digest == digest).values(seen_at=now))
        return Session(name=name, role=role)

    def close_session(self, digest: str) -> None:
        """Commit that somebody has logged out."""
        with self.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == digest))

    def add_token(self, token: Token, digest: str) -> None:
        """Commit a token.

        Raises
        ------
        WrongState
            If the name is taken.
        """
        taken = WrongState(f"there is a token {token.name} already; revoke it, or take another name")
        values = {
            "name": token.name,
            "scopes": sorted(right.value for right in token.scopes),
            "created_at": token.created_at,
            "created_by": token.created_by,
            "expires_at": token.expires_at,
        }
        try:
            with self.writing() as connection:
                if connection.execute(select(tokens.c.name).where(tokens.c.name == token.name)).first() is not None:
                    raise taken
                connection.execute(insert(tokens).values(digest=digest, **values))
        except IntegrityError as exc:
            raise taken from exc

    def find_token(self, digest: str, *, now: datetime) -> Token | None:
        """Return a token, and commit now and then that it was used; None: it is none, or has expired."""
        row = self._token_of.ask(digest=digest)
        if row is None:
            return None
        token = _read_token(row)
        if token.expires_at is not None and token.expires_at <= now:
            return None
        if token.used_at is None or now - token.used_at >= NOTED_EVERY:
            with self.writing() as connection:
                connection.execute(update(tokens).where(tokens.c.digest == digest).values(used_at=now))
        return token

    def list_tokens(self) -> tuple[Token, ...]:
        """Return all tokens by name, expired ones, too."""
        with self.reading() as connection:
            found = connection.execute(select(*TOKEN_COLUMNS).order_by(tokens.c.name))
            return tuple(Token(**{**row, "scopes": frozenset(map(Right, row["scopes"]))}) for row in found.mappings())

    def revoke_token(self, name: str) -> None:
        """Commit that a token counts no more.

        Raises
        ------
        NotFound
            If there is none of this name.
        """
        with self.writing() as connection:
            if connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount != 1:
                raise NotFound(f"there is no token {name}; see `radnode tokens list`")

    def begin_try(self, terms: Mapping[str, Patience], *, now: datetime) -> datetime | None:
        """Commit one more try for each subject, as one that went wrong; whoever is right takes it back.

        Counted before it is judged, so that many tries at once are not all free. Who has to wait is told so without a
        write. The first word of a subject says what it is; those alike are forgotten alike.

        Returns
        -------
        datetime or None
            Until when there must be none, in which case nothing was counted; None: it may be judged.
        """
        failed = login_failures
        asked = select(failed).where(failed.c.subject.in_(terms))
        with self.reading() as connection:
            until = _until(connection.execute(asked).all(), now)
        if until is not None:
            return until
        with self.writing() as connection:
            for subject, patience in terms.items():
                alike = failed.c.subject.startswith(f"{subject.partition(' ')[0]} ", autoescape=True)
                connection.execute(delete(failed).where(alike, failed.c.failed_at <= now - patience.forget))
            known = {row.subject: row for row in connection.execute(asked.with_for_update())}
            until = _until(known.values(), now)
            if until is not None:
                return until
            for subject, patience in terms.items():
                count = known[subject].failures + 1 if subject in known else 1
                values = {"failures": count, "failed_at": now, "not_before": now + _pause(patience, count)}
                if subject in known:
                    connection.execute(update(failed).where(failed.c.subject == subject).values(**values))
                else:
                    connection.execute(insert(failed).values(subject=subject, **values))
        return None

    def forgive(self, subject: str) -> None:
        """Commit that a try was right: nothing that went wrong for this subject counts any more."""
        with self.writing() as connection:
            connection.execute(delete(login_failures).where(login_failures.c.subject == subject))

    def take_back(self, subject: str) -> None:
        """Commit that the last try was right; what went wrong before it still counts."""
        changed = {"failures": login_failures.c.failures - 1, "not_before": login_failures.c.failed_at}
        with self.writing() as connection:
            connection.execute(update(login_failures).where(login_failures.c.subject == subject).values(**changed))


def _until(rows: Iterable[Row[Any]], now: datetime) -> datetime | None:
    return max((row.not_before for row in rows if row.not_before > now), default=None)


def _pause(patience: Patience, failures: int) -> timedelta:
    over = failures - patience.free
    # 2 ** 20 s are twelve days; more would only be a large number.
    return timedelta(0) if over < 0 else min(patience.pause * 2 ** min(over, 20), patience.longest)


def _read_token(row: Sequence[Any]) -> Token:
    name, scopes, created_at, created_by, expires_at, used_at = row
    # SQLite's driver gives the text, that of PostgreSQL what it means.
    words = json.loads(scopes) if isinstance(scopes, str) else scopes
    return Token(
        name=name,
        scopes=frozenset(map(Right, words)),
        created_at=to_instant(created_at),
        created_by=created_by,
        expires_at=None if expires_at is None else to_instant(expires_at),
        used_at=None if used_at is None else to_instant(used_at),
    )
