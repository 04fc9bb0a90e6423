"""The words and numbers of the summary page."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydicom import Dataset

from node.domain.codes import BRAIN, Code
from node.domain.finding import Finding, Presence
from node.domain.percent import certainty
from workers.drawing.canvas import MINUS
from workers.drawing.lettering import is_drawable

# Noun of one and of many, and the sentence for none, by Pipeline.
NOUNS = {"lung_nodules": ("lung nodule", "lung nodules")}
NOTHING = {
    "lung_nodules": "No lung nodule found by the AI",
    "brain_tumour": "No FLAIR abnormality found by the AI",
}
ASKED = {"lung_nodules": "Lung nodules", "brain_tumour": "FLAIR abnormality of the brain", "chest_xray": "Pneumonia"}
# What a reader might believe was looked for.
NOT_ASKED = {
    "lung_nodules": (
        "Effusion, pneumothorax, consolidation, embolism, fracture",
        "Growth: no earlier study was compared",
        "Anything outside the lungs",
    ),
    "brain_tumour": (
        "Bleeding, stroke, aneurysm, malformation",
        "The kind or grade of a lesion, or its growth",
        "Anything outside the brain",
    ),
    "chest_xray": ("Any finding but the labels on this page", "The place or extent of a finding"),
}
NOT_DRAWN = "name cannot be drawn, see the header"
MAX_LETTERS = 64  # of a LO, and of a component group of a PN (PS3.5 6.2)
MAX_NAMED = 2  # a headline has room for so many things that were looked for
CUBIC_CENTIMETER = 1000.0
LARGE_MM3 = 10_000.0


def headline_nothing(pipeline: str, looked_for: Sequence[Code]) -> str:
    """Return the answer in words where nothing was found.

    Parameters
    ----------
    looked_for
        What the model can find.
    """
    if pipeline in NOTHING or not 0 < len(looked_for) <= MAX_NAMED:
        return NOTHING.get(pipeline, "Nothing found by the AI")
    return f"No {' or '.join(_begin_low(code.meaning) for code in looked_for)} found by the AI"


def say_asked(pipeline: str, looked_for: Sequence[Code]) -> str:
    """Return what the model was asked for."""
    return ASKED.get(pipeline) or ", ".join(code.meaning for code in looked_for) or "Findings of the model"


def headline(findings: Sequence[Finding], pipeline: str) -> str:
    """Return the answer in words; something was found."""
    if pipeline not in NOUNS:
        described = [_describe(findings[0], _without_number(findings[0].label, findings))]
        for finding in findings[1:2]:
            name = _begin_low(_without_number(finding.label, findings))
            described.append(_describe(finding, name, is_elsewhere=place(finding) != place(findings[0])))
        more = f" and {len(findings) - 2} more" if len(findings) > 2 else ""
        return "; ".join(described) + more
    one, many = NOUNS[pipeline]
    if len(findings) == 1:
        return _describe(findings[0], f"1 {one}")
    largest = max(findings, key=lambda finding: finding.measurements.get("long_axis_mm", 0.0))
    parts = (f"{len(findings)} {many}", f"largest {say_size(largest)}", place(largest).lower())
    return ", ".join(part for part in parts if part)


def headline_labels(findings: Sequence[Finding]) -> str:
    """Return the answer of a classifier in words."""
    present = [finding.label for finding in findings if finding.presence is Presence.PRESENT]
    if present:
        return f"{present[0]} likely" + (f", and {len(present) - 1} more" if len(present) > 1 else "")
    undetermined = [finding.label for finding in findings if finding.presence is Presence.UNDETERMINED]
    if undetermined:
        return f"{undetermined[0]}: the AI is undecided"
    if len(findings) == 1:
        return f"No {_begin_low(findings[0].label)} found by the AI"
    return "None of the labels found by the AI"


def place(finding: Finding) -> str:
    """Return where a Finding lies, such as ``Right lung``; empty where it is unknown."""
    if finding.site is None:
        return ""
    if finding.site == BRAIN and finding.laterality:
        return f"{finding.laterality.meaning} side of the brain".capitalize()
    words = [finding.laterality.meaning] if finding.laterality else []
    return " ".join([*words, finding.site.meaning]).capitalize()


def name_row(finding: Finding) -> str:
    """Return what tells a Finding from its likes: the place of a numbered one, else its label."""
    is_numbered = finding.label.rpartition(" ")[2].isdigit()
    return (place(finding) if is_numbered else "") or finding.label


def say_size(finding: Finding) -> str:
    """Return the long axis, else the volume."""
    if "long_axis_mm" in finding.measurements:
        return f"{finding.measurements['long_axis_mm']:.1f} mm"
    if "volume_mm3" in finding.measurements:
        return say_volume(finding.measurements["volume_mm3"])
    return ""


def say_certainty(finding: Finding) -> str:
    """Return the certainty with its unit; empty where the model gives none."""
    return "" if finding.confidence is None else certainty(finding.confidence)


def say_volume(volume_mm3: float) -> str:
    """Return a volume with its unit; large ones in cm³."""
    if volume_mm3 >= LARGE_MM3:
        return f"{volume_mm3 / CUBIC_CENTIMETER:.1f} cm³"
    return f"{volume_mm3:,.0f} mm³"


def say_measurement(name: str, value: float) -> str:
    """Return one entry of `Finding.measurements` with its unit and a true minus."""
    if name == "volume_mm3":
        return say_volume(value)
    if name == "mean_hu":
        return f"{value:.0f} HU".replace("-", MINUS)
    return f"{value:.1f} mm"


def say_measurements(measurements: Mapping[str, float], names: Sequence[str]) -> str:
    """Return some entries of `Finding.measurements` as ``8.4 × 6.9 mm``; what was not measured is left out."""
    words = [say_measurement(name, measurements[name]) for name in names if name in measurements]
    units = {one.rpartition(" ")[2] for one in words}
    if len(units) == 1:
        words = [*(one.rpartition(" ")[0] for one in words[:-1]), words[-1]]
    return " \N{MULTIPLICATION SIGN} ".join(words)


def say_patient(header: Dataset, *, letters: int = MAX_LETTERS) -> str:
    """Return name, ID, sex and birth date; the ID first where no group of the name can be drawn.

    Parameters
    ----------
    letters
        How many of the name are said; what follows it must not be lost.
    """
    born = say_date(str(header.PatientBirthDate or ""))
    number = _cut(str(header.PatientID or ""), MAX_LETTERS)
    who = [_cut(say_name(str(header.PatientName or "")), letters), f"ID {number}" if number else "No ID"]
    parts = [
        *(reversed(who) if who[0] == NOT_DRAWN else who),
        str(header.PatientSex or ""),
        f"born {born}" if born else "",
    ]
    return "   ".join(part for part in parts if part)


def say_name(value: str) -> str:
    """Return a PN as people read it, such as ``Yamada, Tarou (山田 太郎)``.

    The first component group whose letters our fonts have, and in parentheses the ideographic one.

    References
    ----------
    DICOM PS3.5 6.2.1
    """
    groups = [group.strip("^ ") for group in value.split("=")]
    if not any(groups):
        return "No name"
    drawable = [group for group in groups[:2] if group and is_drawable(group)]
    if not drawable:
        return next((_say_name(group) for group in groups[2:] if group and is_drawable(group)), NOT_DRAWN)
    first, *others = drawable
    return _say_name(first) + "".join(f" ({_spell_out(other)})" for other in others if other != first)


def say_study(header: Dataset, *, slices: str) -> str:
    """Return what was examined, when, under which number and in which Series."""
    when = " ".join(part for part in (say_date(str(header.StudyDate or "")), _say_time(header)) if part)
    described = (header.get(k) for k in ("StudyDescription", "SeriesDescription", "BodyPartExamined"))
    what = next((str(words) for words in described if words), "")
    series = f"Series {header.get('SeriesNumber')}" if header.get("SeriesNumber") is not None else "Series"
    if header.get("SeriesDescription"):
        series += f" '{header.SeriesDescription}'"
    modality = str(header.get("Modality") or "")
    parts = [
        what if what.upper().startswith(f"{modality} ") else f"{modality} {what}".strip(),
        when,
        f"Accession {header.AccessionNumber}" if header.AccessionNumber else "",
        f"{series}, {slices}",
    ]
    return "   ".join(part for part in parts if part)


def say_date(value: str) -> str:
    """Return a DA as 2026-11-21; empty where it is no date."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == len("20261121") and value.isdigit() else ""


