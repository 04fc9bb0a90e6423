"""`radnode studies`: what came in, and what became of it."""

from typing import Annotated

import typer

from node.audit.account import find_account
from node.audit.events import StudySubject, study_reprocessed
from node.cli.context import JsonOption, SettingsOption, look_into_ledger, read_settings, record_audit
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.cli.purge import purge_studies
from node.clock import utc_now
from node.domain.capability import name_kind
from node.domain.result import Result
from node.domain.study import SeriesState
from node.domain.uids import StudyUID
from node.ledger.fates import tell_delivery, tell_job, tell_study
from node.ledger.opening import open_interventions, open_view
from node.ledger.views import Event, StudyStory
from node.wording import age, short_uid

# States in which the rules were not asked yet.
UNASKED = frozenset({SeriesState.OPEN.value, SeriesState.SETTLED.value})

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
            tell_study(s),
            age(s.first_instance_at),
        )
        for s in stories
    ]
    print_table(("Study", "State", "Modality", "Instances", "In words", "Age"), rows, empty="No Study yet.")


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
    _print_study(story)


@app.command("reprocess")
@reports_errors
def reprocess_study(
    study_instance_uid: Annotated[str, typer.Argument(help="Study Instance UID (0020,000D).")],
    *,
    settings: SettingsOption = None,
) -> None:
    """Let the rules be asked again, with the models that are installed then; the node that runs does it at once.

    What the same model answered before stands, unless an Instance that it read came again with other content.
    """
    loaded, uid, account = read_settings(settings), StudyUID(study_instance_uid), find_account()
    open_interventions(loaded).reprocess(uid, ordered_by=account, now=utc_now())
    subject = StudySubject(study_instance_uid=uid, patient_id=open_view(loaded).patient_id(uid))
    record_audit(loaded, study_reprocessed(subject, account=account))
    stdout().print("The rules are asked again; `radnode studies show` tells what they order.")


def _print_study(story: StudyStory) -> None:
    out = stdout()
    out.print(f"[bold]{story.study_instance_uid}[/bold]  {story.state}", end="  ")
    out.print(tell_study(story), markup=False)
    for order in story.orders:
        out.print(f"Order {order.order_id}: {order.words}", markup=False)
    series = [
        (short_uid(s.series_instance_uid), s.modality, s.description, s.instances, s.state, s.reason)
        for s in story.series
    ]
    columns = ("Series", "Modality", "Description", "Instances", "State", "Why it counts as complete")
    print_table(columns, series, empty="No Series is kept here any more.")
    _print_statements(story)
    out.print("\n[bold]Rules[/bold]")
    decisions = [(d.outcome.value, d.rule, d.reason) for d in story.decisions]
    unasked = "None was asked yet." if story.state in UNASKED else "There was none to ask."
    print_table(("Outcome", "Rule", "Why"), decisions, empty=unasked)
    out.print("\n[bold]Jobs[/bold]")
    jobs = [
        (j.job_id, j.order.pipeline, j.state.value, j.attempts, j.reason_code or "", tell_job(j)) for j in story.jobs
    ]
    print_table(("Job", "Pipeline", "State", "Attempts", "Code", "In words"), jobs, empty="None.")
    out.print("\n[bold]Results[/bold]")
    results = [(r.kind.value, short_uid(r.sop_instance_uid), short_uid(r.job_id), _standing(r)) for r in story.results]
    print_table(("Kind", "Object", "Job", "In words"), results, empty="None.")
    _print_deliveries(story)
    out.print("\n[bold]Time line[/bold]")
    events = [(e.at.isoformat(timespec="milliseconds"), _flag(e), e.kind, e.text) for e in story.events]
    print_table(("At", "", "Event", "What"), events, empty="Empty.")


def _print_statements(story: StudyStory) -> None:
    if not story.statements:
        return
    stdout().print("\n[bold]How much there should be[/bold]")
    rows = [
        (
            short_uid(one.series_instance_uid) or "the whole Study",
            one.told.value,
            one.source,
            "" if one.expected is None else one.expected,
            one.held,
            one.failure or ("final" if one.is_final else ""),
            one.seen_at.isoformat(timespec="milliseconds"),
        )
        for one in story.statements
    ]
    print_table(("Series", "Told by", "Source", "Expected", "Held then", "Note", "At"), rows, empty="Nobody said.")


def _print_deliveries(story: StudyStory) -> None:
    stdout().print("\n[bold]Deliveries[/bold]")
    deliveries = [
        (
            d.destination,
            name_kind(d.sop_class_uid),
            short_uid(d.sop_instance_uid),
            d.state.value,
            d.attempts,
            d.reason_code or "",
            tell_delivery(d),
        )
        for d in story.deliveries
    ]
    columns = ("Destination", "Kind", "Object", "State", "Attempts", "Code", "In words")
    print_table(columns, deliveries, empty="None.")


def _standing(result: Result) -> str:
    if result.retracted_at is not None:
        return f"taken back on {result.retracted_at:%Y-%m-%d}"
    if result.purged_at is not None:
        return f"its file was given up on {result.purged_at:%Y-%m-%d}"
    return "goes only where SEG or SR is not taken" if result.is_substitute else "stands"


def _flag(event: Event) -> str:
    return "ALARM" if event.is_alarm else ""


def _modalities(story: StudyStory) -> str:
    return ", ".join(sorted({s.modality for s in story.series if s.modality}))


def _instances(story: StudyStory) -> int:
    return sum(s.instances for s in story.series)
