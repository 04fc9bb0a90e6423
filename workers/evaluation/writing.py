"""The files of a measurement: metrics.json, cases.csv, plots and pictures."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.models import ModelCard
from node.version import product_version
from workers.evaluation.asking import AskedCase, Harvest
from workers.evaluation.canvas import DARK, LIGHT, draw_plot
from workers.evaluation.measure import Difference
from workers.evaluation.order import Order
from workers.evaluation.report import Figure, Report, tell_columns
from workers.evaluation.task import Task

METRICS_FILE, CASES_FILE = "metrics.json", "cases.csv"
PLOTS, PICTURES = "plots", "pictures"
DIGITS = 6
# The cells of a table may be opened by a program that takes these for a formula.
FORMULA_SIGNS = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that the files tell."""

    order: Order
    cards: tuple[ModelCard, ...]
    task: Task
    harvest: Harvest
    report: Report


def write_files(measured: Measured) -> None:
    """Write metrics.json, cases.csv, ``plots`` and ``pictures`` below the order's folder."""
    out = measured.order.out
    metrics = json.dumps(tell_metrics(measured), indent=2, ensure_ascii=False, allow_nan=False)
    (out / METRICS_FILE).write_text(metrics + "\n", encoding="utf-8")
    _write_cases(out / CASES_FILE, measured.harvest)
    plots = [plot for chapter in measured.report.chapters for plot in chapter.plots]
    if plots:
        (out / PLOTS).mkdir(exist_ok=True)
    for plot in plots:
        for theme in (LIGHT, DARK):
            (out / PLOTS / f"{plot.name}{theme.suffix}.png").write_bytes(draw_plot(plot.draw, theme))
    if measured.harvest.worst:
        (out / PICTURES).mkdir(exist_ok=True)
    for number, worst in enumerate(measured.harvest.worst, start=1):
        (out / PICTURES / f"worst-{number}.png").write_bytes(worst.picture)


def tell_metrics(measured: Measured) -> dict[str, Any]:
    """Return what metrics.json holds; no number is NaN there but null."""
    report, order, harvest = measured.report, measured.order, measured.harvest
    told: dict[str, Any] = {
        "radnode": product_version(),
        "task": measured.task.name,
        "models": [
            {"name": card.name, "version": card.version, "weights_sha256": card.weights_sha256}
            for card in measured.cards
        ],
        "data": {
            "format": order.form,
            "cases": len(harvest.asked),
            "patients": report.patients,
            "without_truth": len(harvest.without_truth),
            "refused": dict(report.refusals),
        },
        "asked": {
            "label": order.label,
            "truth_label": order.truth_label,
            "roles": list(order.roles),
            "thresholds": dict(order.thresholds),
            "tolerance_mm": order.tolerance_mm,
            "specificity": order.specificity,
        },
        "seconds_a_case": _number(report.seconds),
        "answered": _tell_figure(report.answered),
        "figures": {one.measure.key: _tell_figure(one) for chapter in report.chapters for one in chapter.figures},
        "subgroups": _tell_groups(report),
    }
    if len(order.models) > 1:
        told["shared_cases"] = report.shared
        told["differences"] = {one.key: _tell_difference(one) for one in report.differences}
    return told


def _tell_groups(report: Report) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}
    for group in report.groups:
        figures = {figure.measure.key: _tell_figure(figure) for figure in group.figures}
        told.setdefault(group.column, {})[group.value] = {"cases": group.cases, "figures": figures}
    return told


def _tell_figure(figure: Figure) -> dict[str, Any]:
    found = figure.estimate
    interval = [_number(found.low), _number(found.high)]
    return {"value": _number(found.value), "interval_95": interval, "count": found.count, "unit": figure.measure.unit}


def _tell_difference(one: Difference) -> dict[str, Any]:
    return {
        "value": _number(one.value),
        "against": _number(one.against),
        "difference": _number(one.value - one.against),
        "interval_95": [_number(one.low), _number(one.high)],
        "verdict": one.verdict,
    }


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) if math.isfinite(value) else None


def _write_cases(path: Path, harvest: Harvest) -> None:
    """Write a line a case: identity by UIDs, subgroups, what became of it, and its figures for each model."""
    lines = [_tell_case(one) for one in harvest.asked]
    lines += [
        {"study_instance_uid": one.study_instance_uid, "series_instance_uid": one.series_instance_uid,
         "source": one.source, "state": "no truth"}
        for one in harvest.without_truth
    ]  # fmt: skip
    columns = dict.fromkeys(name for line in lines for name in line)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns), restval="")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)


def _tell_case(one: AskedCase) -> dict[str, float | str]:
    first = one.outcomes[0]
    line: dict[str, float | str] = {
        "study_instance_uid": one.case.study_instance_uid,
        "series_instance_uid": one.case.series_instance_uid,
        "source": one.case.source,
        **_tell_outcome(one, 0),
        **tell_columns(one, first.row),
    }
    for number in range(1, len(one.outcomes)):
        line |= {f"against_{name}": value for name, value in _tell_outcome(one, number).items()}
    return line


def _tell_outcome(one: AskedCase, number: int) -> Mapping[str, float | str]:
    outcome = one.outcomes[number]
    if outcome.refusal is not None:
        return {"state": "refused", "code": outcome.refusal.code, "text": outcome.refusal.text}
    cells = {} if outcome.row is None else outcome.row.cells
    return {"state": "answered", "code": "", "text": "", "seconds": round(outcome.seconds, 3), **cells}


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA_SIGNS) and len(value) > 1 else value
    return "" if not math.isfinite(value) else f"{value:.6g}"


def list_refused(harvest: Harvest) -> Sequence[AskedCase]:
    """Return the cases that the first model refused, in the order of their codes."""
    refused = [one for one in harvest.asked if one.outcomes[0].refusal is not None]
    return sorted(refused, key=lambda one: one.outcomes[0].refusal.code if one.outcomes[0].refusal else "")
