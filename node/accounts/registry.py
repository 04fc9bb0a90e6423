"""Who may come in at all: users, their passwords, one-time links and tokens, as people change them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from node.accounts.claims import Person
from node.accounts.passwords import PasswordHashes, check_password
from node.accounts.secret import TOKEN_PREFIX, digest_of, new_secret
from node.audit.authentication import accounts_changed
from node.audit.message import AuditEvent
from node.clock import Clock
from node.domain.account import Right, Role, Token, User, check_name
from node.errors import LoginRefused, PasswordUnfit, SettingsInvalid, WrongState
from node.ledger.accounts import AccountLedger, NewUser
from node.ledger.logins import LoginLedger

LINK_LIFE = timedelta(hours=24)
FIRST = "the first user"
# What a name leaves for what tells two people of one name apart.
NAME_ROOM = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOrder:
    """What token is wanted.

    Attributes
    ----------
    life
        None: it stays until it is revoked.
    """

    name: str
    scopes: frozenset[Right]
    life: timedelta | None = None


class Registry:
    """Changes who may come in; every change is told to the audit trail after it is committed.

    Parameters
    ----------
    hashes
        Shared with whoever else makes some in this process.
    tell
        Called with what the trail is told.
    """

    def __init__(
        self,
        ledgers: tuple[AccountLedger, LoginLedger],
        *,
        hashes: PasswordHashes,
        clock: Clock,
        tell: Callable[[AuditEvent], None],
    ) -> None:
        self._accounts, self._logins = ledgers
        self._clock = clock
        self._tell = tell
        self._hashes = hashes

    def add_user(self, name: str, role: Role, *, password: str | None, by: str) -> User:
        """Commit a new user; without a password, `link_for` gives what they set one by.

        Raises
        ------
        SettingsInvalid
            If the name is none.
        PasswordUnfit
            If the password is none.
        WrongState
            If the name is taken.
        """
        small = check_name(name, what="user")
        user = self._accounts.add_user(
            NewUser(name=small, role=role, password=None if password is None else self._hash(small, password)),
            now=self._clock(),
        )
        self._changed(f"{by} added user {small} as {role.value}", by, small)
        return user

    def remove_user(self, name: str, *, by: str) -> None:
        """Commit that somebody is no user any more.

        Raises
        ------
        NotFound
            If they were none.
        WrongState
            If they are the last admin who may come in.
        """
        self._accounts.remove_user(name)
        self._changed(f"{by} removed user {name}", by, name)

    def set_disabled(self, name: str, *, is_disabled: bool, by: str) -> None:
        """Commit whether a user may come in; raises as `remove_user` does."""
        self._accounts.set_disabled(name, is_disabled=is_disabled)
        self._changed(f"{by} {'disabled' if is_disabled else 'enabled'} user {name}", by, name)

    def set_role(self, name: str, role: Role, *, by: str) -> None:
        """Commit a role; raises as `remove_user` does."""
        self._accounts.set_role(name, role)
        self._changed(f"{by} made user {name} {role.value}", by, name)

    def set_password(self, name: str, password: str, *, by: str) -> None:
        """Commit a password; all sessions of the user end.

        Raises
        ------
        NotFound
            If there is no such user.
        PasswordUnfit
            If the password is none.
        """
        self._accounts.find_user(name)
        self._accounts.set_password(name, self._hash(name, password))
        self._changed(f"{by} set the password of user {name}", by, name)

    def welcome_person(self, person: Person, *, address: str) -> User:
        """Commit somebody for whom a provider speaks, with the role that it gives them today, and return them.

        Raises
        ------
        LoginRefused
            If it gives them none, or they are disabled here.
        """
        if person.role is None:
            raise LoginRefused("the provider knows you, and gives you no role here; ask who keeps web.oidc")
        user = self._accounts.find_subject(person.subject)
        if user is None:
            user = self._add_person(person, person.role)
            self._changed(f"{user.name} came by the provider as {user.role.value}", user.name, user.name, address)
        if user.is_disabled:
            raise LoginRefused("you may not come in; ask who keeps the users of this node")
        if user.role is not person.role:
            self._accounts.set_role(user.name, person.role, is_of_provider=True)
            self._changed(f"the provider made {user.name} {person.role.value}", user.name, user.name, address)
        return user

    def link_for(self, name: str | None, *, by: str) -> str:
        """Return the secret of a new one-time link.

        Parameters
        ----------
        name
            Whose password it sets; None: it makes the first user.

        Raises
        ------
        NotFound
            If there is no such user.
        WrongState
            If the user is disabled.
        """
        secret = new_secret()
        self._accounts.add_link(digest_of(secret), name=name, expires_at=self._clock() + LINK_LIFE)
        self._changed(f"{by} made a one-time link for {name or FIRST}", by, name or FIRST)
        return secret

    def whose_link(self, secret: str) -> User | None:
        """Return whose password a link sets; None: it makes the first user. Raises NotFound if it is spent."""
        return self._accounts.find_link(digest_of(secret), now=self._clock())

    def use_link(self, secret: str, password: str, *, name: str, address: str) -> User:
        """Commit what a link is for, once, and return whose it is.

        Parameters
        ----------
        name
            Of the first user, where the link makes one.

        Raises
        ------
        NotFound
            If it was used, or has expired.
        SettingsInvalid
            If the name is none.
        PasswordUnfit
            If the password is none.
        """
        owner = self.whose_link(secret)
        called = check_name(name, what="user") if owner is None else owner.name
        hashed = self._hash(called, password)
        user, is_new = self._accounts.use_link(digest_of(secret), hashed, name=called, now=self._clock())
        what = "became the first user" if is_new else "set a password"
        self._changed(f"{user.name} {what} by a one-time link", user.name, user.name, address)
        return user

    def add_token(self, order: TokenOrder, *, by: str) -> str:
        """Return the secret of a new token, which nobody can learn again.

        Raises
        ------
        SettingsInvalid
            If the name is none, or the token is for nothing.
        WrongState
            If the name is taken.
        """
        name = check_name(order.name, what="token")
        if not order.scopes:
            raise SettingsInvalid(f"a token is for something: --scope {', '.join(right.value for right in Right)}")
        now, secret = self._clock(), new_secret(TOKEN_PREFIX)
        expires_at = None if order.life is None else now + order.life
        token = Token(name=name, scopes=order.scopes, created_at=now, created_by=by, expires_at=expires_at)
        self._logins.add_token(token, digest_of(secret))
        scopes = ", ".join(sorted(right.value for right in order.scopes))
        self._changed(f"{by} made token {name} for {scopes}", by, name)
        return secret

    def revoke_token(self, name: str, *, by: str) -> None:
        """Commit that a token counts no more; raises NotFound if there is none."""
        self._logins.revoke_token(name)
        self._changed(f"{by} revoked token {name}", by, name)

    def tokens_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the tokens that a user has made and that still count."""
        now = self._clock()
        return tuple(
            token.name
            for token in self._logins.list_tokens()
            if token.created_by == name and (token.expires_at is None or token.expires_at > now)
        )

    def find_user(self, name: str) -> User:
        """Return a user; raises NotFound if there is none of this name."""
        return self._accounts.find_user(name)

    def users(self) -> tuple[User, ...]:
        """Return all users by name."""
        return self._accounts.list_users()

    def has_users(self) -> bool:
        """Return whether there is any user."""
        return self._accounts.has_users()

    def tokens(self) -> tuple[Token, ...]:
        """Return all tokens by name."""
        return self._logins.list_tokens()

    def _add_person(self, person: Person, role: Role) -> User:
        now = self._clock()
        try:
            return self._accounts.add_user(NewUser(name=person.name, role=role, subject=person.subject), now=now)
        except WrongState:
            # Somebody else has the name, perhaps with a password; they stay two.
            name = f"{person.name[:NAME_ROOM]}-{digest_of(person.subject)[:8]}"
            return self._accounts.add_user(NewUser(name=name, role=role, subject=person.subject), now=now)

    def _hash(self, name: str, password: str) -> str:
        check_password(password, name=name)
        try:
            return self._hashes.hash(password)
        except UnicodeEncodeError as exc:
            raise PasswordUnfit("a password is text; this one holds what is none") from exc

    def _changed(self, what: str, by: str, subject: str, address: str = "") -> None:
        self._tell(accounts_changed(what, account=by, subject=subject, address=address))
