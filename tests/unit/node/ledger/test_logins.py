"""Users, sessions, tokens and failed logins in the ledger, on both databases."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from node.domain.account import Right, Role, Token
from node.errors import NotFound, WrongState
from node.ledger.accounts import AccountLedger, NewUser
from node.ledger.logins import Lifetimes, LoginLedger, Opening, Patience
from tests.ledgers import NOON, Books, at, copy_ledger

LIVES = Lifetimes(idle=timedelta(hours=1), whole=timedelta(hours=3))
PATIENCE = Patience(free=3, pause=timedelta(seconds=10), longest=timedelta(seconds=35), forget=timedelta(hours=1))
READER = NewUser(name="ada", role=Role.VIEWER, password="a hash")
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def books(tmp_path: Path, database: str) -> Iterator[Books]:
    opened = Books(copy_ledger(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def accounts(books: Books) -> AccountLedger:
    return AccountLedger(books.engine)


@pytest.fixture
def logins(books: Books) -> LoginLedger:
    return LoginLedger(books.engine)


def test_a_name_is_one_users(accounts: AccountLedger) -> None:
    assert not accounts.has_users()
    added = accounts.add_user(READER, now=NOON)
    assert (accounts.has_users(), accounts.list_users()) == (True, (added,))
    with pytest.raises(WrongState, match="ada already"):
        accounts.add_user(READER, now=NOON)
    assert accounts.find_password("ada") == (added, "a hash")
    assert accounts.find_password("eve") is None
    accounts.remove_user("ada")
    for change in (
        lambda: accounts.remove_user("ada"),
        lambda: accounts.find_user("ada"),
        lambda: accounts.set_password("ada", "x"),
        lambda: accounts.set_role("ada", Role.ADMIN),
        lambda: accounts.set_disabled("ada", is_disabled=True),
        lambda: accounts.add_link("d", name="ada", expires_at=at(9)),
    ):
        with pytest.raises(NotFound, match="no user ada"):
            change()


def test_whoever_goes_takes_sessions_and_links_along(accounts: AccountLedger, logins: LoginLedger) -> None:
    user = accounts.add_user(READER, now=NOON)
    assert logins.open_session(Opening(digest="s", user_id=user.user_id), now=NOON, lifetimes=LIVES)
    accounts.add_link("l", name="ada", expires_at=at(60))
    accounts.remove_user("ada")
    assert logins.find_session("s", now=NOON, lifetimes=LIVES) is None
    with pytest.raises(NotFound):
        accounts.find_link("l", now=NOON)


def test_a_session_is_noted_once_a_minute_and_swept_when_over(accounts: AccountLedger, logins: LoginLedger) -> None:
    user = accounts.add_user(READER, now=NOON)
    assert logins.open_session(Opening(digest="s", user_id=user.user_id), now=NOON, lifetimes=LIVES)
    for second, is_use, seen in ((59, True, NOON), (70, False, NOON), (60, True, at(60)), (100, True, at(60))):
        assert logins.find_session("s", now=at(second), lifetimes=LIVES, is_use=is_use) is not None
        assert accounts.find_user("ada").seen_at == seen
    assert logins.find_session("s", now=at(60 + 3600), lifetimes=LIVES) is None
    assert logins.open_session(Opening(digest="t", user_id=user.user_id), now=at(2 * 3600), lifetimes=LIVES)
    assert logins.find_session("s", now=at(60), lifetimes=LIVES) is None


def test_whoever_was_changed_since_they_proved_it_gets_no_session(accounts: AccountLedger, logins: LoginLedger) -> None:
    user = accounts.add_user(READER, now=NOON)
    opening = Opening(digest="s", user_id=user.user_id, password="a hash")
    accounts.set_password("ada", "another hash")
    assert not logins.open_session(opening, now=NOON, lifetimes=LIVES)
    accounts.set_disabled("ada", is_disabled=True)
    assert not logins.open_session(Opening(digest="s", user_id=user.user_id), now=NOON, lifetimes=LIVES)
    accounts.set_disabled("ada", is_disabled=False)
    assert logins.open_session(Opening(digest="s", user_id=user.user_id), now=NOON, lifetimes=LIVES)
    accounts.remove_user("ada")
    assert not logins.open_session(Opening(digest="t", user_id=user.user_id), now=NOON, lifetimes=LIVES)


def test_the_last_admin_who_may_come_in_stays_one(accounts: AccountLedger) -> None:
    for name in ("boss", "deputy"):
        accounts.add_user(NewUser(name=name, role=Role.ADMIN), now=NOON)
    accounts.set_disabled("deputy", is_disabled=True)
    changes: tuple[Callable[[], None], ...] = (
        lambda: accounts.remove_user("boss"),
        lambda: accounts.set_role("boss", Role.OPERATOR),
        lambda: accounts.set_disabled("boss", is_disabled=True),
    )
    for change in changes:
        with pytest.raises(WrongState, match="last admin"):
            change()
    accounts.set_role("boss", Role.ADMIN)
    accounts.set_disabled("deputy", is_disabled=False)
    accounts.set_role("boss", Role.VIEWER)
    assert [user.role for user in accounts.list_users()] == [Role.VIEWER, Role.ADMIN]
    # A provider names its admins anew at each login.
    accounts.set_role("deputy", Role.VIEWER, is_of_provider=True)


def test_who_is_disabled_gets_no_link_and_uses_none(accounts: AccountLedger) -> None:
    accounts.add_user(READER, now=NOON)
    accounts.set_disabled("ada", is_disabled=True)
    with pytest.raises(WrongState, match="ada is disabled"):
        accounts.add_link("l", name="ada", expires_at=at(60))


def test_a_token_is_noted_and_revoked(logins: LoginLedger) -> None:
    token = Token(name="gateway", scopes=frozenset({Right.READ, Right.STORE}), created_at=NOON, created_by="ada")
    logins.add_token(token, "d")
    with pytest.raises(WrongState, match="gateway already"):
        logins.add_token(token, "e")
    assert logins.find_token("d", now=at(5)) == token
    assert logins.list_tokens()[0].used_at == at(5)
    logins.revoke_token("gateway")
    assert logins.find_token("d", now=at(6)) is None
    with pytest.raises(NotFound, match="no token gateway"):
        logins.revoke_token("gateway")


def test_a_link_is_used_once_even_by_two_at_a_time(accounts: AccountLedger) -> None:
    accounts.add_link("first", name=None, expires_at=at(60))
    assert accounts.find_link("first", now=NOON) is None
    user, is_new = accounts.use_link("first", "hash", name="ada", now=NOON)
    assert (user.role, is_new) == (Role.ADMIN, True)
    with pytest.raises(NotFound):
        accounts.use_link("first", "hash", name="eve", now=NOON)
    accounts.add_link("late", name=None, expires_at=at(60))
    with pytest.raises(NotFound):
        accounts.use_link("late", "hash", name="eve", now=NOON)


def test_pauses_double_up_to_the_longest_and_are_forgotten(logins: LoginLedger) -> None:
    terms, now, pauses = {"name x": PATIENCE}, 0.0, []
    for _ in range(7):
        assert logins.begin_try(terms, now=at(now)) is None
        until = logins.begin_try(terms, now=at(now))
        pauses.append(0.0 if until is None else (until - at(now)).total_seconds())
        # What was not counted costs nothing; what was, is the second of two.
        now += pauses[-1]
        if until is None:
            logins.take_back("name x")
    assert pauses == [0.0, 0.0, 10.0, 20.0, 35.0, 35.0, 35.0]
    assert logins.begin_try(terms, now=at(now + 3600)) is None
    assert logins.begin_try(terms, now=at(now + 3600)) is None


def test_a_name_is_remembered_for_as_long_as_is_said_of_names(logins: LoginLedger) -> None:
    terms = {"name x": replace(PATIENCE, forget=timedelta(days=1)), "address y": PATIENCE}
    for _ in range(2):
        assert logins.begin_try(terms, now=NOON) is None
    later = at(2 * 3600)
    assert logins.begin_try({"address y": PATIENCE}, now=later) is None
    # The third one of the name, and the second one of the address.
    assert logins.begin_try(terms, now=later) is None
    assert logins.begin_try(terms, now=later) == at(2 * 3600 + 10)
    assert logins.begin_try({"address y": PATIENCE}, now=later) is None


def test_whoever_has_to_wait_costs_no_write(logins: LoginLedger) -> None:
    for _ in range(3):
        assert logins.begin_try({"name x": PATIENCE}, now=NOON) is None
    with logins.writing():
        # Else it would wait for this one.
        assert logins.begin_try({"name x": PATIENCE}, now=NOON) == at(10)


def test_whoever_is_right_is_forgiven_by_name_and_taken_back_by_address(logins: LoginLedger) -> None:
    terms = {"name x": PATIENCE, "address y": PATIENCE}
    for _ in range(2):
        assert logins.begin_try(terms, now=NOON) is None
    assert logins.begin_try(terms, now=NOON) is None
    logins.forgive("name x")
    logins.take_back("address y")
    assert logins.begin_try({"name x": PATIENCE}, now=NOON) is None
    assert logins.begin_try({"address y": PATIENCE}, now=NOON) is None
    assert logins.begin_try({"address y": PATIENCE}, now=NOON) == at(10)
