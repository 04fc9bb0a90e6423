"""The command line `radnode …`: which commands there are."""

import typer

from node.cli import audit, bench, deliveries, jobs, ledger, models, results, rules, studies
from node.cli.demo import demo
from node.cli.doctor import doctor
from node.cli.events import events
from node.cli.process import process
from node.cli.rehearse import rehearse
from node.cli.send import send
from node.cli.up import serve, up, worker
from node.version import product_version

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="radnode: the AI processing node beside a PACS. Not a medical device.",
)
for command in (demo, rehearse, up, serve, worker, process, send, doctor, events):
    app.command()(command)
for name, group in (
    ("studies", studies.app),
    ("jobs", jobs.app),
    ("results", results.app),
    ("deliveries", deliveries.app),
    ("ledger", ledger.app),
    ("rules", rules.app),
    ("models", models.app),
    ("audit", audit.app),
    ("bench", bench.app),
):
    app.add_typer(group, name=name)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(product_version())
