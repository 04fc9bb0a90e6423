"""The words and numbers of the summary page."""

from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset

from node.domain.codes import BRAIN
from node.domain.finding import Finding, Presence
from workers.encoding.canvas import MINUS

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
CUBIC_CENTIMETER = 1000.0
LARGE_MM3 = 10_000.0


def headline(findings: Sequence[Finding], pipeline: str) -> str:
    """Return the answer in words."""
    if not findings:
        return NOTHING.get(pipeline, "Nothing found by the AI")
    if pipeline not in NOUNS:
        described = [_describe(findings[0], _without_number(findings[0].label, findings))]
        for finding in findings[1:2]:
            name = _without_number(finding.label, findings)
            name = name if name[:2].isupper() else name[0].lower() + name[1:]
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
        return f"No {findings[0].label.lower()} found by the AI"
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


def say_patient(header: Dataset) -> str:
    """Return name (alphabetic, else the first there is), ID, sex and birth date."""
    groups = [group for group in str(header.PatientName).split("=") if group]
    born = say_date(str(header.PatientBirthDate or ""))
    parts = [
        _say_name(groups[0]) if groups else "No name",
        f"ID {header.PatientID}" if header.PatientID else "No ID",
        str(header.PatientSex or ""),
        f"born {born}" if born else "",
    ]
    return "   ".join(part for part in parts if part)


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
    return f"{family}, {given}" if given else family


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
