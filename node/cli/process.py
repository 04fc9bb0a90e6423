"""`radnode process`: rules and pipelines on DICOM files, without a network."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from node.cli.context import SettingsOption, make_folder, read_settings
from node.cli.output import EXIT_REFUSED, print_json, reports_errors, stdout
from node.domain.percent import certainty
from node.errors import NotDicom, NotFound
from node.logs import configure_logging
from node.offline import OfflineNode, RefusedFile, offline_settings
from node.wording import short_uid

REPORT_FILE = "report.json"


@reports_errors
def process(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders with them.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for Results and report.json.")],
    pipeline: Annotated[str | None, typer.Option(help="Only rules that run this Pipeline.")] = None,
    settings: SettingsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Process files; exit code 3 if some Study was refused."""
    loaded = read_settings(settings)
    configure_logging("ERROR")
    files = _find_files(paths)
    make_folder(out)
    with tempfile.TemporaryDirectory(prefix="radnode-") as folder:
        node = OfflineNode(offline_settings(loaded, Path(folder), pipeline=pipeline))
        try:
            refused = _run(node, files, named=[path for path in paths if path.is_file()])
            report = node.report(out)
        finally:
            node.close()
    if refused:
        report["files"] = [{"path": str(f.path), "refusal": {"code": f.code, "text": f.text}} for f in refused]
    (out / REPORT_FILE).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        _print_report(report, out)
    if refused or _has_refusal(report):
        raise typer.Exit(EXIT_REFUSED)


def _run(node: OfflineNode, files: Sequence[Path], *, named: Sequence[Path]) -> list[RefusedFile]:
    with Progress(transient=True) as progress:
        task = progress.add_task("Reading headers", total=None)
        # A text file in a folder of images is no refusal; a file that a person names is.
        refused = [file for file in node.take_in(files) if file.is_dicom or file.path in named]
        if not refused and not node.stories():
            raise NotDicom(f"none of {len(files)} files is DICOM; name Part 10 files, or folders with them")
        progress.update(task, description="Asking the rules")
        node.route()
        progress.update(task, description="Running pipelines")
        node.run_jobs()
    return refused


def _find_files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(child for child in path.rglob("*") if child.is_file()))
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"{path} does not exist; name DICOM files or folders with them")
    return found


def _has_refusal(report: dict[str, Any]) -> bool:
    return any(
        "refusal" in study or any(job["state"] != "COMPLETED" for job in study["jobs"]) for study in report["studies"]
    )


def _print_report(report: dict[str, Any], out: Path) -> None:
    console = stdout()
    for study in report["studies"]:
        console.print(f"[bold]Study {short_uid(study['study_instance_uid'])}[/bold]")
        if "refusal" in study:
            console.print(f"  refused, {study['refusal']['code']}: {study['refusal']['text']}", markup=False)
        for job in study["jobs"]:
            console.print(f"  {job['pipeline']} {job['state']}" + _reason(job), markup=False)
            for finding in job["findings"]:
                console.print(f"    {describe_finding(finding)}")
            for result in job["results"]:
                console.print(f"    {result['kind']} {out / result['path']}")
    for file in report.get("files", []):
        console.print(f"{file['path']} refused, {file['refusal']['code']}: {file['refusal']['text']}", markup=False)
    console.print(f"Report: {out / REPORT_FILE}")


def _reason(job: dict[str, Any]) -> str:
    return f", {job['reason']['code']}: {job['reason']['text']}" if "reason" in job else ""


def describe_finding(finding: dict[str, Any]) -> str:
    """Return one finding in words: label, presence, certainty, place, sizes."""
    words = [f"{finding['label']} {finding['presence']}"]
    if finding["confidence"] is not None:
        words.append(certainty(finding["confidence"]))
    sizes = {"long_axis_mm": "{:.1f} mm", "volume_mm3": "{:.0f} mm³"}
    words += [
        form.format(finding["measurements"][key]) for key, form in sizes.items() if key in finding["measurements"]
    ]
    if finding["laterality"] is not None:
        words.append(finding["laterality"][2].lower())
    if finding["center_mm"] is not None:
        words.append("at " + ", ".join(f"{c:.1f}" for c in finding["center_mm"]) + " mm (LPS)")
    return ", ".join(words)
