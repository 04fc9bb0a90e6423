"""`radnode alarms`: what is wrong now, and was."""

from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.errors import SettingsInvalid
from node.ledger.alarms import AlarmLedger
from node.ledger.opening import find_ledger
from node.settings.whole import Settings
from node.supervision import build_webhook
from node.wording import age, span


@reports_errors
def alarms(
    *,
    is_all: Annotated[bool, typer.Option("--all", help="Those that are well again, too, newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many with --all.")] = 30,
    is_test: Annotated[bool, typer.Option("--test", help="Send a message that is no alarm to alarms.webhook.")] = False,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List what is wrong now: sources, pipelines, Jobs, Deliveries, Destinations, store, broker, audit trail."""
    loaded = read_settings(settings)
    if is_test:
        _test_webhook(loaded)
        return
    ledger = AlarmLedger(find_ledger(loaded))
    found = ledger.list_alarms(limit) if is_all else ledger.standing_alarms()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            alarm.raised_at.isoformat(timespec="seconds"),
            "healed" if alarm.healed_at is not None else "STANDS",
            alarm.kind.value,
            alarm.subject,
            age(alarm.raised_at)
            if alarm.healed_at is None
            else span((alarm.healed_at - alarm.raised_at).total_seconds()),
            alarm.text,
        )
        for alarm in found
    ]
    print_table(("Raised", "", "Alarm", "About", "For", "What"), rows, empty="No alarm stands.")


def _test_webhook(settings: Settings) -> None:
    webhook = build_webhook(settings)
    if webhook is None:
        raise SettingsInvalid("alarms.webhook is empty; give the URL that is to be told")
    webhook.post_test(utc_now())
    stdout().print("alarms.webhook took note.")
