"""`radnode tokens`: by what programs show who they are."""

from datetime import timedelta
from typing import Annotated

import typer

from node.accounts.registry import TokenOrder
from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.cli.users import build_registry
from node.clock import utc_now
from node.domain.account import Right
from node.errors import SettingsInvalid
from node.wording import age

app = typer.Typer(no_args_is_help=True, help="Tokens by which programs use DICOMweb and the API.")


@app.command("list")
@reports_errors
def list_tokens(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """List tokens; their secrets are nowhere."""
    tokens = build_registry(read_settings(settings)).tokens()
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "scopes": sorted(one.scopes),
                    "created_at": one.created_at,
                    "created_by": one.created_by,
                    "expires_at": one.expires_at,
                    "used_at": one.used_at,
                }
                for one in tokens
            ]
        )
        return
    now = utc_now()
    rows = [
        (
            one.name,
            ", ".join(sorted(one.scopes)),
            "never" if one.expires_at is None else "expired" if one.expires_at <= now else f"{one.expires_at:%Y-%m-%d}",
            "never" if one.used_at is None else f"{age(one.used_at)} ago",
            one.created_by,
        )
        for one in tokens
    ]
    print_table(("Token", "For", "Expires", "Used", "Made by"), rows, empty="No token yet; see `radnode tokens add`.")


@app.command("add")
@reports_errors
def add_token(
    name: Annotated[str, typer.Argument(help="What uses it, such as ct1-gateway.")],
    *,
    scope: Annotated[str, typer.Option(help=f"What it is for, with commas between: {', '.join(Right)}.")],
    days: Annotated[
        float | None, typer.Option(min=0.01, help="After so many days it counts no more; never else.")
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Make a token and print it, once; a client sends it as Bearer, or as the password of Basic."""
    life = None if days is None else timedelta(days=days)
    order = TokenOrder(name=name, scopes=_read_scopes(scope), life=life)
    secret = build_registry(read_settings(settings), is_first=True).add_token(order, by=find_account())
    stdout().print(secret, markup=False)


@app.command("revoke")
@reports_errors
def revoke_token(
    name: Annotated[str, typer.Argument(help="Name of the token, as `radnode tokens list` shows it.")],
    *,
    settings: SettingsOption = None,
) -> None:
    """Let a token count no more, at once."""
    build_registry(read_settings(settings)).revoke_token(name, by=find_account())
    stdout().print(f"{name} counts no more.")


def _read_scopes(text: str) -> frozenset[Right]:
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(Right)]
    if unknown:
        raise SettingsInvalid(f"--scope {unknown[0]!r} is none; known are {', '.join(Right)}")
    return frozenset(map(Right, words))
