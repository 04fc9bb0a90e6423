"""`radnode evaluate`: how good a model is on Studies whose truth is known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.context import JsonOption, SettingsOption, make_folder, read_settings
from node.cli.output import EXIT_REFUSED, print_json, print_table, reports_errors, stdout
from node.errors import SettingsInvalid
from node.evaluation import DICOM, PAGE_FILE, Wanted, evaluate_model, read_patients
from node.logs import configure_logging

FORMATS = (DICOM, "lgg", "kermany")


ModelOption = Annotated[str, typer.Option(help="Model folder, or name of an installed model.")]
DataOption = Annotated[Path, typer.Option(help="Folder with the Studies, at any depth.")]
OutOption = Annotated[Path, typer.Option(help="Folder for index.html, metrics.json, cases.csv and plots.")]
TruthOption = Annotated[
    Path | None, typer.Option(help="CSV file, or folder of DICOM SEG, SR, NIfTI or npz; see docs/evaluation.md.")
]
AgainstOption = Annotated[str | None, typer.Option(help="Another model, or version, to hold it against.")]
FormOption = Annotated[str, typer.Option("--format", help=f"How the data lie: {', '.join(FORMATS)}.")]
TaskOption = Annotated[str, typer.Option(help="segmentation, detection or classification; else what the model is for.")]
LabelOption = Annotated[str, typer.Option(help="The only label of the model that counts.")]
TruthLabelOption = Annotated[str, typer.Option(help="The only label of masks that counts: number or Segment Label.")]
UnlistedHealthyOption = Annotated[
    bool, typer.Option("--unlisted-healthy", help="A Study of which the truth says nothing holds no lesion.")
]
RoleOption = Annotated[list[str] | None, typer.Option(help="Give the model this input only; may be repeated.")]
ThresholdOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE in the place of the one in model.toml; may be repeated.")
]
PatientsOption = Annotated[
    Path | None, typer.Option(help="Only these patients: split.json of a recipe, or text with a key a line.")
]
PartOption = Annotated[str, typer.Option(help="Which list of split.json.")]
SubgroupOption = Annotated[
    list[str] | None,
    typer.Option(help="Figures by sex, age, manufacturer, slice-thickness or a column; may be repeated."),
]
SpecificityOption = Annotated[float, typer.Option(min=0.0, max=1.0, help="At which sensitivity is read.")]
ToleranceMmOption = Annotated[float, typer.Option(min=0.01, help="Surfaces nearer than this agree.")]
PicturesOption = Annotated[int, typer.Option(min=0, help="How many of the worst cases are shown.")]


@reports_errors
def evaluate(  # noqa: PLR0913 each is an option
    *,
    model: ModelOption,
    data: DataOption,
    out: OutOption,
    truth: TruthOption = None,
    against: AgainstOption = None,
    form: FormOption = DICOM,
    task: TaskOption = "",
    label: LabelOption = "",
    truth_label: TruthLabelOption = "",
    unlisted_healthy: UnlistedHealthyOption = False,
    role: RoleOption = None,
    threshold: ThresholdOption = None,
    patients: PatientsOption = None,
    part: PartOption = "held",
    subgroup: SubgroupOption = None,
    specificity: SpecificityOption = 0.9,
    tolerance_mm: ToleranceMmOption = 2.0,
    pictures: PicturesOption = 6,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Measure a model, or two on the same data, with 95 % intervals; writes a page.

    Exit code 0: all cases were answered; 3: some were refused, which the page lists.
    """
    loaded = read_settings(settings)
    configure_logging("ERROR")
    if form not in FORMATS:
        raise SettingsInvalid(f"--format {form} is unknown; known are {', '.join(FORMATS)}")
    make_folder(out)
    wanted = Wanted(
        model=model,
        against=against,
        form=form,
        data=data,
        truth=truth,
        out=out,
        unlisted_are_healthy=unlisted_healthy,
        task=task,
        label=label,
        truth_label=truth_label,
        roles=tuple(role or ()),
        thresholds=dict(_read_threshold(one) for one in threshold or ()),
        patients=None if patients is None else read_patients(patients, part=part, form=form),
        subgroups=tuple(subgroup or ()),
        specificity=specificity,
        tolerance_mm=tolerance_mm,
        pictures=pictures,
    )
    metrics = evaluate_model(loaded, wanted)
    if as_json:
        print_json(metrics)
    else:
        _print_metrics(metrics, out)
    if metrics["data"]["refused"]:
        raise typer.Exit(EXIT_REFUSED)


def _read_threshold(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as exc:
        found = text if separator else f"{text} without ="
        raise SettingsInvalid(f"--threshold {found}: write NAME=VALUE, such as nodule=0.1") from exc


def _print_metrics(metrics: dict[str, Any], out: Path) -> None:
    console, told = stdout(), metrics["data"]
    models = " against ".join(f"{one['name']} {one['version']}" for one in metrics["models"])
    console.print(f"[bold]{models}[/bold], {metrics['task']}")
    refused = ", ".join(f"{count} {code}" for code, count in told["refused"].items()) or "none"
    unknown = f"; {told['without_truth']} without truth" if told["without_truth"] else ""
    console.print(f"{told['cases']} cases of {told['patients']} patients, refused: {refused}{unknown}")
    rows = [
        (key, *(_say(value, one["unit"]) for value in (one["value"], *one["interval_95"])), one["count"])
        for key, one in metrics["figures"].items()
    ]
    print_table(("figure", "value", "from", "to", "of"), rows, empty="No case was answered.")
    for key, one in metrics.get("differences", {}).items():
        if one["verdict"] != "no difference shown":
            console.print(f"{key}: {one['value']:.4g} against {one['against']:.4g}, {one['verdict']}")
    console.print(f"Page: {out / PAGE_FILE}", markup=False)


def _say(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value * 100:.1f} %" if unit == "%" else f"{value:.3f}" if not unit else f"{value:.1f} {unit}"
