"""`radnode rules`: whether they are right, and why they decided so."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, reports_errors, stdout
from node.domain.decision import Decision
from node.domain.uids import UID_PATTERN, StudyUID
from node.errors import NotFound
from node.ledger.opening import open_view
from node.offline import decide_on_files
from node.rules.explain import explain as explain_decisions
from node.rules.scrutiny import scrutinize
from node.site import find_models, read_rules

SHOWN_CHARACTERS = 40

app = typer.Typer(no_args_is_help=True, help="Which Pipeline runs on what, and why.")


@app.command()
@reports_errors
def check(*, settings: SettingsOption = None) -> None:
    """Read every rule as the node would at start-up, and tell what it says in vain; exit code 1 if one does."""
    loaded = read_settings(settings)
    rules = read_rules(loaded, find_models(loaded))
    remarks = scrutinize(rules)
    for rule in rules:
        told = [f"{remark.fault.value}: {remark.text}" for remark in remarks if remark.rule == rule.name]
        for line in told or ["right"]:
            stdout().print(f"{rule.name}: {line}", markup=False)
    if remarks:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
@reports_errors
def explain(
    what: Annotated[str, typer.Argument(help="A Study Instance UID of the ledger, or a folder or file of DICOM.")],
    *,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Say for each rule whether it matched, and which clause decided."""
    loaded = read_settings(settings)
    decided: Sequence[Decision]
    if _is_path(what):
        with tempfile.TemporaryDirectory(prefix="radnode-") as folder:
            decided = decide_on_files(loaded, Path(what), Path(folder))
    else:
        decided = open_view(loaded).study_story(StudyUID(what)).decisions
    if as_json:
        print_json(decided)
        return
    for line in explain_decisions(decided):
        stdout().print(line, markup=False)


def _is_path(what: str) -> bool:
    try:
        return Path(what).exists() or UID_PATTERN.match(what) is None
    except OSError as exc:
        raise NotFound(f"{what[:SHOWN_CHARACTERS]}… is no path and no UID ({exc.strerror})") from exc
