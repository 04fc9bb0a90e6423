"""What `radnode evaluate` asks of a worker: which Series of which Study go to a model, by the rules of the site."""

import hashlib
import json
import mmap
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.clock import utc_now
from node.domain.series_summary import summarize_study
from node.domain.study import Attributes, InstanceFacts, StudyFacts
from node.domain.uids import SeriesUID, StudyUID
from node.errors import Broken, ModelInvalid, NodeError, NotFound, TruthInvalid
from node.header.scan import Header, scan_file
from node.models import MODEL_FILE, ModelCard, find_model, read_model
from node.routing import route_study
from node.rules.explain import refusal_of
from node.rules.rule import Rule
from node.settings.whole import Settings
from node.site import model_folders, read_tables
from node.workforce import spawn_worker

DICOM = "dicom"
ORDER_FILE = "order.json"
METRICS_FILE, PAGE_FILE = "metrics.json", "index.html"
# Where an Association would stand.
EVALUATION = "evaluation"
AGES = ((0, 17), (18, 39), (40, 64), (65, 199))
THICKNESSES_MM = (1.25, 2.5, 5.0)
YEARS = re.compile(r"(\d{1,3})Y?")
# Exit code of a worker that has said what a person must set right.
EXIT_USAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person wants measured; `workers.evaluation.order.Order` says what each means."""

    model: str
    against: str | None
    form: str
    data: Path
    truth: Path | None
    out: Path
    unlisted_are_healthy: bool
    task: str
    label: str
    truth_label: str
    roles: tuple[str, ...]
    thresholds: Mapping[str, float]
    patients: frozenset[str] | None
    subgroups: tuple[str, ...]
    specificity: float
    tolerance_mm: float
    pictures: int


def evaluate_model(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    """Measure a model in a worker of its own, and return metrics.json; all files lie in `wanted.out`.

    Raises
    ------
    ModelInvalid
        If a model is absent, damaged, or lacks a threshold that is to be set.
    NotFound
        If there is no data.
    TruthInvalid
        If the truth cannot be read, or says nothing of the data; the worker has told what.
    Broken
        If the worker ends with another error.
    """
    cards = [find_card(settings, name) for name in (wanted.model, wanted.against) if name is not None]
    _check_thresholds(cards, wanted.thresholds)
    if not wanted.data.is_dir():
        raise NotFound(f"--data {wanted.data} is no folder; name the one in which the Studies lie")
    studies = plan_studies(settings, cards[0], wanted) if wanted.form == DICOM else []
    with tempfile.TemporaryDirectory(prefix="radnode-evaluate-") as folder:
        order = Path(folder) / ORDER_FILE
        order.write_text(json.dumps(_tell_order(wanted, cards, studies)), encoding="utf-8")
        code = spawn_worker(settings, ("evaluate", str(order))).wait()
    if code == EXIT_USAGE:
        raise TruthInvalid("nothing was measured; the line above says why")
    if code != 0:
        raise Broken("the measurement ended with an error; its log is on standard error")
    metrics: dict[str, Any] = json.loads((wanted.out / METRICS_FILE).read_text(encoding="utf-8"))
    return metrics


def find_card(settings: Settings, name: str) -> ModelCard:
    """Return a model by its folder, or by its name in the site's folders and the shipped ones.

    Raises
    ------
    ModelInvalid
        If there is none, or it is damaged.
    """
    folder = Path(name)
    card = read_model(folder) if (folder / MODEL_FILE).is_file() else find_model(name, model_folders(settings))
    card.verify_weights()
    return card


def _check_thresholds(cards: Sequence[ModelCard], thresholds: Mapping[str, float]) -> None:
    for card in cards:
        known = card.numbers.get("thresholds", {})
        strange = sorted(thresholds.keys() - known.keys())
        if strange:
            raise ModelInvalid(f"model {card.name} has no threshold {strange[0]}; it has {', '.join(sorted(known))}")


def plan_studies(settings: Settings, card: ModelCard, wanted: Wanted) -> list[dict[str, Any]]:
    """Return each Study of a folder with the Series that the rules give to the model, or why they give none.

    Only headers are read. Files that are no DICOM are passed over.

    Raises
    ------
    NotFound
        If there is no DICOM file.
    """
    rules = _read_rules(settings, card)
    found: dict[StudyUID, list[InstanceFacts]] = defaultdict(list)
    for facts in _scan_folder(wanted.data):
        found[facts.study_instance_uid].append(facts)
    if not found:
        raise NotFound(f"--data {wanted.data} holds no DICOM file; for pictures of a public data set give --format")
    plans = []
    for uid, instances in sorted(found.items()):
        study = summarize_study(uid, instances)
        if _is_wanted(study, wanted.patients):
            plans.append(_plan_study(study, instances, rules, card))
    return plans


def _read_rules(settings: Settings, card: ModelCard) -> tuple[str, tuple[Rule, ...]]:
    """Return the Pipeline that a model serves at this site, and the rules that run it; none where there is no rule."""
    names = [name for name, entry in settings.pipelines.items() if entry.model == card.name]
    pipeline = names[0] if names else card.pipeline
    tables = [
        {**{key: table[key] for key in table if key not in {"forward", "deliver_to"}}, "run": [pipeline]}
        for table in settings.rules
        if pipeline in table.get("run", ())
    ]
    return pipeline, read_tables(settings, {pipeline: card}, tables) if tables else ()


def _scan_folder(folder: Path) -> Iterator[InstanceFacts]:
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        try:
            header = _scan(path)
        except NodeError:
            # What the node would not have taken in is no part of any Study.
            continue
        yield _facts_of(header, path)


def _scan(path: Path) -> Header:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return scan_file(b"")
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            return scan_file(content)


def _facts_of(header: Header, path: Path) -> InstanceFacts:
    return InstanceFacts(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes=header.attributes,
        path=str(path.resolve()),
        size_bytes=0,
        digest="",
        pixel_data_offset=header.pixel_data_offset,
        association_id=EVALUATION,
        calling_aet="",
        received_at=utc_now(),
    )


def _is_wanted(study: StudyFacts, patients: frozenset[str] | None) -> bool:
    keys = {str(study.attributes.get("PatientID", "")), str(study.study_instance_uid)}
    return patients is None or bool(keys & patients)


def _plan_study(
    study: StudyFacts, instances: Sequence[InstanceFacts], rules: tuple[str, tuple[Rule, ...]], card: ModelCard
) -> dict[str, Any]:
    inputs, refusal = _choose_inputs(study, rules, card)
    main = next((inputs[role] for role in (*card.required_roles, *card.optional_roles) if role in inputs), "")
    attributes = next((one.attributes for one in study.series if one.series_instance_uid == main), study.attributes)
    files = {
        role: sorted(one.path for one in instances if one.series_instance_uid == uid) for role, uid in inputs.items()
    }
    used = [one for one in instances if not inputs or one.series_instance_uid in inputs.values()]
    return {
        "study_instance_uid": study.study_instance_uid,
        "series_instance_uid": main,
        "patient": _disguise(study),
        "names": sorted(_list_names(study, used)),
        "inputs": files,
        "columns": _list_columns({**study.attributes, **attributes}),
        "refusal": refusal,
    }


def _choose_inputs(
    study: StudyFacts, rules: tuple[str, tuple[Rule, ...]], card: ModelCard
) -> tuple[Mapping[str, SeriesUID], dict[str, str] | None]:
    pipeline, asked = rules
    if not asked:
        return _guess_inputs(study, card)
    decisions, orders, _ = route_study(study, asked, {pipeline: card})
    if not orders:
        return {}, refusal_of(decisions)
    return orders[0].inputs, None


def _guess_inputs(study: StudyFacts, card: ModelCard) -> tuple[Mapping[str, SeriesUID], dict[str, str] | None]:
    """Give each role of a model for which there is no rule the largest Series of its Modality that is free."""
    inputs: dict[str, SeriesUID] = {}
    ranked = sorted(study.series, key=lambda one: -len(one.sop_instance_uids))
    for role in (*card.required_roles, *card.optional_roles):
        wanted = card.modalities.get(role, ())
        for series in ranked:
            is_free = series.series_instance_uid not in inputs.values() and not series.is_own_result
            if is_free and (not wanted or series.attributes.get("Modality") in wanted):
                inputs[role] = series.series_instance_uid
                break
    missing = [role for role in card.required_roles if role not in inputs]
    if missing:
        text = f"No Series of the Study has the Modality of role {missing[0]}; write a rule that runs the Pipeline."
        return {}, {"code": "input-missing", "text": text}
    return inputs, None


def _disguise(study: StudyFacts) -> str:
    """Return what is the same for one patient, and tells nobody who it is."""
    patient = str(study.attributes.get("PatientID") or study.study_instance_uid)
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def _list_names(study: StudyFacts, instances: Iterable[InstanceFacts]) -> set[str]:
    names = {str(study.study_instance_uid)}
    for one in instances:
        path = Path(one.path)
        names |= {str(one.series_instance_uid), str(one.sop_instance_uid), path.name, path.stem}
    return names


def _list_columns(attributes: Attributes) -> dict[str, str]:
    columns = {
        "sex": str(attributes.get("PatientSex", "")),
        "age": _name_age(attributes),
        "manufacturer": str(attributes.get("Manufacturer", "")),
        "slice-thickness": _name_thickness(attributes.get("SliceThickness")),
    }
    return {name: value for name, value in columns.items() if value}


def _name_age(attributes: Attributes) -> str:
    match = YEARS.fullmatch(str(attributes.get("PatientAge", "")).strip().upper())
    if match is None:
        return ""
    years = int(match[1])
    low, high = next((low, high) for low, high in (*AGES, (0, 999)) if low <= years <= high)
    return f"{low} and more" if high > AGES[-2][1] else f"{low:02d} to {high}"


def _name_thickness(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    limit = next((limit for limit in THICKNESSES_MM if value <= limit), None)
    return f"over {THICKNESSES_MM[-1]:g} mm" if limit is None else f"to {limit:g} mm"


def _tell_order(wanted: Wanted, cards: Sequence[ModelCard], studies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "models": [str(card.folder.resolve()) for card in cards],
        "form": wanted.form,
        "data": str(wanted.data.resolve()),
        "out": str(wanted.out.resolve()),
        "studies": list(studies),
        "truth": None if wanted.truth is None else str(wanted.truth.resolve()),
        "unlisted_are_healthy": wanted.unlisted_are_healthy,
        "task": wanted.task,
        "label": wanted.label,
        "truth_label": wanted.truth_label,
        "roles": list(wanted.roles),
        "thresholds": dict(wanted.thresholds),
        "patients": None if wanted.patients is None else sorted(wanted.patients),
        "subgroups": list(wanted.subgroups),
        "specificity": wanted.specificity,
        "tolerance_mm": wanted.tolerance_mm,
        "pictures": wanted.pictures,
    }


def read_patients(path: Path, *, part: str, form: str) -> frozenset[str]:
    """Return the patients that a file names.

    Parameters
    ----------
    path
        JSON: a list, or lists by part as a recipe's split.json; else text, a key a line, perhaps behind the name of
        its data set; ``#`` starts a comment.
    part
        Which list of several.
    form
        The data set whose lines count where lines name one.

    Raises
    ------
    NotFound
        If the file cannot be read, or names nobody.
    """
    try:
        text = path.read_text(encoding="utf-8")
        told = json.loads(text) if path.suffix == ".json" else _read_lines(text, form)
    except (OSError, ValueError) as exc:
        raise NotFound(f"--patients {path} cannot be read as JSON or text; see docs/evaluation.md") from exc
    keys = told.get(part) if isinstance(told, dict) else told
    if not keys:
        raise NotFound(f"--patients {path} names nobody under {part!r}; give --part, or another file")
    return frozenset(str(key) for key in keys)


def _read_lines(text: str, form: str) -> list[str]:
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    return [words[-1] for words in lines if words and (len(words) == 1 or words[0] == form)]
