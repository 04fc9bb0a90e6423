"""`radnode pipelines`: which are on, and the switch."""

from typing import Annotated

import typer

from node.audit.account import find_account
from node.audit.orders import pipeline_switched
from node.cli.context import JsonOption, SettingsOption, read_settings, record_audit
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.domain.switch import Mode, Switch
from node.errors import PipelineUnknown
from node.ledger.opening import open_ledger, open_switches
from node.ledger.switches import SwitchLedger
from node.wording import age

app = typer.Typer(no_args_is_help=True, help="Pipelines, and the switch of each.")


@app.command("list")
@reports_errors
def list_pipelines(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """List Pipelines: on, in shadow, or off; since when, and by whom."""
    loaded = read_settings(settings)
    switches = open_switches(loaded).read_switches()
    if as_json:
        modes = {name: switches[name].mode if name in switches else Mode.ON for name in loaded.pipelines}
        print_json([{"pipeline": name, "mode": mode, "switch": switches.get(name)} for name, mode in modes.items()])
        return
    rows = [_row(name, entry.model, switches.get(name)) for name, entry in loaded.pipelines.items()]
    print_table(("Pipeline", "Model", "Switch", "For", "By", "Why"), rows, empty="No Pipeline is configured.")


@app.command("switch")
@reports_errors
def switch_pipeline(
    name: Annotated[str, typer.Argument(help="Pipeline, as `radnode pipelines list` shows it.")],
    mode: Annotated[Mode, typer.Argument(help="on, shadow (Results are kept and not delivered) or off.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later; no patient's name.")] = "",
    settings: SettingsOption = None,
) -> None:
    """Switch a Pipeline for every node of the ledger, from the next Study on; it is recorded who did."""
    loaded = read_settings(settings)
    if name not in loaded.pipelines:
        raise PipelineUnknown(f"pipeline {name!r} is unknown; known are {', '.join(loaded.pipelines)}")
    wanted = Switch(pipeline=name, mode=mode, changed_by=find_account(), changed_at=utc_now(), reason=reason)
    # Before the first start, too: a Pipeline may have to begin in shadow.
    ended = SwitchLedger(open_ledger(loaded)).switch_pipeline(wanted)
    record_audit(loaded, pipeline_switched(wanted))
    stdout().print(f"{name} is {mode.value}: {mode.words}.")
    if ended:
        stdout().print(f"{ended} Jobs that waited or ran are canceled.")


def _row(name: str, model: str, switch: Switch | None) -> tuple[str, ...]:
    if switch is None:
        return name, model, Mode.ON.value, "", "", ""
    return name, model, switch.mode.value, age(switch.changed_at), switch.changed_by, switch.reason
