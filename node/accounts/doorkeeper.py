"""The door: who comes in by a password, a session or a token, and who has to wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from node.accounts.passwords import PasswordHashes
from node.accounts.secret import MAX_LENGTH, derive, digest_of, new_secret
from node.audit.authentication import UNKNOWN, logged_in, logged_out, login_failed
from node.audit.message import AuditEvent
from node.clock import Clock
from node.domain.account import NAME, RIGHTS, Right, User
from node.errors import LoginRefused, NotAuthenticated, TooManyLogins
from node.ledger.accounts import AccountLedger
from node.ledger.logins import Lifetimes, LoginLedger, Opening, Patience

# Of one name; whoever guesses gets some hundred tries a day.
OF_NAME = Patience(free=5, pause=timedelta(minutes=1), longest=timedelta(minutes=15), forget=timedelta(days=1))
# Of one address, behind which a whole department may be.
OF_ADDRESS = Patience(free=30, pause=timedelta(minutes=1), longest=timedelta(minutes=15), forget=timedelta(hours=1))
CSRF = "csrf"
NOT_RIGHT = "name or password is not right"
# What one network has of IPv6; whoever has one has all addresses in it (RFC 4291 2.5.4).
IPV6_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who came in.

    Attributes
    ----------
    csrf
        What a form of this session must send back; empty for a program, which has no forms.
    """

    name: str
    rights: frozenset[Right]
    csrf: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Who says to be whom, and where."""

    name: str
    password: str
    address: str


class Doorkeeper:
    """Lets people and programs in.

    Parameters
    ----------
    hashes
        Shared with whoever else makes some in this process.
    tell
        Called with what the audit trail is told; raises nothing.
    """

    def __init__(
        self,
        ledgers: tuple[AccountLedger, LoginLedger],
        *,
        lifetimes: Lifetimes,
        hashes: PasswordHashes,
        clock: Clock,
        tell: Callable[[AuditEvent], None],
    ) -> None:
        self._accounts, self._logins = ledgers
        self._lifetimes = lifetimes
        self._clock = clock
        self._tell = tell
        self._hashes = hashes

    def log_in(self, attempt: Attempt) -> str:
        """Return the secret of a new session.

        Raises
        ------
        LoginRefused
            If name or password is not right, or the user is disabled; which of them, nobody is told.
        TooManyLogins
            If it went wrong too often before.
        """
        name = attempt.name.strip().lower()
        user, kept = self.prove(Attempt(name=name, password=attempt.password, address=attempt.address))
        return self.admit(user, address=attempt.address, kept=kept)

    def prove(self, attempt: Attempt) -> tuple[User, str]:
        """Return who it is, by name and password, and the hash that was kept of it; raises as `log_in` does."""
        name, terms = attempt.name, _terms(attempt)
        until = self._logins.begin_try(terms, now=self._clock())
        # What cannot be a name is not asked for: a database may refuse its characters.
        found = self._accounts.find_password(name) if NAME.match(name) else None
        known = UNKNOWN if found is None else name
        if until is not None:
            self._tell(login_failed(known, address=attempt.address, why="too many tries before"))
            raise _too_many(until)
        user, kept = (None, None) if found is None else found
        is_right = self._hashes.is_right(kept, attempt.password)
        if user is None or kept is None or not is_right or user.is_disabled:
            why = "this user is disabled" if user and is_right else NOT_RIGHT
            self._tell(login_failed(known, address=attempt.address, why=why))
            raise LoginRefused(NOT_RIGHT)
        of_name, of_address = terms
        self._logins.forgive(of_name)
        self._logins.take_back(of_address)
        return user, kept

    @contextmanager
    def counting(self, address: str) -> Iterator[None]:
        """Count what is done within as one try of `address`, unless it goes well.

        Raises
        ------
        TooManyLogins
            If too much of this address went wrong before; then nothing was done.
        """
        subject = _of_address(address)
        until = self._logins.begin_try({subject: OF_ADDRESS}, now=self._clock())
        if until is not None:
            self._tell(login_failed(UNKNOWN, address=address, why="too many tries before"))
            raise _too_many(until)
        yield
        self._logins.take_back(subject)

    def admit(self, user: User, *, address: str, kept: str | None = None) -> str:
        """Return the secret of a new session for somebody who has proved who they are.

        Parameters
        ----------
        kept
            Hash of the password by which they did; None: by other means.

        Raises
        ------
        LoginRefused
            If the user was disabled or removed, or got another password, since they proved it.
        """
        secret = new_secret()
        is_open = self._logins.open_session(
            Opening(digest=digest_of(secret), user_id=user.user_id, password=kept),
            now=self._clock(),
            lifetimes=self._lifetimes,
        )
        if not is_open:
            self._tell(login_failed(user.name, address=address, why="this user was changed meanwhile"))
            raise LoginRefused(NOT_RIGHT)
        self._tell(logged_in(user.name, address=address))
        return secret

    def log_out(self, secret: str, *, address: str) -> None:
        """End a session, if it is one."""
        digest = digest_of(secret)
        session = self._logins.find_session(digest, now=self._clock(), lifetimes=self._lifetimes, is_use=False)
        self._logins.close_session(digest)
        if session is not None:
            self._tell(logged_out(session.name, address=address))

    def of_session(self, secret: str, *, is_use: bool = True) -> Identity:
        """Return whose session it is.

        Parameters
        ----------
        is_use
            Whether the session lives on by that; False for what a page asks by itself.

        Raises
        ------
        NotAuthenticated
            If it is none, or over.
        """
        found = None
        if len(secret) <= MAX_LENGTH:
            now, lifetimes = self._clock(), self._lifetimes
            found = self._logins.find_session(digest_of(secret), now=now, lifetimes=lifetimes, is_use=is_use)
        if found is None:
            raise NotAuthenticated("the session is over; log in again")
        return Identity(name=found.name, rights=RIGHTS[found.role], csrf=csrf_of(secret))

    def of_token(self, secret: str) -> Identity:
        """Return whose token it is.

        Raises
        ------
        NotAuthenticated
            If it is none, was revoked, or has expired.
        """
        found = None
        if len(secret) <= MAX_LENGTH:
            found = self._logins.find_token(digest_of(secret), now=self._clock())
        if found is None:
            raise NotAuthenticated("the token is none, was revoked, or has expired; see `radnode tokens list`")
        return Identity(name=f"token {found.name}", rights=found.scopes)


def csrf_of(secret: str) -> str:
    """Return what a form of a session must send back; nobody else can know it."""
    return derive(secret, CSRF)


def _terms(attempt: Attempt) -> Mapping[str, Patience]:
    # What was typed as a name may be a password.
    of_name = f"name {sha256(attempt.name.encode()).hexdigest()}"
    return {of_name: OF_NAME, _of_address(attempt.address): OF_ADDRESS}


def _of_address(address: str) -> str:
    """Return by what tries of an address are counted: itself, or its network where it is one of IPv6."""
    try:
        found = ip_address(address)
    except ValueError:
        return f"address {address}"
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return f"address {ip_network((int(found), IPV6_NETWORK_BITS), strict=False)}"
    return f"address {address}"


def _too_many(until: datetime) -> TooManyLogins:
    return TooManyLogins(f"too many tries; the next one counts at {until:%H:%M:%S} UTC")
