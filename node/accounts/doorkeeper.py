"""The door: who comes in by a password, a session or a token, and who has to wait."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from node.accounts.passwords import PasswordHashes
from node.accounts.secret import MAX_LENGTH, derive, digest_of, new_secret
from node.audit.authentication import logged_in, logged_out, login_failed
from node.audit.message import AuditEvent
from node.clock import Clock
from node.domain.account import RIGHTS, Right, User
from node.errors import LoginRefused, NotAuthenticated, TooManyLogins
from node.ledger.accounts import AccountLedger
from node.ledger.logins import Lifetimes, LoginLedger, Patience

# Of one name; whoever guesses gets some hundred tries a day.
OF_NAME = Patience(free=5, pause=timedelta(minutes=1), longest=timedelta(minutes=15), forget=timedelta(days=1))
# Of one address, behind which a whole department may be.
OF_ADDRESS = Patience(free=30, pause=timedelta(minutes=1), longest=timedelta(minutes=15), forget=timedelta(hours=1))
CSRF = "csrf"
UNKNOWN = "unknown"


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
        user = self.prove(Attempt(name=name, password=attempt.password, address=attempt.address))
        return self.admit(user, address=attempt.address)

    def prove(self, attempt: Attempt) -> User:
        """Return who it is, by name and password; raises as `log_in` does."""
        name, terms = attempt.name, _terms(attempt)
        until = self._logins.begin_try(terms, now=self._clock())
        found = self._accounts.find_password(name)
        known = UNKNOWN if found is None else name
        if until is not None:
            self._tell(login_failed(known, address=attempt.address, why="too many tries before"))
            raise TooManyLogins(f"too many tries; the next one counts at {until:%H:%M:%S} UTC")
        user, kept = (None, None) if found is None else found
        is_right = self._hashes.is_right(kept, attempt.password)
        if user is None or not is_right or user.is_disabled:
            why = "this user is disabled" if user and is_right else "name or password is not right"
            self._tell(login_failed(known, address=attempt.address, why=why))
            raise LoginRefused("name or password is not right")
        of_name, of_address = terms
        self._logins.forgive(of_name)
        self._logins.take_back(of_address)
        return user

    def admit(self, user: User, *, address: str) -> str:
        """Return the secret of a new session for somebody who has proved who they are."""
        secret = new_secret()
        self._logins.open_session(digest_of(secret), user_id=user.user_id, now=self._clock(), lifetimes=self._lifetimes)
        self._tell(logged_in(user.name, address=address))
        return secret

    def log_out(self, secret: str, *, address: str) -> None:
        """End a session, if it is one."""
        digest = digest_of(secret)
        session = self._logins.find_session(digest, now=self._clock(), lifetimes=self._lifetimes)
        self._logins.close_session(digest)
        if session is not None:
            self._tell(logged_out(session.name, address=address))

    def of_session(self, secret: str) -> Identity:
        """Return whose session it is.

        Raises
        ------
        NotAuthenticated
            If it is none, or over.
        """
        found = None
        if len(secret) <= MAX_LENGTH:
            found = self._logins.find_session(digest_of(secret), now=self._clock(), lifetimes=self._lifetimes)
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
    return {of_name: OF_NAME, f"address {attempt.address}": OF_ADDRESS}
