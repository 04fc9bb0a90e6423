"""`radnode models`: the models at hand, whether they are what they say, and how others come and go."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from node.catalogue.bundle import Wishes, complete_bundle, is_bundle
from node.catalogue.download import Progress as Told
from node.catalogue.pull import Order, pull_model
from node.catalogue.shelf import Shelf
from node.catalogue.table import Entry, find_entry, read_catalogue
from node.cli.context import DeviceOption, JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors, stdout
from node.errors import Misconfigured, ModelInvalid
from node.layouts import LayoutBook, Trial
from node.ledger.opening import find_ledger
from node.ledger.reviews import ReviewLedger
from node.models import ModelCard, survey_folders
from node.settings.whole import Settings
from node.site import model_folders
from node.workforce import spawn_worker

app = typer.Typer(no_args_is_help=True, help="The models at hand, and the catalogue of those that others publish.")

CatalogueOption = Annotated[bool, typer.Option("--catalogue", help="Those that `radnode models pull` fetches.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Install a MONAI Bundle: its configs are code that your worker will run.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="In the place of the model of that name.")]
CardOption = Annotated[Path | None, typer.Option("--card", help="A model.toml for it; else the one in its folder.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", help="VALUE=CODE,SCHEME,MEANING: the code of what the bundle gives this number."),
]
MirrorOption = Annotated[str, typer.Option("--mirror", help="Folder or URL that has the file under its own name.")]
ConfirmOption = Annotated[str, typer.Option("--confirm", help="The SHA-256 that you have compared.")]
AcceptOption = Annotated[bool, typer.Option("--accept-licence", help="You have read its licence, and may use it.")]


@app.command("list")
@reports_errors
def list_models(
    *, catalogue: CatalogueOption = False, as_json: JsonOption = False, settings: SettingsOption = None
) -> None:
    """List every model folder, and which Pipeline uses it; or what the catalogue has."""
    if catalogue:
        _list_catalogue(as_json=as_json)
        return
    loaded = read_settings(settings)
    used = {entry.model: name for name, entry in loaded.pipelines.items()}
    cards, faults = survey_folders(model_folders(loaded))
    if as_json:
        print_json(cards)
    else:
        rows = [(c.name, c.version, c.pipeline, used.get(c.name, "not used"), c.licence, c.notice) for c in cards]
        print_table(("Model", "Version", "Pipeline", "Used by", "Licence", "Notice"), rows, empty="No model at hand.")
    for fault in faults:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"radnode: {fault.text}", markup=False)


@app.command("show")
@reports_errors
def show_model(name: str, *, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Show what a model says of itself."""
    card = _find_card(read_settings(settings), name)
    if as_json:
        print_json(card)
        return
    facts = {
        "version": card.version,
        "pipeline": card.pipeline,
        "folder": card.folder,
        "licence": card.licence,
        "intended use": card.intended_use,
        "notice": card.notice,
        "weights": f"{card.weights.name} ({card.weights_format.value}), sha256 {card.weights_sha256}",
        "bundle": "no" if card.bundle is None else f"{card.bundle.kind.value}, {card.bundle.dimensions}D",
    }
    facts |= _say_layouts(card, LayoutBook(read_settings(settings).layouts_dir))
    facts |= {f"input {role}": _say_input(card, role) for role in (*card.required_roles, *card.optional_roles)}
    facts |= {
        f"label {label.value}": f"{label.name} ({label.code.value}, {label.code.scheme}, {label.code.meaning})"
        for label in card.labels
    }
    print_table(("What", "Said"), list(facts.items()), empty="")


@app.command("calibrate")
@reports_errors
def calibrate_models(
    names: Annotated[list[str] | None, typer.Argument(help="Models; unless given, those of all Pipelines.")] = None,
    *,
    missing: Annotated[bool, typer.Option("--missing", help="Only those that were not calibrated here.")] = False,
    device: DeviceOption = "cpu",
    settings: SettingsOption = None,
) -> None:
    """Find the fastest layout of each model's networks on this machine; takes minutes. Restart the workers then."""
    loaded, out = read_settings(settings), stdout()
    wanted = [_find_card(loaded, name).name for name in names or ()]
    unused = sorted(set(wanted) - {entry.model for entry in loaded.pipelines.values()})
    if unused:
        raise Misconfigured(f"no Pipeline uses {', '.join(unused)}; name one by its model in settings, and try again")
    arguments = ["calibrate", *wanted, "--device", device, *(["--missing"] if missing else [])]
    code = spawn_worker(loaded, tuple(arguments)).wait()
    book = LayoutBook(loaded.layouts_dir)
    for name in wanted or sorted({entry.model for entry in loaded.pipelines.values()}):
        for what, said in _say_layouts(_find_card(loaded, name), book).items():
            out.print(f"{name}: {what}: {said}", markup=False)
    if code != 0:
        raise typer.Exit(EXIT_FAILURE)


@app.command("verify")
@reports_errors
def verify_models(*, settings: SettingsOption = None) -> None:
    """Compare the weights of every model with the digest in its model.toml, and every file of a bundle."""
    out = stdout()
    cards, faults = survey_folders(model_folders(read_settings(settings)))
    wrong = [fault.text for fault in faults]
    for card in cards:
        try:
            card.verify_weights()
            out.print(f"{card.name} {card.version}: weights are as named")
        except ModelInvalid as exc:
            wrong.append(str(exc))
    for text in wrong:
        out.print(text, style="red", markup=False)
    if wrong:
        raise typer.Exit(EXIT_FAILURE)


