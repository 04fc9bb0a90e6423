"""`radnode models`: the models at hand, and whether they are what they say."""

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors, stdout
from node.errors import ModelInvalid
from node.models import list_models as find_models
from node.site import model_folders

app = typer.Typer(no_args_is_help=True, help="The model catalogue.")


@app.command("list")
@reports_errors
def list_models(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """List every model folder, and which Pipeline uses it."""
    loaded = read_settings(settings)
    used = {entry.model: name for name, entry in loaded.pipelines.items()}
    cards = find_models(model_folders(loaded))
    if as_json:
        print_json(cards)
        return
    rows = [(c.name, c.version, c.pipeline, used.get(c.name, "not used"), c.licence, c.notice) for c in cards]
    print_table(("Model", "Version", "Pipeline", "Used by", "Licence", "Notice"), rows, empty="No model at hand.")


@app.command("verify")
@reports_errors
def verify_models(*, settings: SettingsOption = None) -> None:
    """Compare the weights of every model with the digest in its model.toml."""
    out, damaged = stdout(), 0
    for card in find_models(model_folders(read_settings(settings))):
        try:
            card.verify_weights()
            out.print(f"{card.name} {card.version}: weights are as named")
        except ModelInvalid as exc:
            damaged += 1
            out.print(f"[red]{exc}[/red]")
    if damaged:
        raise typer.Exit(EXIT_FAILURE)
