"""The answer of a Job as a page shows it: findings in words, measurements with units, what radiologists say of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.domain.finding import Finding, Presence, has_presence
from node.domain.job import Job
from node.domain.percent import certainty
from node.domain.review import Review
from node.wording import sentence

MINUS = "\u2212"
# What is measured, in words, with its unit and digits behind the point.
MEASURES: Mapping[str, tuple[str, str, int]] = {
    "long_axis_mm": ("Long axis", "mm", 1),
    "short_axis_mm": ("Short axis", "mm", 1),
    "volume_mm3": ("Volume", "mm³", 0),
    "mean_hu": ("Mean", "HU", 0),
}
SEEN = {Presence.PRESENT: "seen", Presence.ABSENT: "not seen", Presence.UNDETERMINED: "undetermined"}
CUBIC_CENTIMETER, LARGE_MM3 = 1000.0, 10_000.0
# A line has room for so many kinds of findings.
MAX_KINDS = 2
# Contours have two colors and dash patterns, by turns.
KEYS = 2


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


def tell_answer(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return what was found, in one line, also where that is nothing.

    Parameters
    ----------
    entries
        Findings as a Job keeps them, without those that a person took back.
    """
    present = [one for one in entries if has_presence(one, Presence.PRESENT)]
    if present:
        return describe_findings(present)
    return "; ".join(f"{one['label']} {SEEN[Presence(one['presence'])]}" for one in entries) or "No findings"


def describe_findings(present: Sequence[Mapping[str, Any]]) -> str:
    """Return what was seen: ``2 lung nodules, largest 8.4 mm right``; two kinds at most, the rest counted.

    Parameters
    ----------
    present
        Findings as a Job keeps them.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for finding in present:
        kinds.setdefault(_noun(str(finding["label"])), []).append(finding)
    said = [_describe_kind(noun, members) for noun, members in list(kinds.items())[:MAX_KINDS]]
    more = len(kinds) - len(said)
    return sentence("; ".join([*said, f"{more} more"] if more else said))


def begin_low(words: str) -> str:
    """Return words for the middle of a sentence; those that are all capitals stay."""
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


def figure(value: float, unit: str, digits: int) -> str:
    """Return a value with its unit and a true minus."""
    return f"{value:.{digits}f} {unit}".replace("-", MINUS)


def _measures(finding: Finding) -> list[tuple[str, str]]:
    told = [(words, figure(finding.measurements[key], unit, digits)) for key, (words, unit, digits) in _of(finding)]
    if finding.confidence is not None:
        told.append(("Certainty", certainty(finding.confidence)))
    return told


def _of(finding: Finding) -> list[tuple[str, tuple[str, str, int]]]:
    return [(key, told) for key, told in MEASURES.items() if key in finding.measurements]


def _noun(label: str) -> str:
    """Return what a Finding is, without its number."""
    name, _, number = label.rpartition(" ")
    return name if number.isdigit() and name else label


def _describe_kind(noun: str, findings: Sequence[Mapping[str, Any]]) -> str:
    largest = max(findings, key=_extent)
    size, side, site = _size(largest), _meaning(largest, "laterality"), _meaning(largest, "site")
    if size and _goes_before(site, noun):
        noun, place = f"{site} {begin_low(noun)}".strip(), f" {side}" if side else ""
    else:
        where = " ".join(part for part in (side, site) if part)
        place = f", {where}" if where else ""
    if len(findings) > 1:
        extent = f", largest {size}" if size else ""
        return f"{len(findings)} {_plural(begin_low(noun))}{extent}{place}"
    sure = largest.get("confidence")
    value = size or ("" if sure is None else certainty(sure))
    return f"{noun} {value}".rstrip() + place


def _goes_before(site: str, noun: str) -> bool:
    """Return whether a site makes one name with what lies there: lung nodule, but not brain brain tumor."""
    return " " not in f"{site}{noun}" and (not site or site not in noun.lower())


def _meaning(finding: Mapping[str, Any], key: str) -> str:
    code = finding.get(key)
    return begin_low(code[2]) if code else ""


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") else noun if noun.endswith("s") else f"{noun}s"


def _extent(finding: Mapping[str, Any]) -> float:
    measured = finding.get("measurements") or {}
    return float(measured.get("long_axis_mm", measured.get("volume_mm3", finding.get("confidence") or 0.0)))


def _size(finding: Mapping[str, Any]) -> str:
    """Return the long axis of a Finding, else its volume; empty where neither was measured."""
    measured = finding.get("measurements") or {}
    if "long_axis_mm" in measured:
        return figure(measured["long_axis_mm"], "mm", 1)
    if "volume_mm3" not in measured:
        return ""
    volume = measured["volume_mm3"]
    return f"{volume / CUBIC_CENTIMETER:.1f} cm³" if volume >= LARGE_MM3 else f"{volume:,.0f} mm³"


def _figure(finding: Finding, key: str) -> str:
    return f"{finding.measurements[key]:.1f}" if key in finding.measurements else ""


def _name(finding: Finding) -> str:
    if finding.presence is not Presence.PRESENT:
        return f"{finding.label} {SEEN[finding.presence]}"
    return _place(finding) or finding.label


def _place(finding: Finding) -> str:
    words: list[Any] = [code.meaning for code in (finding.laterality, finding.site) if code is not None]
    return " ".join(words).capitalize()
