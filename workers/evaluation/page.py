"""The page of a measurement: one HTML file that needs nothing else, in light and in dark."""

import base64
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path

from node.models import ModelCard
from node.version import product_version
from workers.evaluation import classification
from workers.evaluation.asking import Worst
from workers.evaluation.canvas import DARK, LIGHT, draw_plot
from workers.evaluation.measure import Better, Difference, Measure, Plot
from workers.evaluation.report import HEADLINES, Chapter, Figure, Report
from workers.evaluation.writing import Measured, list_refused

PAGE_FILE = "index.html"
STYLE = Path(__file__).with_name("page.css")
MAX_REFUSED = 50
NOTHING = "-"
TITLES = {
    "segmentation": "How well it outlines",
    "detection": "How well it finds",
    "classification": "How well it classifies",
}


def write_page(measured: Measured) -> None:
    """Write index.html into the order's folder; pictures and plots stand in it."""
    (measured.order.out / PAGE_FILE).write_text("\n".join(_tell_page(measured)) + "\n", encoding="utf-8")


def _tell_page(measured: Measured) -> Iterable[str]:
    card, report = measured.cards[0], measured.report
    title = f"{card.name} {card.version}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}: evaluation</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>"
    yield f"<body>\n<main>\n<h1>{TITLES[measured.task.name]}: {escape(title)}</h1>"
    yield f'<p class="quiet">{_tell_cases(measured)}</p>'
    yield f'<p class="notice">{escape(card.notice)}. {escape(card.intended_use)}</p>'
    yield _tell_headlines(report)
    if report.differences:
        yield _tell_comparison(measured.cards[1], report)
    for chapter in report.chapters:
        yield _tell_chapter(chapter)
    if report.groups:
        yield _tell_groups(report)
    if measured.harvest.worst:
        yield _tell_gallery(measured)
    if report.refusals:
        yield _tell_refused(measured)
    yield _tell_method(measured)
    yield "</main>\n</body>\n</html>"


def _tell_cases(measured: Measured) -> str:
    report, harvest = measured.report, measured.harvest
    refused, unknown = sum(report.refusals.values()), len(harvest.without_truth)
    words = [f"{_count(len(harvest.asked), 'case')} of {_count(report.patients, 'patient')}"]
    words.append(f"{refused} refused" if refused else "none refused")
    if unknown:
        words.append(f"{unknown} more without truth, which count for nothing")
    if math.isfinite(report.seconds):
        words.append(f"{report.seconds:.2g} s a case")
    return escape(", ".join(words) + ".")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tell_headlines(report: Report) -> str:
    figures = [*(report.chapters[0].figures[:HEADLINES] if report.chapters else ()), report.answered]
    cells = (
        f"<div>{escape(one.measure.title)}<b>{_say(one.estimate.value, one.measure)}</b>"
        f'<span class="small">{_say_interval(one)}</span></div>'
        for one in figures
    )
    return f'<div class="headlines">{"".join(cells)}</div>'


def _tell_chapter(chapter: Chapter) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(one.measure.title)}<div class="small">{escape(one.measure.meaning)}</div></th>'
        f'<td class="n"><b>{_say(one.estimate.value, one.measure)}</b></td><td class="n">{_say_range(one)}</td>'
        f'<td class="track">{_draw_track(one)}</td><td class="n">{one.estimate.count}</td></tr>'
        for one in chapter.figures
    )
    head = '<th>figure</th><th class="n">value</th><th class="n">95 % interval</th><th>0 to 1</th><th class="n">of</th>'
    plots = "".join(_tell_plot(plot) for plot in chapter.plots)
    shown = f'<div class="plots">{plots}</div>' if plots else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<section><h2>{escape(chapter.title)}</h2>{table}{shown}</section>"


def _tell_plot(plot: Plot) -> str:
    light, dark = (_embed(draw_plot(plot.draw, theme)) for theme in (LIGHT, DARK))
    title = escape(plot.title)
    return (
        f"<figure><figcaption>{title}</figcaption><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{title}"></picture></figure>'
    )


