"""What a Pipeline saw, in patient coordinates and millimetres."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from node.domain.codes import MORPHOLOGICALLY_ABNORMAL, Code


class Presence(StrEnum):
    """Whether the property was seen (TID 1501, Presence of property 121052)."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


def has_presence(entry: Mapping[str, Any], presence: Presence) -> bool:
    """Return whether a finding, as a Job keeps it, was judged so."""
    return bool(entry.get("presence", Presence.PRESENT) == presence)


def count_presence(entries: Iterable[Mapping[str, Any]], presence: Presence) -> int:
    """Return how many findings, as a Job keeps them, are of one presence."""
    return sum(has_presence(entry, presence) for entry in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a model saw, or looked for and did not see.

    Attributes
    ----------
    label
        Words for people, e.g. ``Nodule 1``.
    code
        The finding as a coded concept.
    category
        What kind of thing `code` is: a morphologically abnormal structure, an anatomical one (PS3.16 CID 7150).
    presence
        ABSENT and UNDETERMINED are reported for classifiers, never for segmentations.
    confidence
        0..1, or None when the model gives none.
    center_mm
        Centroid in DICOM patient coordinates (LPS), mm; None for a whole-image finding.
    measurements
        ``long_axis_mm``, ``short_axis_mm``, ``volume_mm3``, ``mean_hu``; absent keys were not measured.
    site, laterality
        Where in the body.
    segment_number
        Segment Number (0062,0004) in the mask of the same Analysis; None without a mask.
    key_slice
        Index along the first axis of the reference volume of the slice with the largest area.
    """

    label: str
    code: Code
    category: Code = MORPHOLOGICALLY_ABNORMAL
    presence: Presence = Presence.PRESENT
    confidence: float | None = None
    center_mm: tuple[float, float, float] | None = None
    measurements: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    site: Code | None = None
    laterality: Code | None = None
    segment_number: int | None = None
    key_slice: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the form that report.json and the ledger keep."""
        return {
            "label": self.label,
            "code": self.code.as_json(),
            "category": self.category.as_json(),
            "presence": self.presence.value,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "center_mm": None if self.center_mm is None else [round(c, 2) for c in self.center_mm],
            "measurements": {name: round(value, 2) for name, value in self.measurements.items()},
            "site": None if self.site is None else self.site.as_json(),
            "laterality": None if self.laterality is None else self.laterality.as_json(),
            "segment_number": self.segment_number,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Finding":
        """Return the Finding that `as_json` wrote; sizes are rounded as they were written."""
        center = entry["center_mm"]
        return cls(
            label=entry["label"],
            code=Code(*entry["code"]),
            category=Code(*entry.get("category", MORPHOLOGICALLY_ABNORMAL.as_json())),
            presence=Presence(entry["presence"]),
            confidence=entry["confidence"],
            center_mm=None if center is None else (center[0], center[1], center[2]),
            measurements=MappingProxyType(dict(entry["measurements"])),
            site=None if entry["site"] is None else Code(*entry["site"]),
            laterality=None if entry["laterality"] is None else Code(*entry["laterality"]),
            segment_number=entry["segment_number"],
        )
