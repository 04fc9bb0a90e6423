"""Switch: whether a Pipeline answers, answers in the dark, or is not asked at all."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Mode(StrEnum):
    """How a Pipeline stands; one that was never switched is on."""

    ON = "on"
    SHADOW = "shadow"
    OFF = "off"

    @property
    def words(self) -> str:
        """What it means, for people: ``its Results are kept and not delivered``."""
        return MEANINGS[self]


MEANINGS = {
    Mode.ON: "its Results are delivered",
    Mode.SHADOW: "it is asked, its Results are kept and shown, and not delivered",
    Mode.OFF: "it is not asked",
}
# Reason of a Job that ended because its Pipeline was switched off.
SWITCHED_OFF = "switched-off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """How a Pipeline was switched last.

    Attributes
    ----------
    changed_by
        Who did it, as the audit trail names people.
    changed_at
        When (UTC).
    reason
        Why, in the words of whoever did it; may be empty.
    """

    pipeline: str
    mode: Mode
    changed_by: str
    changed_at: datetime
    reason: str
