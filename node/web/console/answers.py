"""The answer of a Job as a page shows it: findings in words, measurements with units, what radiologists say of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.domain.finding import Finding, Presence
from node.domain.job import Job
from node.domain.review import Review

MINUS = "\u2212"
# What is measured, in words, with its unit and digits behind the point.
MEASURES: Mapping[str, tuple[str, str, int]] = {
    "long_axis_mm": ("Long axis", "mm", 1),
    "short_axis_mm": ("Short axis", "mm", 1),
    "volume_mm3": ("Volume", "mm³", 0),
    "mean_hu": ("Mean", "HU", 0),
}
SEEN = {Presence.PRESENT: "seen", Presence.ABSENT: "not seen", Presence.UNDETERMINED: "undetermined"}
# Contours have two colors and dash patterns, by turns.
KEYS = 2
WHOLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingLine:
    """One Finding.

    Attributes
    ----------
    number
        From 1; its verdicts are kept by it.
    name
        Where it is, or what it is: ``Right lung``.
    key
        Which color and dash pattern its contour has, 1 or 2.
    segment
        Segment Number of its contour; None where it has none.
    measures
        Terms with values and units.
    long_axis, short_axis
        Plain figures, for a form; empty where they were not measured.
    is_struck
        Whether a person took it back.
    reviews
        The newest first.
    """

    number: int
    label: str
    name: str
    key: int
    segment: int | None
    measures: tuple[tuple[str, str], ...]
    long_axis: str
    short_axis: str
    is_struck: bool
    reviews: tuple[Review, ...]

    @property
    def verdict(self) -> Review | None:
        """The verdict that counts."""
        return self.reviews[0] if self.reviews else None


def read_findings(job: Job) -> tuple[Finding, ...]:
    """Return the Findings of a Job."""
    return tuple(Finding.from_json(entry) for entry in job.findings)


def list_findings(
    findings: Sequence[Finding], reviews: Mapping[int, Sequence[Review]], *, struck: Collection[str] = ()
) -> tuple[FindingLine, ...]:
    """Return each Finding as a page shows it.

    Parameters
    ----------
    reviews
        By number of the Finding, the newest first.
    struck
        Labels that a person took back.
    """
    return tuple(
        FindingLine(
            number=number,
            label=finding.label,
            name=_name(finding),
            key=(number - 1) % KEYS + 1,
            segment=finding.segment_number,
            measures=(*_measures(finding),),
            long_axis=_figure(finding, "long_axis_mm"),
            short_axis=_figure(finding, "short_axis_mm"),
            is_struck=finding.label in struck,
            reviews=tuple(reviews.get(number, ())),
        )
        for number, finding in enumerate(findings, start=1)
    )


def tell_answer(findings: Sequence[Finding]) -> str:
    """Return what was found, in one line: ``2 nodules, largest 8.4 mm, right lung``."""
    present = [finding for finding in findings if finding.presence is Presence.PRESENT]
    if not present:
        return "; ".join(f"{one.label} {SEEN[one.presence]}" for one in findings) or "No findings"
    measured = [finding for finding in present if "long_axis_mm" in finding.measurements]
    if not measured:
        return "; ".join(f"{one.label} seen{_certainty(one, before=', certainty ')}" for one in present)
    largest = max(measured, key=lambda finding: finding.measurements["long_axis_mm"])
    names = sorted({finding.code.meaning.lower() for finding in present})
    what = f"{names[0]}{'s' * (len(present) > 1)}" if len(names) == 1 else "findings"
    size = f"{'largest ' * (len(present) > 1)}{_value(largest, 'long_axis_mm')}"
    return ", ".join([f"{len(present)} {what}", size, *([_place(largest).lower()] if _place(largest) else [])])


def figure(value: float, unit: str, digits: int) -> str:
    """Return a value with its unit and a true minus."""
    return f"{value:.{digits}f} {unit}".replace("-", MINUS)


def _measures(finding: Finding) -> list[tuple[str, str]]:
    told = [(words, figure(finding.measurements[key], unit, digits)) for key, (words, unit, digits) in _of(finding)]
    if finding.confidence is not None:
        told.append(("Certainty", _certainty(finding)))
    return told


def _of(finding: Finding) -> list[tuple[str, tuple[str, str, int]]]:
    return [(key, told) for key, told in MEASURES.items() if key in finding.measurements]


def _certainty(finding: Finding, before: str = "") -> str:
    if finding.confidence is None:
        return ""
    percent = round(finding.confidence * 100)
    # No model is certain.
    return f"{before}{'> 99' if percent == WHOLE and finding.confidence < 1 else percent} %"


def _value(finding: Finding, key: str) -> str:
    _, unit, digits = MEASURES[key]
    return figure(finding.measurements[key], unit, digits)


def _figure(finding: Finding, key: str) -> str:
    return f"{finding.measurements[key]:.1f}" if key in finding.measurements else ""


def _name(finding: Finding) -> str:
    if finding.presence is not Presence.PRESENT:
        return f"{finding.label} {SEEN[finding.presence]}"
    return _place(finding) or finding.label


def _place(finding: Finding) -> str:
    words: list[Any] = [code.meaning for code in (finding.laterality, finding.site) if code is not None]
    return " ".join(words).capitalize()
