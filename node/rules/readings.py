"""What a Series says of itself: one reading function for each attribute that rules may ask."""

import math
import re
from types import MappingProxyType
from typing import Any

from pydicom.uid import UID

from node.domain.contrast import GIVEN, is_given
from node.domain.frame_groups import PLACED_CLASSES
from node.domain.study import CONTRAST_GIVEN, SeriesFacts
from node.rules.operands import Reading
from node.rules.quantity import MILLIMETRES, YEARS, Quantity
from node.rules.text import shorten

# A gantry or a head is tilted by up to 20 degrees (10.8 in the reference brain MR); at 45 two names are equally right.
MAX_TILT_DEG = 25.0
# Less is not worth a word.
LEAST_TILT_DEG = 0.5
ORIENTATIONS = ("sagittal", "coronal", "axial", "oblique")
# Image Orientation (Patient) holds two unit vectors; six decimals are written, 1 % is generous.
COSINES = 6
UNIT_TOLERANCE = 0.01
# PS3.5 6.2, AS: three digits and a letter.
AGE = re.compile(r"(\d{1,3})([DWMY])\Z")
AGE_YEARS = MappingProxyType({"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0})


def read_texts(series: SeriesFacts, *, keywords: tuple[str, ...]) -> Reading | None:
    """Return every text under `keywords`; those that are absent are left out."""
    texts = tuple(text for keyword in keywords for text in _texts(series.attributes.get(keyword)))
    return Reading(words=shorten(" / ".join(dict.fromkeys(texts))), texts=texts) if texts else None


def read_number(series: SeriesFacts, *, keyword: str, quantity: Quantity) -> Reading | None:
    """Return the number under `keyword`."""
    value = series.attributes.get(keyword)
    return None if value is None else _number_reading(value, quantity)


def read_sop_class(series: SeriesFacts) -> Reading | None:
    """Return the name of the SOP Class; a Series of several is not readable as one."""
    names = [UID(uid).name for uid in series.sop_class_uids]
    if not names:
        return None
    return Reading(words=shorten(" and ".join(names)), texts=tuple(names) if len(names) == 1 else ())


def read_orientation(series: SeriesFacts) -> Reading | None:
    """Return the plane of the slices by Image Orientation (Patient) (0020,0037), and how far it is tilted."""
    value = series.attributes.get("ImageOrientationPatient")
    if value is None:
        return None
    normal = _slice_normal(value)
    if normal is None:
        return Reading(words="unreadable direction cosines")
    along = max(range(3), key=lambda axis: abs(normal[axis]))
    tilt_deg = math.degrees(math.acos(min(1.0, abs(normal[along]))))
    name = ORIENTATIONS[along] if tilt_deg <= MAX_TILT_DEG else "oblique"
    words = name if tilt_deg < LEAST_TILT_DEG else f"{name}, tilted by {tilt_deg:.1f} deg"
    return Reading(words=words, texts=(name,))


def read_slice_count(series: SeriesFacts) -> Reading | None:
    """Return how many slices there are: Instances, placed Frames, or Number of Frames (0028,0008) of one Instance."""
    count: float = max(len(series.sop_instance_uids), len(series.slice_positions_mm))
    if count == 1:
        count = _number(series.attributes.get("NumberOfFrames")) or 1
    return Reading(words=f"{count:g}", number=count) if count else None


def read_slice_spacing(series: SeriesFacts) -> Reading | None:
    """Return the distance of neighbouring slices by their positions, mm."""
    # GE writes Slice Thickness where spacing is meant; geometry is to be trusted (PS3.3 C.7.6.2.1.1).
    spacing = series.slice_spacing_mm
    return None if spacing is None else _number_reading(spacing, MILLIMETRES)


def read_coverage(series: SeriesFacts) -> Reading | None:
    """Return how far the slices reach, from the outer face of the first to that of the last, mm."""
    positions, spacing = series.slice_positions_mm, series.slice_spacing_mm
    return None if spacing is None else _number_reading(positions[-1] - positions[0] + spacing, MILLIMETRES)


def read_pixel_spacing(series: SeriesFacts) -> Reading | None:
    """Return the larger of the two values of Pixel Spacing (0028,0030), mm."""
    value = series.attributes.get("PixelSpacing")
    if value is None:
        return None
    numbers = [_number(one) for one in (value if isinstance(value, list) else [value])]
    known = [number for number in numbers if number is not None]
    return _number_reading(max(known) if known and len(known) == len(numbers) else value, MILLIMETRES)


def read_age(series: SeriesFacts) -> Reading | None:
    """Return Patient's Age (0010,1010) in years; a value without its letter is not readable."""
    texts = _texts(series.attributes.get("PatientAge"))
    if not texts:
        return None
    match = AGE.match(texts[0].upper())
    if match is None:
        return Reading(words=f"{shorten(texts[0])} (no unit)")
    years = int(match[1]) * AGE_YEARS[match[2]]
    return Reading(words=YEARS.show(years), number=years)


def read_body_part(series: SeriesFacts) -> Reading | None:
    """Return Body Part Examined (0018,0015), and the codes of Anatomic Region Sequence (0008,2218)."""
    return read_texts(series, keywords=("BodyPartExamined", "AnatomicRegionSequence"))


def read_procedure_code(series: SeriesFacts) -> Reading | None:
    """Return the codes of the procedure, performed and requested, each with its scheme and bare."""
    reading = read_texts(series, keywords=("ProcedureCodeSequence", "RequestedProcedureCodeSequence"))
    if reading is None:
        return None
    bare = tuple(code.partition(":")[2] for code in reading.texts)
    return Reading(words=reading.words, texts=(*reading.texts, *bare))


def read_contrast(series: SeriesFacts) -> Reading | None:
    """Return Contrast/Bolus Agent (0018,0010), or that its Sequence (0018,0012) names one.

    Words that say that none was given count as none. Of multi-frame images, which may name agents in the Sequence
    alone, it is open where intake could not read it.
    """
    reading = read_texts(series, keywords=("ContrastBolusAgent",))
    found = is_given(reading.words if reading else "", otherwise=_is_given_with_frames(series))
    if found is None:
        return Reading(words="not known of these Frames", is_open=True)
    return (reading or Reading(words="an agent", texts=("an agent",))) if found else None


def _is_given_with_frames(series: SeriesFacts) -> bool | None:
    told = series.attributes.get(CONTRAST_GIVEN)
    if told is None:
        return False if PLACED_CLASSES.isdisjoint(series.sop_class_uids) else None
    return bool(told == GIVEN)


def read_laterality(series: SeriesFacts) -> Reading | None:
    """Return Image Laterality (0020,0062), else Laterality (0020,0060)."""
    return read_texts(series, keywords=("ImageLaterality",)) or read_texts(series, keywords=("Laterality",))


def read_calling_aet(series: SeriesFacts) -> Reading | None:
    """Return the AE title that sent the Series."""
    aet = series.calling_aet.strip()
    return Reading(words=shorten(aet), texts=(aet,)) if aet else None


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    plain = (f"{one:g}" if isinstance(one, float) else str(one).strip() for one in values if one is not None)
    return tuple(text for text in plain if text)


def _number(value: Any) -> float | None:
    if isinstance(value, list | tuple):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _number_reading(value: Any, quantity: Quantity) -> Reading:
    number = _number(value)
    if number is None:
        return Reading(words=f"{shorten(str(value))} (no number)")
    return Reading(words=quantity.show(number), number=number)


def _slice_normal(cosines: Any) -> tuple[float, float, float] | None:
    numbers = [_number(one) for one in cosines] if isinstance(cosines, list | tuple) else []
    known = [number for number in numbers if number is not None]
    if len(known) != COSINES or len(numbers) != COSINES:
        return None
    (a, b, c), (d, e, f) = known[:3], known[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    # Row and column direction are unit vectors at right angles, so their product is one too.
    is_unit = abs(math.hypot(*normal) - 1) < UNIT_TOLERANCE
    return normal if is_unit and abs(math.hypot(a, b, c) - 1) < UNIT_TOLERANCE else None
