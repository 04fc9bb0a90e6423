"""`radnode events`: what the node noted, refusals included."""

from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, look_into_ledger
from node.cli.output import print_json, print_table, reports_errors
from node.wording import short_uid


@reports_errors
def events(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List what happened, newest first: also what was refused before there was a Study to show it in."""
    found = look_into_ledger(settings).list_events(limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            event.at.isoformat(timespec="seconds"),
            "ALARM" if event.is_alarm else "",
            event.kind,
            short_uid(event.study_instance_uid or ""),
            event.text,
        )
        for event in found
    ]
    print_table(("At", "", "Event", "Study", "What"), rows, empty="Nothing happened yet.")