def say_moment(moment: datetime) -> str:
    """Return a UTC moment as 2026-11-21 01:30:00 UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def say_uid(uid: str) -> str:
    """Return a UID shortened in the middle."""
    return f"{uid[:10]}…{uid[-4:]}"


def say_digest(digest: str) -> str:
    """Return a sha256 shortened in the middle."""
    return f"{digest[:8]}…{digest[-4:]}"


def _say_name(group: str) -> str:
    """Return ``Family, Given Middle`` of one component group of a PN."""
    family, *others = [part.strip() for part in group.split("^")]
    given = " ".join(part for part in others[:2] if part)
    return ", ".join(part for part in (family, given) if part)


def _spell_out(group: str) -> str:
    return " ".join(part.strip() for part in group.split("^") if part.strip())


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def _begin_low(name: str) -> str:
    """Return a name as it stands within a sentence; an abbreviation stays as it is."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def _say_time(header: Dataset) -> str:
    value = str(header.StudyTime or "")
    return f"{value[:2]}:{value[2:4]}" if value[:4].isdigit() and len(value) >= len("0130") else ""


def _describe(finding: Finding, name: str, *, is_elsewhere: bool = True) -> str:
    parts = (name, say_size(finding), place(finding).lower() if is_elsewhere else "")
    return ", ".join(part for part in parts if part)


def _without_number(label: str, findings: Sequence[Finding]) -> str:
    """Return ``FLAIR abnormality`` for ``FLAIR abnormality 1`` when there is no second one."""
    stem, _, number = label.rpartition(" ")
    is_only = sum(other.label.startswith(stem) for other in findings) == 1
    return stem if stem and number.isdigit() and is_only else label
