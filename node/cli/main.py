"""The command line `radnode …`: which commands there are."""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from node.version import product_version

# Where the command or the group of each name stands; loaded when it is called, so that none waits for the others.
COMMANDS: Mapping[str, str] = {
    "demo": "node.cli.demo:demo",
    "rehearse": "node.cli.rehearse:rehearse",
    "up": "node.cli.up:up",
    "serve": "node.cli.up:serve",
    "worker": "node.cli.worker:worker",
    "process": "node.cli.process:process",
    "send": "node.cli.send:send",
    "pull": "node.cli.pull:app",
    "doctor": "node.cli.doctor:doctor",
    "events": "node.cli.events:events",
    "alarms": "node.cli.alarms:alarms",
    "metrics": "node.cli.metrics:metrics",
    "studies": "node.cli.studies:app",
    "orders": "node.cli.orders:app",
    "jobs": "node.cli.jobs:app",
    "results": "node.cli.results:app",
    "deliveries": "node.cli.deliveries:app",
    "ledger": "node.cli.ledger:app",
    "rules": "node.cli.rules:app",
    "models": "node.cli.models:app",
    "evaluate": "node.cli.evaluate:evaluate",
    "phantoms": "node.cli.phantoms:phantoms",
    "feedback": "node.cli.feedback:app",
    "viewer": "node.cli.viewer:app",
    "pipelines": "node.cli.pipelines:app",
    "users": "node.cli.users:app",
    "tokens": "node.cli.tokens:app",
    "audit": "node.cli.audit:app",
    "bench": "node.cli.bench:app",
}


class Commands(TyperGroup):
    """Loads a command when it is called; Typer keeps the types of its contexts and commands to itself."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the help."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name, None when there is none."""
        place = COMMANDS.get(cmd_name)
        return super().get_command(ctx, cmd_name) if place is None else _load(cmd_name, place)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="radnode: the AI processing node beside a PACS. Not a medical device.",
)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(product_version())


def _print_version(*, is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def radnode(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """radnode: the AI processing node beside a PACS. Not a medical device."""


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
