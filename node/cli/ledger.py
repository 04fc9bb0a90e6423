"""`radnode ledger`: whether the queue of record is whole, and how it is made anew."""

from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors, stdout
from node.destinations import destination_names
from node.ledger.opening import find_ledger
from node.logs import configure_logging
from node.upkeep import rebuild_ledger, survey_ledger

app = typer.Typer(no_args_is_help=True, help="The ledger itself.")

MAX_SHOWN = 20


@app.command("check")
@reports_errors
def check_ledger(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Look at every page and row, and for every file that they name; exit code 1 if something is wrong.

    It only reads, and may run beside the node.
    """
    loaded = read_settings(settings)
    survey = survey_ledger(loaded, find_ledger(loaded))
    if as_json:
        print_json(survey)
    else:
        out = stdout()
        out.print(f"{survey.instances} Instances, {survey.results} Results, schema {survey.schema}")
        wrong = [("damaged", line) for line in survey.damages]
        if survey.is_unfinished:
            wrong.append(("not made to its end", "start the node, which makes it anew from the store"))
        wrong += [
            ("not in the ledger", f"what became of Job {job_id}; start the node")
            for job_id in survey.unknown[:MAX_SHOWN]
        ]
        wrong += [("file is missing", path) for path in survey.missing[:MAX_SHOWN]]
        print_table(("Wrong", "What"), wrong, empty="Everything is there.")
        for what, found in (("Jobs that are not in the ledger", survey.unknown), ("files", survey.missing)):
            if len(found) > MAX_SHOWN:
                out.print(f"and {len(found) - MAX_SHOWN} more {what}")
    if not survey.is_right:
        raise typer.Exit(EXIT_FAILURE)


@app.command("rebuild")
@reports_errors
def rebuild(
    *,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also when nothing is wrong with the ledger.")] = False,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Make the ledger anew from store and audit trail; the node must not run, the old file stays beside the new one.

    Instances come from their files, answers from the cards beside their Results. What the audit trail proves as sent
    counts as sent; the other Results are sent again with the same UIDs and bytes. Refusals, Events and Decisions are
    made anew as far as they follow from the Instances.
    """
    loaded = read_settings(settings)
    configure_logging("ERROR")
    rebuilt = rebuild_ledger(loaded, destinations=destination_names(loaded), is_forced=anyway)
    if as_json:
        print_json(rebuilt)
        return
    answers = rebuilt.restored.answers
    rows = [
        ("Instances adopted", rebuilt.restored.instances),
        ("Jobs with their answer", answers.jobs),
        ("Results", answers.results),
        ("Retractions", answers.retractions),
        ("Second answers to one question, set aside", len(answers.set_aside)),
        ("Deliveries that were sent", answers.sent + answers.forwarded),
        ("Deliveries that go again", answers.pending),
        ("Old ledger", rebuilt.aside or "there was none"),
    ]
    print_table(("", ""), rows, empty="")
