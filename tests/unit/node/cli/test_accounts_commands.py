"""`radnode users` and `radnode tokens`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.audit.account import find_account
from node.audit.inspection import newest_records
from node.domain.account import NAME
from node.settings.loading import load_settings
from node.volumes import audit_folder
from tests.shells import Shell

PASSWORD = "five words of my own"


def trail(shell: Shell) -> list[str]:
    """Return what the audit trail was told."""
    folder = audit_folder(load_settings(shell.settings))
    return [record.text for record in newest_records(folder)][::-1]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.books.close()


def test_a_user_is_added_listed_changed_and_removed(shell: Shell) -> None:
    assert shell.run("users", "list").stdout == "No user yet; see `radnode users add`.\n"
    assert (
        shell.run("users", "add", "Ada", "--role", "viewer", "--password-stdin", typed=PASSWORD + "\n").exit_code == 0
    )
    added = shell.run("users", "add", "eve", "--role", "operator")
    assert re.search(r"http://127\.0\.0\.1:8080/welcome/[\w-]{43}\n", added.stdout)
    assert "no password yet" in shell.run("users", "list").stdout
    assert shell.run("users", "role", "ada", "admin").exit_code == 0
    assert shell.run("users", "disable", "eve").exit_code == 0
    users = json.loads(shell.run("users", "list", "--json").stdout)
    assert [(user["name"], user["role"], user["is_disabled"]) for user in users] == [
        ("ada", "admin", False),
        ("eve", "operator", True),
    ]
    assert "argon2" not in shell.run("users", "list", "--json").stdout
    assert shell.run("users", "enable", "eve").exit_code == 0
    assert "/welcome/" in shell.run("users", "password", "ada").stdout
    assert shell.run("users", "password", "ada", "--password-stdin", typed="other words of mine\n").exit_code == 0
    assert shell.run("users", "remove", "eve").exit_code == 0
    told = trail(shell)
    assert [line.partition(" ")[2] for line in told] == [
        "added user ada as viewer",
        "added user eve as operator",
        "made a one-time link for eve",
        "made user ada admin",
        "disabled user eve",
        "enabled user eve",
        "made a one-time link for ada",
        "set the password of user ada",
        "removed user eve",
    ]


@pytest.mark.parametrize(
    ("words", "typed", "code", "said"),
    [
        (("users", "add", "ada", "--role", "viewer", "--password-stdin"), "short\n", 1, "12 characters"),
        (("users", "add", "ada", "--role", "viewer", "--password-stdin"), "", 1, "12 characters"),
        (("users", "add", "<ada>", "--role", "viewer"), "", 2, "the name of a user"),
        (("users", "add", "a" * 65, "--role", "viewer"), "", 2, "1-64 letters"),
        (("users", "remove", "nobody"), "", 2, "no user nobody"),
        (("users", "password", "nobody", "--password-stdin"), PASSWORD, 2, "no user nobody"),
        (("users", "disable", "nobody"), "", 2, "no user nobody"),
        (("tokens", "add", "ct1", "--scope", "read,fly"), "", 2, "'fly' is none; known are read, review"),
        (("tokens", "add", "ct1", "--scope", ","), "", 2, "for something"),
        (("tokens", "revoke", "ct1"), "", 2, "no token ct1"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    shell: Shell, words: tuple[str, ...], typed: str, code: int, said: str
) -> None:
    done = shell.run(*words, typed=typed)
    assert (done.exit_code, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr
    assert shell.run("users", "list", "--json").stdout == "[]\n"
    assert trail(shell) == []


def test_a_token_is_shown_once_and_revoked(shell: Shell) -> None:
    assert shell.run("tokens", "list").stdout.startswith("No token yet")
    made = shell.run("tokens", "add", "ct1", "--scope", "store, read", "--days", "2")
    assert re.fullmatch(r"radnode_[\w-]{43}\n", made.stdout)
    assert shell.run("tokens", "add", "ct1", "--scope", "read").exit_code == 2
    (listed,) = json.loads(shell.run("tokens", "list", "--json").stdout)
    assert (listed["name"], listed["scopes"], listed["used_at"]) == ("ct1", ["read", "store"], None)
    table = shell.run("tokens", "list").stdout
    assert "read, store" in table
    assert made.stdout.strip() not in table
    assert shell.run("tokens", "revoke", "ct1").exit_code == 0
    assert [line.partition(" ")[2] for line in trail(shell)] == ["made token ct1 for read, store", "revoked token ct1"]


def test_whoever_goes_leaves_no_token_behind_unseen(shell: Shell) -> None:
    account = find_account()
    if NAME.match(account) is None:
        pytest.skip(f"{account} is no name of a user")
    shell.run("users", "add", account, "--role", "viewer")
    for name, days in (("ct1", ()), ("ct2", ("--days", "2"))):
        assert shell.run("tokens", "add", name, "--scope", "read", *days).exit_code == 0
    said = shell.run("users", "disable", account).stdout
    assert f"Tokens that {account} has made still count; `radnode tokens revoke NAME` ends one: ct1, ct2." in " ".join(
        said.split()
    )
    said = shell.run("users", "remove", account, "--revoke-tokens").stdout
    assert f"Tokens that {account} has made are revoked: ct1, ct2." in " ".join(said.split())
    assert shell.run("tokens", "list", "--json").stdout == "[]\n"
