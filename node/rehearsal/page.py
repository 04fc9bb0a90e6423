"""The report of a rehearsal as one HTML page, to be read, printed and signed."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from pathlib import Path

from node.rehearsal.scenario import Check, Outcome, RehearsalReport, Verdict

STYLE = Path(__file__).with_name("page.css")
BAR_UNITS = 170
# More lines of evidence than that are in the JSON only.
MOMENTS_AT_MOST = 16
GLYPHS = {
    Verdict.PASSED: '<circle cx="8" cy="8" r="6.6" fill="currentColor" stroke="none"/>'
    '<path d="M5 8.2l2.1 2.2L11.2 6" class="knock"/>',
    Verdict.LIMITED: '<path d="M8 2.2l6.4 11.4H1.6z"/><path d="M8 6.6v3.2M8 11.6v.2"/>',
    Verdict.FAILED: '<path d="M5.2 1.8h5.6l3.4 3.4v5.6l-3.4 3.4H5.2l-3.4-3.4V5.2z"/>'
    '<path d="M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4"/>',
    Verdict.NOT_PLAYED: '<circle cx="8" cy="8" r="6" stroke-dasharray="2.4 2.4"/><path d="M4.6 8h6.8"/>',
}
WORDS = {
    Verdict.PASSED: "Passed",
    Verdict.LIMITED: "With a limitation",
    Verdict.FAILED: "Failed",
    Verdict.NOT_PLAYED: "Not played",
}
ANSWERS = {
    Verdict.PASSED: "passed the rehearsal",
    Verdict.LIMITED: "passed the rehearsal, with a limitation that the site must know",
    Verdict.FAILED: "did not pass the rehearsal",
    Verdict.NOT_PLAYED: "was not rehearsed",
}


def report_as_page(report: RehearsalReport) -> str:
    """Return one self-contained HTML document; it needs no other file and no network."""
    title = f"Rehearsal of {report.node.address}, {_day(report.began_at)}"
    body = "\n".join(
        (
            *_head(report),
            *_notes(report),
            *_overview(report),
            *_signature(report),
            '<section class="full">\n<h2>What was played, what was expected, what was seen</h2>',
            *(line for number, outcome in enumerate(report.outcomes, 1) for line in _scenario(number, outcome)),
            "</section>",
            *_foot(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: RehearsalReport) -> Iterator[str]:
    """Yield the answer, the counts, and who and when."""
    verdict = report.verdict
    yield f'<p class="mark"><b>radnode</b><span>Rehearsal {escape(report.run)}</span></p>'
    yield f'<div class="answer" data-v="{verdict.value}">{_glyph(verdict)}<div>'
    yield f"<h1>{escape(report.node.address)} {ANSWERS[verdict]}</h1>"
    yield (
        "<p>A simulated modality sent phantoms, a simulated PACS received what came of them. Each scenario is judged "
        "by what the two of them saw.</p></div></div>"
    )
    yield '<dl class="counts">'
    for one in Verdict:
        yield f"<div><dt>{WORDS[one]}</dt><dd>{report.count(one)}</dd></div>"
    yield f"<div><dt>Duration</dt><dd>{_duration((report.ended_at - report.began_at).total_seconds())}</dd></div></dl>"
    node = report.node
    says = f"{node.implementation_version_name} {node.implementation_class_uid}".strip() or "nothing of itself"
    facts = (
        ("Rehearsed", node.address),
        ("It says it is", says),
        ("Known as", node.product or "not known beyond that"),
        ("Began", _moment(report.began_at)),
        ("Ended", _moment(report.ended_at)),
        ("Run by", report.by),
        *report.facts,
    )
    yield '<dl class="facts">'
    for name, value in facts:
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"


def _notes(report: RehearsalReport) -> Iterator[str]:
    """Yield what needs a person, first of all."""
    for verdict, words in ((Verdict.FAILED, "What failed"), (Verdict.LIMITED, "What the site must know")):
        lines = list(_complaints(report.outcomes, verdict))
        if lines:
            yield f'<div class="note" data-v="{verdict.value}"><h2>{words}</h2>\n<ul>'
            yield from lines
            yield "</ul></div>"


def _complaints(outcomes: Iterable[Outcome], verdict: Verdict) -> Iterator[str]:
    for outcome in outcomes:
        if verdict is Verdict.FAILED and outcome.remark:
            yield f"<li><b>{escape(outcome.title)}.</b> {escape(outcome.remark)}</li>"
        for check in outcome.checks:
            if check.verdict is verdict:
                yield f"<li><b>{escape(outcome.title)}.</b> {escape(check.expected)}: {escape(check.seen)}</li>"


def _overview(report: RehearsalReport) -> Iterator[str]:
    """Yield one line a scenario, with its time on a common scale."""
    longest = max((outcome.seconds for outcome in report.outcomes), default=0.0) or 1.0
    yield '<section class="glance">\n<h2>At a glance</h2>\n<table class="overview">'
    yield '<tr><th></th><th>Scenario</th><th>Verdict</th><th class="n">Seconds</th><th class="bar"></th></tr>'
    for number, outcome in enumerate(report.outcomes, 1):
        width = BAR_UNITS * outcome.seconds / longest
        shape = f'<rect width="{width:.1f}" height="8"/>'
        bar = f'<svg class="s" viewBox="0 0 {BAR_UNITS} 8" aria-hidden="true">{shape}</svg>'
        yield (
            f'<tr><td>{number}</td><td><a href="#{escape(outcome.name)}">{escape(outcome.title)}</a></td>'
            f'<td>{_chip(outcome.verdict)}</td><td class="n">{outcome.seconds:.1f}</td><td class="bar">{bar}</td></tr>'
        )
    yield "</table>\n</section>"


def _scenario(number: int, outcome: Outcome) -> Iterator[str]:
    """Yield one scenario in full."""
    yield f'<article class="scenario" id="{escape(outcome.name)}">'
    yield f"<header><span>{number}</span><h3>{escape(outcome.title)}</h3>{_chip(outcome.verdict)}</header>"
    yield f"<p>{escape(outcome.story)}</p>"
    if outcome.remark:
        yield f"<p><b>{escape(outcome.remark)}</b></p>"
    if outcome.checks:
        yield '<table class="checks"><tr><th></th><th>Expected</th><th>Seen</th></tr>'
        yield from map(_check, outcome.checks)
        yield "</table>"
    if outcome.moments:
        yield '<ol class="times">'
        for moment in outcome.moments[:MOMENTS_AT_MOST]:
            yield f"<li><span>{moment.after_s:.1f} s</span>{escape(moment.text)}</li>"
        rest = len(outcome.moments) - MOMENTS_AT_MOST
        if rest > 0:
            yield f"<li><span></span>and {rest} more</li>"
        yield "</ol>"
    yield "</article>"


def _check(check: Check) -> str:
    verdict = check.verdict
    word = WORDS[verdict]
    return (
        f'<tr data-v="{verdict.value}"><td>{_glyph(verdict, word)}</td>'
        f"<td>{escape(check.expected)}</td><td>{escape(check.seen)}</td></tr>"
    )


def _signature(report: RehearsalReport) -> Iterator[str]:
    """Yield the place where a person signs."""
    yield '<section class="sign">\n<h2>Sign-off</h2>'
    yield (
        f"<p>I have read what was played against {escape(report.node.address)} on {_day(report.began_at)}, what was "
        "expected and what was seen, as the pages that follow tell it. The installation is</p>"
    )
    yield '<ul class="choices"><li>accepted</li><li>accepted with the remarks below</li><li>not accepted</li></ul>'
    yield '<div class="lines">'
    for words, kind in (
        ("Remarks", "wide"),
        ("Hospital, department", "wide"),
        ("Name", ""),
        ("Function", ""),
        ("Place, date", ""),
        ("Signature", ""),
    ):
        yield f'<div class="{kind}">{words}</div>' if kind else f"<div>{words}</div>"
    yield "</div>\n</section>"


def _foot(report: RehearsalReport) -> Iterator[str]:
    patient = next((value for name, value in report.facts if name.startswith("Patient ID")), "")
    yield '<div class="foot">'
    if patient:
        yield f"<p>Everything that was sent is of Patient ID {escape(patient)}: delete it where it is not wanted.</p>"
    yield (
        "<p>Phantoms are fictional. A rehearsal shows how an installation behaves in these situations on this day; it "
        "does not validate the AI for clinical use.</p></div>"
    )


def _chip(verdict: Verdict) -> str:
    return f'<span class="chip" data-v="{verdict.value}">{_glyph(verdict)}{WORDS[verdict]}</span>'


def _glyph(verdict: Verdict, word: str = "") -> str:
    said = f'role="img" aria-label="{word}"' if word else 'aria-hidden="true"'
    return f'<svg class="g" viewBox="0 0 16 16" {said}>{GLYPHS[verdict]}</svg>'


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _moment(at: datetime) -> str:
    return f"{_day(at)}, {at:%H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