@app.command("feedback")
@reports_errors
def count_feedback(*, as_json: JsonOption = False, settings: SettingsOption = None) -> None:
    """Count what radiologists said of the findings of each version of a model."""
    counted = ReviewLedger(find_ledger(read_settings(settings))).verdicts_by_model()
    if as_json:
        print_json(counted)
        return
    rows = [(c.model, c.model_version, c.pipeline, c.accepted, c.rejected, c.corrected) for c in counted]
    columns = ("Model", "Version", "Pipeline", "Accepted", "Rejected", "Corrected")
    print_table(columns, rows, empty="Nobody has reviewed a finding yet.")


@app.command("add")
@reports_errors
def add_model(
    path: Path,
    *,
    trust: TrustOption = False,
    label: LabelOption = None,
    card: CardOption = None,
    replace: ReplaceOption = False,
    settings: SettingsOption = None,
) -> None:
    """Copy a model folder or a MONAI Bundle to the models of this site, once it is proven."""
    shelf = _open_shelf(read_settings(settings))
    if is_bundle(path):
        if not trust:
            raise Misconfigured(
                f"{path} is a MONAI Bundle: its configs and scripts are code, which your worker will run with all its "
                "rights. Look at it, know where it is from, and give --trust"
            )
        wishes = Wishes(card=card, labels=tuple(label or ()))
        added = shelf.add(path, complete=partial(complete_bundle, wishes=wishes), replaces=replace)
    else:
        if label or card is not None:
            raise Misconfigured(
                f"{path} is no MONAI Bundle; --label and --card are for one, a model folder has its own"
            )
        added = shelf.add(path, replaces=replace)
    stdout().print(
        f"{added.name} {added.version} is in {added.folder}; a Pipeline uses it by model = {added.name!r}", markup=False
    )


@app.command("remove")
@reports_errors
def remove_model(name: str, *, settings: SettingsOption = None) -> None:
    """Remove a model of this site that no Pipeline uses."""
    loaded = read_settings(settings)
    users = {pipeline: entry.model for pipeline, entry in loaded.pipelines.items()}
    stdout().print(f"{_open_shelf(loaded).remove(name, users=users)} is removed", markup=False)


@app.command("pull")
@reports_errors
def pull(
    name: str,
    *,
    accept_licence: AcceptOption = False,
    mirror: MirrorOption = "",
    confirm: ConfirmOption = "",
    replace: ReplaceOption = False,
    settings: SettingsOption = None,
) -> None:
    """Fetch a model of the catalogue, prove its digest, and install it; a download that was cut goes on."""
    loaded, entry, out = read_settings(settings), find_entry(name), stdout()
    out.print(f"{entry.name} {entry.version}. Licence: {entry.licence}", markup=False)
    out.print(entry.facts, markup=False)
    if entry.url and not accept_licence:
        raise Misconfigured(f"the licence of {entry.name} is yours to accept: read it, and give --accept-licence")
    order = Order(mirror=mirror, confirmed=confirm, replaces=replace)
    with _show_progress(entry) as progress:
        card = pull_model(entry, _open_shelf(loaded), order, convert=partial(_convert, loaded), progress=progress)
    out.print(f"{card.name} {card.version} is in {card.folder}, sha256 {card.weights_sha256}", markup=False)


def _list_catalogue(*, as_json: bool) -> None:
    entries = list(read_catalogue().values())
    if as_json:
        print_json(entries)
        return
    rows = [(one.name, one.version, one.digest, one.licence, one.facts) for one in entries]
    print_table(("Model", "Version", "Digest", "Licence", "Facts"), rows, empty="")


def _open_shelf(settings: Settings) -> Shelf:
    """Return the first folder in which models are looked for: what is installed there goes before all others."""
    return Shelf(settings.model_dirs[0])


def _find_card(settings: Settings, name: str) -> ModelCard:
    cards, faults = survey_folders(model_folders(settings))
    for card in cards:
        if card.name == name:
            return card
    for fault in faults:
        if fault.folder.name == name:
            raise ModelInvalid(fault.text)
    raise Misconfigured(f"model {name!r} is unknown; known are {', '.join(card.name for card in cards)}")


def _say_input(card: ModelCard, role: str) -> str:
    need = "required" if role in card.required_roles else "optional"
    return f"{need}, {' or '.join(card.modalities.get(role, ())) or 'any Modality'}"


def _say_layouts(card: ModelCard, book: LayoutBook) -> dict[str, str]:
    """Return what calibrations chose for each network of a model, on every device that they know."""
    told = {}
    for found in book.list_for(card.name, card.weights_sha256):
        for name, chosen in found.networks.items():
            tried = "; ".join(map(_say_trial, chosen.trials)) or "nothing else was tried"
            told[f"layout of {name}"] = (
                f"{chosen.layout} on {found.grounds.device}, torch {found.grounds.torch} ({tried})"
            )
        if not found.networks:
            told["layout"] = f"plain on {found.grounds.device}: no drawn Study is read by it"
    return told


def _say_trial(trial: Trial) -> str:
    said = f"{trial.layout} {trial.times_faster:g} times as fast"
    return said if trial.difference is None else f"{said}, answers differ by {trial.difference:.2g}"


def _convert(settings: Settings, source: Path, target: Path) -> None:
    """Write weights as safetensors in a process of its own: torch is not for this one, and what comes is of others."""
    code = spawn_worker(settings, ("convert", str(source), str(target))).wait()
    if code != 0 or not target.is_file():
        raise ModelInvalid("the weights were not converted; what the worker said of it stands above")


@contextmanager
def _show_progress(entry: Entry) -> Iterator[Told]:
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(entry.name, total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)