def _tell_groups(report: Report) -> str:
    measures = [figure.measure for figure in report.groups[0].figures]
    head = "".join(f'<th class="n">{escape(measure.title)}</th>' for measure in measures)
    rows, column = [], ""
    for group in report.groups:
        is_first = group.column != column
        column = group.column
        cells = "".join(
            f'<td class="n">{_say(one.estimate.value, one.measure)}<div class="small">{_say_range(one)}</div></td>'
            for one in group.figures
        )
        opening = '<tr class="first">' if is_first else "<tr>"
        rows.append(
            f"{opening}<th>{escape(column) if is_first else ''}</th>"
            f'<td>{escape(group.value)}</td><td class="n">{group.cases}</td>{cells}</tr>'
        )
    return (
        f'<section><h2>Subgroups</h2><table><thead><tr><th>by</th><th></th><th class="n">cases</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _tell_comparison(other: ModelCard, report: Report) -> str:
    rows = "".join(_tell_difference(one) for one in report.differences)
    head = (
        '<th>figure</th><th class="n">this</th><th class="n">other</th><th class="n">difference</th>'
        '<th class="n">95 % interval</th><th></th>'
    )
    return (
        f"<section><h2>Against {escape(other.name)} {escape(other.version)}</h2>"
        f'<p class="quiet">On the {_count(report.shared, "case")} that both answered; in each draw both models answer '
        "for the same patients.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _tell_difference(one: Difference) -> str:
    return (
        f'<tr><th scope="row">{escape(one.title)}</th><td class="n">{_write(one.value, one.unit)}</td>'
        f'<td class="n">{_write(one.against, one.unit)}</td>'
        f'<td class="n">{_write(one.value - one.against, one.unit, sign="+")}</td>'
        f'<td class="n">{_write(one.low, one.unit, sign="+")} to {_write(one.high, one.unit, sign="+")}</td>'
        f'<td class="{one.verdict if one.verdict in {"better", "worse"} else "quiet"}">{one.verdict}</td></tr>'
    )


def _tell_gallery(measured: Measured) -> str:
    figures = "".join(_tell_worst(worst) for worst in measured.harvest.worst)
    key = '<p class="small"><span class="key truth"></span>truth<span class="key found"></span>model</p>'
    if measured.task.name == classification.NAME:
        key = '<p class="small">Orange: where the model looked, on films that it calls positive.</p>'
    return f'<section><h2>The worst cases</h2>{key}<div class="gallery">{figures}</div></section>'


def _tell_worst(worst: Worst) -> str:
    uid = worst.case.series_instance_uid or worst.case.study_instance_uid
    name = worst.case.source or uid
    return (
        f'<figure><img src="{_embed(worst.picture)}" alt=""><figcaption>{escape(worst.row.caption)}'
        f'<div class="mono">{escape(name)}</div></figcaption></figure>'
    )


def _tell_refused(measured: Measured) -> str:
    refused = list_refused(measured.harvest)
    rows = []
    for one in refused[:MAX_REFUSED]:
        refusal = one.outcomes[0].refusal
        if refusal is not None:
            rows.append(
                f'<tr><td class="mono">{escape(refusal.code)}</td><td>{escape(refusal.text)}</td>'
                f'<td class="mono">{escape(one.case.source or one.case.study_instance_uid)}</td></tr>'
            )
    more = (
        f'<p class="small">… and {len(refused) - MAX_REFUSED} more, in cases.csv.</p>' if refused[MAX_REFUSED:] else ""
    )
    return (
        '<section><h2>Refused</h2><p class="quiet">The model gave no answer. These cases are no part of the figures '
        'above but of "Answered".</p><table><thead><tr><th>code</th><th>why</th><th>Study</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{more}</section>"
    )


def _tell_method(measured: Measured) -> str:
    order = measured.order
    changed = ", ".join(f"{name} = {value:g}" for name, value in order.thresholds.items())
    said = [
        "Intervals are of 95 %: patients drawn again 2,000 times with replacement, each with all of his cases (seed "
        "0); Wilson's for a share to which each patient gives one thing, or of which all or none are hits.",
        "The model was asked as a Job asks it: DICOM is read, prepared and analyzed by its Pipeline, with the "
        f"thresholds of its model.toml{f', but for {changed}' if changed else ''}.",
    ]
    if order.roles:
        said.append(f"It was given {', '.join(order.roles)} alone.")
    if order.form != "dicom":
        said.append("The pictures came without DICOM headers and were wrapped; rules were not asked.")
    models = "".join(
        f'<p class="mono">{escape(card.name)} {escape(card.version)}, weights sha256 {card.weights_sha256}</p>'
        for card in measured.cards
    )
    lines = "".join(f"<p>{escape(one)}</p>" for one in said)
    return (
        f"<section><h2>How it was measured</h2>{lines}{models}"
        f'<p class="small">radnode {escape(product_version())}. Not a medical device. metrics.json holds every figure, '
        "cases.csv every case.</p></section>"
    )


def _embed(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _say(value: float, measure: Measure) -> str:
    return _write(value, measure.unit)


def _write(value: float, unit: str, *, sign: str = "") -> str:
    if not math.isfinite(value):
        return NOTHING
    match unit:
        case "%":
            return f"{value * 100:{sign}.1f} %"
        case "":
            return f"{value:{sign}.3f}"
        case _:
            return f"{value:{sign}.1f} {unit}"


def _say_range(figure: Figure) -> str:
    found = figure.estimate
    if not math.isfinite(found.low):
        return NOTHING
    low, high = (
        _say(value, figure.measure).removesuffix(f" {figure.measure.unit}") for value in (found.low, found.high)
    )
    return f"{low} to {high}"


def _say_interval(figure: Figure) -> str:
    said = _say_range(figure)
    return f"95 % interval {said}, of {figure.estimate.count}" if said != NOTHING else f"of {figure.estimate.count}"


def _draw_track(figure: Figure) -> str:
    """Draw where value and interval lie between 0 and 1; nothing of a figure that is not such."""
    found, measure = figure.estimate, figure.measure
    is_share = measure.unit in {"", "%"} and measure.better is not Better.NEITHER
    if not is_share or not math.isfinite(found.value) or not 0 <= found.value <= 1:
        return ""
    low, high = (found.low, found.high) if math.isfinite(found.low) else (found.value, found.value)
    left, right, dot = (4 + 162 * min(max(value, 0.0), 1.0) for value in (low, high, found.value))
    return (
        '<svg viewBox="0 0 170 18" aria-hidden="true"><line class="rail" x1="4" x2="166" y1="9" y2="9"/>'
        f'<line class="band" x1="{left:.1f}" x2="{right:.1f}" y1="9" y2="9"/>'
        f'<circle class="dot" cx="{dot:.1f}" cy="9" r="4"/></svg>'
    )
