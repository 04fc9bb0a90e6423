"""The belt's motor: a thread that ticks stations when something happened or became due."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from node.clock import Clock, ClockWatch
from node.errors import Transient

logger = logging.getLogger(__name__)

Tick = Callable[[datetime], datetime | None]
Leap = Callable[[timedelta, datetime], None]
Leads = Callable[[], bool]

# A wake-up that was lost costs at most this.
SWEEP = timedelta(seconds=5)
# The same where other nodes may be at work, whose wake-ups come to themselves.
SHARED_SWEEP = timedelta(seconds=1)
# Pause after a station failed.
RECOVERY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How a belt shares its ledger with the same belt of other nodes.

    Attributes
    ----------
    leads
        Asked before each turn; while another node ticks the stations, this one waits.
    sweep
        How long a turn is waited for at most.
    """

    leads: Leads = lambda: True
    sweep: timedelta = SWEEP


ALONE = Sharing()


class Belt:
    """Ticks its stations in order, each time it is woken and each time one of them is due.

    Parameters
    ----------
    follow
        Called with how far the clock was set, and the time now, before any station is told that time.
    watch
        Tells that the clock was set.
    """

    def __init__(
        self,
        name: str,
        stations: Mapping[str, Tick],
        clock: Clock,
        *,
        follow: Leap = lambda _leap, _now: None,
        watch: ClockWatch | None = None,
        sharing: Sharing = ALONE,
    ) -> None:
        self._stations = stations
        self._clock = clock
        self._follow = follow
        self._watch = watch or ClockWatch()
        self._leads = sharing.leads
        self._sweep = sharing.sweep
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"belt-{name}", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def wake(self) -> None:
        """Tick soon; called from any thread when something happened."""
        self._woken.set()

    def expect_end(self) -> None:
        """Begin no other tick; returns at once, and the tick in hand goes on."""
        self._stopping = True
        self._woken.set()

    def stop(self) -> None:
        """Finish the tick in hand and end; returns when the thread has ended."""
        self.expect_end()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            due = self._tick_all() if self._may_tick() else []
            now = self._clock()
            next_at = min([at for at in due if at is not None], default=now + self._sweep)
            self._woken.wait(max(0.0, (min(next_at, now + self._sweep) - now).total_seconds()))
            # Here and not before the wait: whoever woke us is served by the ticks that follow.
            self._woken.clear()

    def _tick_all(self) -> list[datetime | None]:
        """Tick every station that the end still leaves time for."""
        return [self._tick(name, tick) for name, tick in self._stations.items() if not self._stopping]

    def _may_tick(self) -> bool:
        try:
            is_leading = self._leads()
        except Transient as exc:
            logger.warning("station waits", extra={"station": self._thread.name, "reason_code": exc.code})
            return False
        if not is_leading:
            # Who leads looks after the times in the ledger, and by its own clock.
            self._watch.accept(self._clock())
        return is_leading

    def _tick(self, name: str, tick: Tick) -> datetime | None:
        try:
            now = self._clock()
            self._mind_leap(now)
            return tick(now)
        except Transient as exc:
            logger.warning("station waits", extra={"station": name, "reason_code": exc.code})
        except Exception:
            # The outer edge of a station: one fault must not stop the belt. The ledger still holds the work.
            logger.exception("station broken", extra={"station": name})
        return self._clock() + RECOVERY

    def _mind_leap(self, now: datetime) -> None:
        leap = self._watch.leap(now)
        if leap:
            logger.warning("clock was set", extra={"seconds": leap.total_seconds()})
            self._follow(leap, now)
            # Only now: what fails is done again.
            self._watch.accept(now)
