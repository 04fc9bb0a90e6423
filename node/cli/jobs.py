"""`radnode jobs`: what runs, ran, or will run."""

from typing import Annotated

import typer

from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, look_into_ledger, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.domain.job import Job, JobID, JobState
from node.ledger.fates import tell_job
from node.ledger.opening import open_interventions
from node.site import installed_model
from node.wording import age, short_uid

app = typer.Typer(no_args_is_help=True, help="Jobs in the ledger.")

JobArgument = Annotated[str, typer.Argument(help="Job id, as `radnode jobs list` shows it.")]


@app.command("list")
@reports_errors
def list_jobs(
    *,
    state: Annotated[JobState | None, typer.Option(help="Only Jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List Jobs."""
    jobs = look_into_ledger(settings).list_jobs(state=state, limit=limit)
    if as_json:
        print_json(jobs)
        return
    rows = [
        (
            j.job_id,
            j.order.pipeline,
            j.state.value,
            j.order.priority.word,
            short_uid(j.order.study_instance_uid),
            "given up" if j.seen is None else j.seen,
            j.reason_code or "",
            age(j.accepted_at),
            tell_job(j),
        )
        for j in jobs
    ]
    columns = ("Job", "Pipeline", "State", "Priority", "Study", "Findings", "Code", "Age", "In words")
    print_table(columns, rows, empty="No Job yet.")


@app.command("show")
@reports_errors
def show_job(job_id: JobArgument, *, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Show one Job with its inputs, findings, seconds, reason and time line."""
    view = look_into_ledger(settings)
    job = view.find_job(JobID(job_id))
    if as_json:
        print_json(job)
        return
    _print_job(job)
    stdout().print("\n[bold]Time line[/bold]")
    events = [(event.at.isoformat(timespec="milliseconds"), event.kind, event.text) for event in view.job_events(job)]
    print_table(("At", "Event", "What"), events, empty="Empty.")


@app.command("retry")
@reports_errors
def retry_job(job_id: JobArgument, *, settings: SettingsOption = None) -> None:
    """Start a Job anew that was canceled, waits or hangs, with all its attempts and the model installed now."""
    loaded = read_settings(settings)
    pipeline = look_into_ledger(settings).find_job(JobID(job_id)).order.pipeline
    installed = installed_model(loaded, pipeline)
    open_interventions(loaded).retry_job(JobID(job_id), ordered_by=find_account(), installed=installed, now=utc_now())
    stdout().print(f"{job_id} is scheduled again.")


@app.command("cancel")
@reports_errors
def cancel_job(
    job_id: JobArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later; no patient's name.")] = "",
    settings: SettingsOption = None,
) -> None:
    """Cancel a Job that waits or runs; what a worker still answers is dropped."""
    open_interventions(read_settings(settings)).cancel_job(
        JobID(job_id), ordered_by=find_account(), reason=reason, now=utc_now()
    )
    stdout().print(f"{job_id} is canceled.")


def _print_job(job: Job) -> None:
    out = stdout()
    out.print(f"[bold]{job.job_id}[/bold]  {job.order.pipeline}  {job.state.value}  {job.order.priority.word}")
    facts = [
        ("Study", job.order.study_instance_uid),
        ("Rule", job.order.rule),
        ("Model", f"{job.order.model} {job.order.model_version} {job.model_sha256 or ''}"),
        ("Attempts", job.attempts),
        ("Accepted", job.accepted_at.isoformat(timespec="seconds")),
        *((f"Input {role}", uid) for role, uid in job.order.inputs.items()),
        *(("Note", note) for note in job.notes),
        *((f"Seconds {stage}", _tell_seconds(job, stage)) for stage in job.seconds),
        ("In words", f"{job.reason_code}: {tell_job(job)}" if job.reason_code else tell_job(job)),
    ]
    print_table(("", ""), facts, empty="")
    findings = [
        (f["label"], f["presence"], f["confidence"], f["center_mm"] or "", f["measurements"]) for f in job.findings
    ]
    empty = "Its findings are not known here any more." if job.is_given_up else "No finding."
    print_table(("Finding", "Presence", "Confidence", "Center (mm)", "Measurements"), findings, empty=empty)


def _tell_seconds(job: Job, stage: str) -> str:
    """Return what a stage took, and its parts where they are known."""
    parts = ", ".join(f"{part} {seconds:g}" for part, seconds in job.stages.get(stage, {}).items())
    return f"{job.seconds[stage]:g}: {parts}" if parts else f"{job.seconds[stage]:g}"
