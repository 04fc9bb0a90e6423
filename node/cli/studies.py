"""`radnode studies`: what came in, and what became of it."""

from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, look_into_ledger
from node.cli.output import age, print_json, print_table, reports_errors, short_uid, stdout
from node.cli.purge import purge_studies
from node.domain.capability import name_kind
from node.domain.uids import StudyUID
from node.ledger.views import StudyStory

app = typer.Typer(no_args_is_help=True, help="Studies in the ledger.")
app.command("purge")(purge_studies)


@app.command("list")
@reports_errors
def list_studies(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List the Studies that changed last."""
    stories = look_into_ledger(settings).list_studies(limit)
    if as_json:
        print_json(stories)
        return
    rows = [
        (
            s.study_instance_uid,
            s.state,
            _modalities(s),
            _instances(s),
            _conclusion(s),
            age(s.first_instance_at),
        )
        for s in stories
    ]
    print_table(("Study", "State", "Modality", "Instances", "Jobs", "Age"), rows, empty="No Study yet.")


@app.command("show")
@reports_errors
def show_study(
    study_instance_uid: Annotated[str, typer.Argument(help="Study Instance UID (0020,000D).")],
    *,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Tell the story of one Study: Series, Decisions, Jobs, Results, Deliveries, time line."""
    story = look_into_ledger(settings).study_story(StudyUID(study_instance_uid))
    if as_json:
        print_json(story)
        return
    out = stdout()
    out.print(f"[bold]{story.study_instance_uid}[/bold]  {story.state}  {story.reason}")
    series = [(short_uid(s.series_instance_uid), s.modality, s.description, s.instances, s.state) for s in story.series]
    print_table(("Series", "Modality", "Description", "Instances", "State"), series, empty="")
    out.print("\n[bold]Why[/bold]")
    decisions = [(d.outcome.value, d.rule, d.reason) for d in story.decisions]
    print_table(("Outcome", "Rule", "Reason"), decisions, empty="Not routed yet.")
    out.print("\n[bold]Jobs[/bold]")
    jobs = [(j.job_id, j.order.pipeline, j.state.value, j.attempts, j.reason_text or "") for j in story.jobs]
    print_table(("Job", "Pipeline", "State", "Attempts", "Reason"), jobs, empty="None.")
    out.print("\n[bold]Deliveries[/bold]")
    deliveries = [
        (
            d.destination,
            name_kind(d.sop_class_uid),
            short_uid(d.sop_instance_uid),
            d.state.value,
            d.attempts,
            d.reason_text or "",
        )
        for d in story.deliveries
    ]
    print_table(("Destination", "Kind", "Object", "State", "Attempts", "Reason"), deliveries, empty="None.")
    out.print("\n[bold]Time line[/bold]")
    events = [(e.at.isoformat(timespec="milliseconds"), e.kind, e.text) for e in story.events]
    print_table(("At", "Event", "What"), events, empty="Empty.")


def _modalities(story: StudyStory) -> str:
    return ", ".join(sorted({s.modality for s in story.series if s.modality}))


def _instances(story: StudyStory) -> int:
    return sum(s.instances for s in story.series)


def _conclusion(story: StudyStory) -> str:
    if story.jobs:
        return ", ".join(f"{j.order.pipeline} {j.state.value.lower()}" for j in story.jobs)
    return "no rule matched" if story.decisions else "not routed yet"
