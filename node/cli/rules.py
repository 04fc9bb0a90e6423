"""`radnode rules`: whether they are right, and why they decided so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors, stdout
from node.cli.spans import parse_since
from node.clock import utc_now
from node.domain.decision import Decision
from node.domain.study import StudyFacts
from node.domain.uids import UID_PATTERN, StudyUID
from node.errors import NotFound, PipelineUnknown
from node.ledger.opening import find_ledger, open_view, require_ledger
from node.ledger.studies import StudyLedger
from node.offline import node_on_files
from node.rules.dry_run import Difference
from node.rules.explain import explain as explain_decisions
from node.rules.lacking import Lack, find_lack
from node.rules.scrutiny import scrutinize
from node.settings.whole import Settings
from node.site import find_models, read_rules
from node.trial import Limits, Trial, try_settings

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
    wanting: Annotated[
        str | None, typer.Option("--wanting", help="Say instead what it would take for this Pipeline to be run.")
    ] = None,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Say for each rule whether it matched, and which clause decided; or what it would take for a Pipeline."""
    loaded = read_settings(settings)
    decided: Sequence[Decision]
    studies: Sequence[StudyFacts] = ()
    if _is_path(what):
        with node_on_files(loaded, Path(what)) as node:
            decided = [decision for story in node.stories() for decision in story.decisions]
            studies = node.facts()
    else:
        decided = open_view(loaded).study_story(StudyUID(what)).decisions
        studies = [StudyLedger(find_ledger(loaded)).study_facts(StudyUID(what))] if wanting else ()
    if wanting:
        _print_lacks(_find_lacks(loaded, wanting, studies), as_json=as_json)
        return
    if as_json:
        print_json(decided)
        return
    for line in explain_decisions(decided):
        stdout().print(line, markup=False)


def _find_lacks(settings: Settings, pipeline: str, studies: Sequence[StudyFacts]) -> list[Lack]:
    rules = [
        rule
        for rule in read_rules(settings, find_models(settings))
        if any(need.pipeline == pipeline for need in rule.needs)
    ]
    if not rules:
        raise PipelineUnknown(f"no rule runs {pipeline!r}; see `radnode rules check` for the rules there are")
    return [find_lack(rule, study) for study in studies for rule in rules]


def _print_lacks(lacks: Sequence[Lack], *, as_json: bool) -> None:
    if as_json:
        print_json(lacks)
        return
    for lack in lacks:
        if not lack.clauses:
            stdout().print(f"{lack.rule}: matches; nothing is lacking", markup=False)
            continue
        stdout().print(f"{lack.rule}: it would take" + (f", of {lack.nearest}:" if lack.nearest else ":"), markup=False)
        for clause in lack.clauses:
            stdout().print(f"  {clause.text} (found: {clause.found})", markup=False)


@app.command("dry-run")
@reports_errors
def dry_run(
    *,
    settings: Annotated[Path, typer.Option("--settings", help="Settings file with the rules to try.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="Settings as they are; ./settings.toml when it is there.")
    ] = None,
    since: Annotated[str, typer.Option(help="7d, 12h, 30m, or a date and time (ISO 8601, UTC).")] = "7d",
    limit: Annotated[int, typer.Option(min=1, help="Ask about the newest so many Studies.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Ask no further Study after so long.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """List what other rules would have done otherwise with the Studies of the ledger; nothing is changed or stored."""
    edited, current, limits = read_settings(settings), read_settings(against), Limits(studies=limit, seconds=seconds)
    require_ledger(current)
    trial = try_settings(
        edited,
        current,
        text=settings.read_text(encoding="utf-8"),
        since=parse_since(since, utc_now()),
        limits=limits,
    )
    if as_json:
        print_json(trial)
        return
    rows = [
        (one.study_instance_uid, *(", ".join(names) for names in (one.starts, one.stops, one.changes)), _say_why(one))
        for one in trial.found.differences
    ]
    header = ("Study", "Would start", "Would stop", "Would do otherwise", "Because")
    print_table(header, rows, empty="Nothing would be done otherwise.")
    stdout().print(_sum_up(trial), markup=False)


def _say_why(one: Difference) -> str:
    told = one.after or one.before
    return "" if told is None else f"{told.rule}: {told.reason}"


def _sum_up(trial: Trial) -> str:
    found = trial.found
    lines = [f"{found.tried} of {trial.studies} Studies asked about; otherwise with {len(found.differences)}."]
    lines += [f"{name}: would start on {count}" for name, count in sorted(found.started.items())]
    lines += [f"{name}: would stop on {count}" for name, count in sorted(found.stopped.items())]
    if not found.is_whole:
        lines.append("Time was up before all were asked; give --seconds, or a later --since.")
    return "\n".join(lines)


def _is_path(what: str) -> bool:
    try:
        return Path(what).exists() or UID_PATTERN.match(what) is None
    except OSError as exc:
        raise NotFound(f"{what[:SHOWN_CHARACTERS]}… is no path and no UID ({exc.strerror})") from exc
