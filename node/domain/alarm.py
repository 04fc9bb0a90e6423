"""Alarm: something that a person must know of, from when it was raised until it was healed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AlarmKind(StrEnum):
    """What can be wrong; the words are stable, and stand in logs, metrics and messages."""

    SOURCE_SILENT = "source-silent"
    PIPELINE_SILENT = "pipeline-silent"
    JOBS_WAITING = "jobs-waiting"
    NO_WORKER = "no-worker"
    JOBS_QUARANTINED = "jobs-quarantined"
    DELIVERIES_STUCK = "deliveries-stuck"
    DESTINATION_DOWN = "destination-down"
    STORE_LOW = "store-low"
    BROKER_AWAY = "broker-away"
    AUDIT_LOST = "audit-lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm.

    Attributes
    ----------
    subject
        What it is about: an AE title, the name of a Pipeline or Destination; empty where there is only one.
    text
        One sentence for people, as it was when the alarm was raised; no patient values.
    seen_at
        When what is wrong was last confirmed (UTC), give or take some minutes.
    healed_at
        When it was well again (UTC); None while it stands.
    """

    alarm_id: int
    kind: AlarmKind
    subject: str
    text: str
    raised_at: datetime
    seen_at: datetime
    healed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What somebody outside is to be told of an Alarm: that it was raised, or healed."""

    alarm: Alarm
    is_healed: bool

    @property
    def word(self) -> str:
        """``raised`` or ``healed``."""
        return "healed" if self.is_healed else "raised"

    @property
    def at(self) -> datetime:
        """When that was (UTC)."""
        return self.alarm.healed_at if self.is_healed and self.alarm.healed_at is not None else self.alarm.raised_at
