"""`radnode users`: who may log in."""

import sys
from typing import Annotated

import typer

from node.accounts.opening import open_registry
from node.accounts.registry import Registry
from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, read_settings, record_audit
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.domain.account import Role, User
from node.ledger.opening import find_ledger, open_ledger
from node.settings.whole import Settings
from node.web.host import url_of
from node.wording import age

app = typer.Typer(no_args_is_help=True, help="Who may log in to the console.")

NameArgument = Annotated[str, typer.Argument(help="Name of the user, as `radnode users list` shows it.")]
StdinOption = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input, one line; else a link is printed."),
]

RevokeOption = Annotated[
    bool, typer.Option("--revoke-tokens", help="Revoke the tokens that they have made, too; else these still count.")
]


@app.command("list")
@reports_errors
def list_users(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """List users, with their roles and whether they can come in."""
    users = build_registry(read_settings(settings)).users()
    if as_json:
        print_json(users)
        return
    rows = [
        (u.name, u.role.value, _word(u), "" if u.seen_at is None else f"{age(u.seen_at)} ago", age(u.created_at))
        for u in users
    ]
    print_table(("User", "Role", "", "Logged in, seen", "Age"), rows, empty="No user yet; see `radnode users add`.")


@app.command("add")
@reports_errors
def add_user(
    name: NameArgument,
    *,
    role: Annotated[
        Role, typer.Option(help="viewer: sees and reviews; operator: stores and retries, too; admin: all.")
    ],
    password_stdin: StdinOption = False,
    settings: SettingsOption = None,
) -> None:
    """Add a user; without a password a one-time link is printed by which they set one."""
    loaded, account = read_settings(settings), find_account()
    registry = build_registry(loaded, is_first=True)
    password = _read_password() if password_stdin else None
    user = registry.add_user(name, role, password=password, by=account)
    stdout().print(f"{user.name} is {user.role.value}.")
    if password is None:
        _print_link(loaded, registry.link_for(user.name, by=account))


@app.command("role")
@reports_errors
def change_role(
    name: NameArgument, role: Annotated[Role, typer.Argument()], *, settings: SettingsOption = None
) -> None:
    """Give a user another role; it counts from the next request on."""
    build_registry(read_settings(settings)).set_role(name, role, by=find_account())
    stdout().print(f"{name} is {role.value}.")


@app.command("password")
@reports_errors
def change_password(
    name: NameArgument, *, password_stdin: StdinOption = False, settings: SettingsOption = None
) -> None:
    """Set a password, which ends all sessions of the user; or print a one-time link by which they set it."""
    loaded, account = read_settings(settings), find_account()
    registry = build_registry(loaded)
    if password_stdin:
        registry.set_password(name, _read_password(), by=account)
        stdout().print(f"The password of {name} is set.")
    else:
        _print_link(loaded, registry.link_for(name, by=account))


@app.command("disable")
@reports_errors
def disable_user(name: NameArgument, *, revoke_tokens: RevokeOption = False, settings: SettingsOption = None) -> None:
    """Let a user in no more, at once; their name stays."""
    registry = build_registry(read_settings(settings))
    registry.set_disabled(name, is_disabled=True, by=find_account())
    stdout().print(f"{name} may not come in any more; `radnode users enable {name}` undoes it.")
    _tell_tokens(registry, name, is_revoked=revoke_tokens)


@app.command("enable")
@reports_errors
def enable_user(name: NameArgument, *, settings: SettingsOption = None) -> None:
    """Let a user in again who was disabled."""
    build_registry(read_settings(settings)).set_disabled(name, is_disabled=False, by=find_account())
    stdout().print(f"{name} may come in again.")


@app.command("remove")
@reports_errors
def remove_user(name: NameArgument, *, revoke_tokens: RevokeOption = False, settings: SettingsOption = None) -> None:
    """Remove a user; what they did stays in time lines and in the audit trail."""
    registry = build_registry(read_settings(settings))
    registry.remove_user(name, by=find_account())
    stdout().print(f"{name} is removed.")
    _tell_tokens(registry, name, is_revoked=revoke_tokens)


def build_registry(settings: Settings, *, is_first: bool = False) -> Registry:
    """Return what changes who may come in, with each change in the audit trail.

    Parameters
    ----------
    is_first
        Make the ledger where there is none yet, for those who may come in from the first start on.
    """
    engine = open_ledger(settings) if is_first else find_ledger(settings)
    return open_registry(engine, clock=utc_now, tell=lambda event: record_audit(settings, event))


def _read_password() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _print_link(settings: Settings, secret: str) -> None:
    out = stdout()
    out.print("Within 24 hours, once, they set a password at")
    out.print(f"{url_of(settings.web)}/welcome/{secret}", markup=False)


def _tell_tokens(registry: Registry, name: str, *, is_revoked: bool) -> None:
    made = registry.tokens_of(name)
    if is_revoked:
        for token in made:
            registry.revoke_token(token, by=find_account())
    if made:
        what = "are revoked" if is_revoked else "still count; `radnode tokens revoke NAME` ends one"
        stdout().print(f"Tokens that {name} has made {what}: {', '.join(made)}.", markup=False)


def _word(user: User) -> str:
    if user.is_disabled:
        return "disabled"
    if user.has_password:
        return ""
    return "by the provider" if user.subject else "no password yet"
