"""The station that asks every watch now and then, raises what is wrong for long enough, and heals what stays well."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from node.alarms.reading import Reading, Verdict, Watch
from node.domain.alarm import Alarm, AlarmKind
from node.errors import Transient

logger = logging.getLogger(__name__)

PERIOD_S = 15.0
# How often the ledger is told that an alarm still stands.
CONFIRM = timedelta(minutes=10)
# What nobody has confirmed for so long, and nobody watches, was taken out of the settings.
FORGET = timedelta(hours=1)
ALARM_RAISED = "alarm raised"
ALARM_HEALED = "alarm healed"
WATCH_BROKEN = "watch broken"
WATCH_WAITS = "watch waits"

Key = tuple[AlarmKind, str]


class AlarmLedger(Protocol):
    """What the station asks of the ledger; each operation is one transaction."""

    def standing_alarms(self) -> Sequence[Alarm]:
        """Return what is wrong now."""

    def raise_alarm(self, kind: AlarmKind, subject: str, text: str, *, now: datetime) -> bool:
        """Commit that something is wrong; False when that stands already."""

    def confirm_alarms(self, alarm_ids: Collection[int], *, now: datetime) -> None:
        """Commit that these still stand."""

    def heal_alarm(self, alarm_id: int, *, now: datetime) -> bool:
        """Commit that it is well again; False when somebody did that before."""


class Watchman:
    """Looks every `PERIOD_S`, and keeps alarms from coming and going.

    Parameters
    ----------
    calm_s
        How long a thing must stay well before its alarm is healed; seconds.
    tell
        Called when there is news; must not block.
    elapsed_s
        Seconds since any moment; unlike the clock, nobody can set it.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        ledger: AlarmLedger,
        *,
        calm_s: float,
        tell: Callable[[], None] = lambda: None,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._ledger = ledger
        self._calm_s = calm_s
        self._tell = tell
        self._elapsed_s = elapsed_s
        self._next_s = -float("inf")
        self._broken: frozenset[int] = frozenset()
        self._wrong_since_s: dict[Key, float] = {}
        self._well_since_s: dict[Key, float] = {}

    def tick(self, now: datetime) -> datetime | None:
        """Look if it is time; return when to look again."""
        elapsed_s = self._elapsed_s()
        if elapsed_s >= self._next_s:
            self._look(now, elapsed_s)
            # Only now: a look that failed is repeated soon.
            self._next_s = elapsed_s + PERIOD_S
        return now + timedelta(seconds=self._next_s - elapsed_s)

    def _look(self, now: datetime, elapsed_s: float) -> None:
        # First: where the ledger is away, no watch is asked to wait for it.
        standing: dict[Key, Alarm] = {(alarm.kind, alarm.subject): alarm for alarm in self._ledger.standing_alarms()}
        confirmed = []
        for reading in self._read(now):
            alarm = standing.pop((reading.kind, reading.subject), None)
            if self._weigh(reading, alarm, now=now, elapsed_s=elapsed_s) and alarm is not None:
                confirmed.append(alarm)
        if any(now - alarm.seen_at >= CONFIRM for alarm in confirmed):
            self._ledger.confirm_alarms([alarm.alarm_id for alarm in confirmed], now=now)
        for alarm in standing.values():
            # While a watch is broken, nobody knows what it would have confirmed.
            if not self._broken and now - alarm.seen_at >= FORGET:
                self._heal(alarm, now)

    def _read(self, now: datetime) -> Sequence[Reading]:
        """Return what the watches say; one that breaks is told, once, and silences no other."""
        readings: list[Reading] = []
        broken = set()
        for place, watch in enumerate(self._watches):
            try:
                readings.extend(watch(now))
            except Transient as exc:
                broken.add(place)
                if place not in self._broken:
                    logger.warning(WATCH_WAITS, extra={"reason_code": exc.code})
            except Exception:
                # The outer edge of a watch, as the belt is that of a station.
                broken.add(place)
                if place not in self._broken:
                    logger.exception(WATCH_BROKEN)
        self._broken = frozenset(broken)
        return readings

    def _weigh(self, reading: Reading, alarm: Alarm | None, *, now: datetime, elapsed_s: float) -> bool:
        """Raise or heal as a reading says; return whether an alarm stands afterwards."""
        key = (reading.kind, reading.subject)
        match reading.verdict:
            case Verdict.WRONG:
                self._well_since_s.pop(key, None)
                if alarm is None and self._lasted(self._wrong_since_s, key, elapsed_s) >= reading.after_s:
                    self._raise(reading, now)
                return alarm is not None
            case Verdict.WELL:
                self._wrong_since_s.pop(key, None)
                if alarm is not None and self._lasted(self._well_since_s, key, elapsed_s) >= self._calm_s:
                    self._well_since_s.pop(key, None)
                    self._heal(alarm, now)
                    return False
                return alarm is not None
            case Verdict.BETWEEN:
                self._wrong_since_s.pop(key, None)
                self._well_since_s.pop(key, None)
                return alarm is not None

    @staticmethod
    def _lasted(since_s: dict[Key, float], key: Key, elapsed_s: float) -> float:
        return elapsed_s - since_s.setdefault(key, elapsed_s)

    def _raise(self, reading: Reading, now: datetime) -> None:
        if self._ledger.raise_alarm(reading.kind, reading.subject, reading.text, now=now):
            logger.error(ALARM_RAISED, extra={"alarm": reading.kind.value, "subject": reading.subject})
            self._tell()

    def _heal(self, alarm: Alarm, now: datetime) -> None:
        if self._ledger.heal_alarm(alarm.alarm_id, now=now):
            seconds = (now - alarm.raised_at).total_seconds()
            facts = {"alarm": alarm.kind.value, "subject": alarm.subject, "seconds": seconds}
            logger.info(ALARM_HEALED, extra=facts)
            self._tell()
