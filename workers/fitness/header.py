"""What a header says of an input, against what the model was made for: modality, body part, view, age, contrast."""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from types import MappingProxyType

from pydicom import Dataset

from node.domain.contrast import NOT_ADMINISTERED, is_given, is_given_with_frames
from node.domain.frame_groups import CONVERTED_CLASSES, PLACED_CLASSES
from node.errors import InputMissing, WrongAge, WrongBodyPart, WrongContrast, WrongModality, WrongView
from node.manifest import Contrast, Fit
from node.models import ModelCard
from workers.frames import keeps_slices
from workers.instances import read_values

AGE = re.compile(r"(\d{1,3})([DWMY]?)\Z")
# PS3.5 6.2 wants 053Y; archives also write 53.
AGE_YEARS = MappingProxyType({"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0})
DATE = re.compile(r"\d{8}")
DAYS = ("AcquisitionDate", "ContentDate", "StudyDate")
DAYS_OF_YEAR = 365.25
LIKELY_YEARS = 100.0  # 1900-01-01 is what de-identifiers leave of a birth date


def require_role(card: ModelCard, role: str, datasets: Sequence[Dataset]) -> None:
    """Refuse the Series of one role when its header says that the model was not made for it.

    What a header leaves out is not held against it: many archives leave out nearly everything. Of multi-frame images
    contrast is not guessed where what they say leaves it open.

    Raises
    ------
    InputMissing
        If the Series holds no Instances.
    WrongModality, WrongBodyPart, WrongView, WrongAge, WrongContrast
        With the value that was found and what is read.
    """
    if not datasets:
        raise InputMissing(f"role {role!r}: the Series holds no Instances; send it again")
    allowed = card.modalities.get(role, ())
    for number, modality in enumerate(read_values(datasets, "Modality")):
        if allowed and modality not in allowed:
            raise WrongModality(f"{_name(datasets[number])}: Modality {modality!r} where {_or(allowed)} is read")
    _check_body_parts(datasets, card.fit)
    _check_view(datasets, card.fit)
    _check_age(datasets[0], card.fit)
    _check_contrast(datasets[0], card.fit)


def read_age_years(ds: Dataset) -> float | None:
    """Return Patient's Age (0010,1010) in years, else what Patient's Birth Date (0010,0030) makes of it, or None.

    Zero years is what de-identifiers leave of an age; newborns are written in days, weeks or months.
    """
    match = AGE.match(str(ds.get("PatientAge") or "").strip().upper())
    count, unit = (int(match[1]), match[2]) if match else (0, "")
    return count * AGE_YEARS[unit] if count or unit not in {"Y", ""} else _count_years(ds)


def _count_years(ds: Dataset) -> float | None:
    """Return the years from birth to the day of the image; None where a date is absent, or nobody is that old."""
    birth = _read_date(ds.get("PatientBirthDate"))
    days = (_read_date(ds.get(keyword)) for keyword in DAYS)
    day = next((day for day in days if day is not None), None)
    if birth is None or day is None:
        return None
    years = (day - birth).days / DAYS_OF_YEAR
    return years if 0 < years < LIKELY_YEARS else None


def _read_date(value: object) -> date | None:
    text = str(value or "").strip()
    try:
        return datetime.strptime(text, "%Y%m%d").date() if DATE.fullmatch(text) else None  # noqa: DTZ007 - a day only
    except ValueError:
        return None


def _check_body_parts(datasets: Sequence[Dataset], fit: Fit) -> None:
    for number, value in enumerate(read_values(datasets, "BodyPartExamined")):
        part = _letters(value)
        if fit.body_parts and part and part not in {_letters(one) for one in fit.body_parts}:
            name = _name(datasets[number])
            raise WrongBodyPart(f"{name}: Body Part Examined {part} where {_or(fit.body_parts)} is read")


def _check_view(datasets: Sequence[Dataset], fit: Fit) -> None:
    told = read_values(datasets, "ViewPosition")
    views = [str(one or "").upper().replace("_", " ").split()[:1] for one in told]
    if fit.views and all(view and view[0] not in fit.views for view in views):
        found = ", ".join(sorted({str(one) for one in told}))
        raise WrongView(f"{_name(datasets[0])}: View Position {found} where {_or(fit.views)} is read")


def _check_age(ds: Dataset, fit: Fit) -> None:
    age = read_age_years(ds)
    if fit.age_years is None or age is None:
        return
    least, most = fit.age_years
    # Somebody is seventeen until the next birthday.
    if age < least or math.floor(age) > most:
        raise WrongAge(f"{_name(ds)}: Patient's Age {age:.3g} years where {least:g} to {most:g} are read")


def _check_contrast(ds: Dataset, fit: Fit) -> None:
    if fit.contrast is None:
        return
    told = _is_contrast_given(ds)
    if told is None:
        raise _tell_open_contrast(ds, fit.contrast)
    found = Contrast.WITH if told else Contrast.WITHOUT
    if found is not fit.contrast:
        raise WrongContrast(
            f"{_name(ds)}: taken {found.value} a contrast agent by Contrast/Bolus Agent (0018,0010; 0018,0012) where a "
            f"Series {fit.contrast.value} one is read"
        )


def _is_contrast_given(ds: Dataset) -> bool | None:
    """Return whether contrast was given, as rules are told at receive; None where that is open."""
    agent = str(ds.get("ContrastBolusAgent") or "").strip()
    items, administered = ds.get("ContrastBolusAgentSequence") or (), ds.get("ContrastBolusAgentAdministered")
    names_agents, sop_class_uid = any(map(_has_code, items)), str(ds.get("SOPClassUID") or "")
    if sop_class_uid not in PLACED_CLASSES:
        return bool(is_given(agent, otherwise=False)) or (names_agents and administered != NOT_ADMINISTERED)
    with_frames = is_given_with_frames(
        sop_class_uid=sop_class_uid,
        has_agents=bool(items),
        names_agents=names_agents,
        administered=administered,
        keeps_slices=keeps_slices(ds),
    )
    return is_given(agent, otherwise=with_frames)


def _tell_open_contrast(ds: Dataset, wanted: Contrast) -> WrongContrast:
    asked = f"{_name(ds)}: whether contrast was given is open where a Series {wanted.value} a contrast agent is read; "
    if ds.get("SOPClassUID") in CONVERTED_CLASSES and not ds.get("ContrastBolusAgentSequence"):
        return WrongContrast(
            f"{asked}its conversion kept nothing of the single slices, where Contrast/Bolus Agent (0018,0010) is "
            "expected in Unassigned Shared or Per-Frame Converted Attributes Sequence (0020,9170; 0020,9171); send the "
            "single-frame Instances, or let the converter keep it"
        )
    return WrongContrast(
        f"{asked}Contrast/Bolus Agent Sequence (0018,0012) is expected to name an agent, Contrast/Bolus Agent "
        "(0018,0010) not to deny it, and Contrast/Bolus Agent Administered (0018,9342) not to say NO of a Frame; "
        "correct the sender"
    )


def _has_code(item: Dataset) -> bool:
    return any(item.get(keyword) for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning"))


def _letters(value: object) -> str:
    return "".join(c for c in str(value or "").upper() if c.isalpha())


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)


def _name(ds: Dataset) -> str:
    return f"instance {ds.get('SOPInstanceUID', 'without UID')}"
