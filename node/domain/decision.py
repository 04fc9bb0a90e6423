"""What a rule concluded about a Study, and which clause decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from node.domain.uids import SeriesUID, StudyUID


class Outcome(StrEnum):
    """Three-valued: a missing attribute is no "no"."""

    MATCH = "match"
    NO_MATCH = "no-match"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One condition, as it was asked of one Series or of the Study.

    Attributes
    ----------
    text
        The condition as a person would write it: ``slice_thickness <= 3 mm``.
    found
        The value found; identifying values only as ``present`` or ``absent``.
    """

    text: str
    outcome: Outcome
    found: str
    series_instance_uid: SeriesUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one rule on one Study.

    Attributes
    ----------
    clause, found
        The clause that decided and what it found.
    reason
        One sentence for a technologist.
    inputs
        Role to the Series that were picked; empty without a match.
    trace
        Every clause that was asked, in order.
    """

    study_instance_uid: StudyUID
    rule: str
    outcome: Outcome
    clause: str
    found: str
    reason: str
    inputs: Mapping[str, SeriesUID]
    trace: tuple[Clause, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the form of report.json."""
        return {
            "rule": self.rule,
            "outcome": self.outcome.value,
            "clause": self.clause,
            "found": self.found,
            "reason": self.reason,
        }
