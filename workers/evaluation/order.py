"""What a person wants to have measured, as `radnode evaluate` hands it to the worker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.evaluation.case import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStudy:
    """A Study of DICOM files, as the rules see it.

    Attributes
    ----------
    inputs
        Role to the files of its Series.
    names, patient, columns, refusal
        As in `workers.evaluation.case.Case`.
    """

    study_instance_uid: str
    series_instance_uid: str
    patient: str
    names: tuple[str, ...]
    inputs: Mapping[str, tuple[Path, ...]]
    columns: Mapping[str, str]
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One measurement.

    Attributes
    ----------
    models
        Folders of the model and, where there are two, of the one that it is held against.
    form
        ``dicom``, ``lgg`` or ``kermany``: how the data lie in `data`.
    studies
        What the rules make of DICOM files; empty for other forms.
    truth
        None where it comes with the data.
    task
        ``segmentation``, ``detection``, ``classification``; empty: what the model is for.
    label, truth_label
        The only label of the model, and of masks of the truth, that counts; empty: all.
    roles
        The only roles that the model is given; empty: all that there are.
    thresholds
        What is put in the place of entries of ``[thresholds]`` of model.toml.
    patients
        Keys of the only patients of a public data set that are looked at; None: all.
    subgroups
        Columns by which the figures are given apart.
    specificity
        At which a classifier's sensitivity is read, 0..1.
    tolerance_mm
        Surfaces nearer than this agree.
    pictures
        How many of the worst cases are shown.
    """

    models: tuple[Path, ...]
    form: str
    data: Path
    out: Path
    studies: tuple[PlannedStudy, ...] = ()
    truth: Path | None = None
    unlisted_are_healthy: bool = False
    task: str = ""
    label: str = ""
    truth_label: str = ""
    roles: tuple[str, ...] = ()
    thresholds: Mapping[str, float]
    patients: frozenset[str] | None = None
    subgroups: tuple[str, ...] = ()
    specificity: float = 0.9
    tolerance_mm: float = 2.0
    pictures: int = 6


def read_order(path: Path) -> Order:
    """Return the order that `node.evaluation` wrote as JSON."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Order(
        models=tuple(Path(one) for one in told["models"]),
        form=told["form"],
        data=Path(told["data"]),
        out=Path(told["out"]),
        studies=tuple(_read_study(one) for one in told["studies"]),
        truth=None if told["truth"] is None else Path(told["truth"]),
        unlisted_are_healthy=told["unlisted_are_healthy"],
        task=told["task"],
        label=told["label"],
        truth_label=told["truth_label"],
        roles=tuple(told["roles"]),
        thresholds=told["thresholds"],
        patients=None if told["patients"] is None else frozenset(told["patients"]),
        subgroups=tuple(told["subgroups"]),
        specificity=told["specificity"],
        tolerance_mm=told["tolerance_mm"],
        pictures=told["pictures"],
    )


def _read_study(told: Mapping[str, Any]) -> PlannedStudy:
    refusal = told["refusal"]
    inputs: Mapping[str, Sequence[str]] = told["inputs"]
    return PlannedStudy(
        study_instance_uid=told["study_instance_uid"],
        series_instance_uid=told["series_instance_uid"],
        patient=told["patient"],
        names=tuple(told["names"]),
        inputs={role: tuple(Path(one) for one in paths) for role, paths in inputs.items()},
        columns=told["columns"],
        refusal=None if refusal is None else Refusal(code=refusal["code"], text=refusal["text"]),
    )
