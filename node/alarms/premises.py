"""Premises: the store's volume, the broker, the audit trail."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from node.alarms.reading import Reading, Verdict, judge, say_span
from node.audit.witness import AUDIT_LOST, LOSS_TOLD_S
from node.domain.alarm import AlarmKind
from node.errors import NodeError

# Free space that was too little is enough again at so much more.
ENOUGH_AT = 1.1
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much room the store has, in bytes."""

    free_bytes: int
    reserve_bytes: int


class StoreWatch:
    """Watches the free space of the store's volume.

    Parameters
    ----------
    margin_percent
        Free space above the reserve below which that is an alarm, in percent of the reserve.
    """

    def __init__(self, look: Callable[[], Room], *, margin_percent: float) -> None:
        self._look = look
        self._factor = 1 + margin_percent / 100

    def __call__(self, _now: datetime) -> Iterable[Reading]:
        """Yield how it is; a volume that cannot be looked at has no room either."""
        try:
            room = self._look()
        except NodeError as exc:
            yield Reading(kind=AlarmKind.STORE_LOW, subject="", verdict=Verdict.WRONG, text=str(exc))
            return
        low = room.reserve_bytes * self._factor
        # The less there is, the worse.
        verdict = judge(-room.free_bytes, wrong_from=-low, well_below=-low * ENOUGH_AT) if low else Verdict.WELL
        text = (
            f"the store has {room.free_bytes / GIGA:.1f} GB of free space; below its reserve of "
            f"{room.reserve_bytes / GIGA:.1f} GB senders hear 0xA700. Enlarge its volume, or see `[retention]`"
        )
        yield Reading(kind=AlarmKind.STORE_LOW, subject="", verdict=verdict, text=text)


class BrokerWatch:
    """Watches what dispatch tells of the broker, which it asks all the time.

    Parameters
    ----------
    told_fault
        Returns the code of the fault that was told, and whose end was not.
    """

    def __init__(self, told_fault: Callable[[], str | None]) -> None:
        self._told_fault = told_fault

    def is_away(self) -> bool:
        """Return whether the broker does not serve."""
        return self._told_fault() is not None

    def __call__(self, _now: datetime) -> Iterable[Reading]:
        """Yield how it is."""
        fault = self._told_fault()
        text = f"{fault}: the broker does not serve; Jobs wait in the ledger. See broker.url, and `radnode doctor`"
        verdict = Verdict.WELL if fault is None else Verdict.WRONG
        yield Reading(kind=AlarmKind.BROKER_AWAY, subject="", verdict=verdict, text=text)


class AuditWatch:
    """Watches whether records of the audit trail were lost, in whatever process.

    Parameters
    ----------
    last_event_at
        Returns when something of a kind was last told.
    """

    # A process that still loses records tells so again within this time.
    STILL_TOLD = timedelta(seconds=2 * LOSS_TOLD_S)

    def __init__(self, last_event_at: Callable[[str], datetime | None]) -> None:
        self._last_event_at = last_event_at

    def __call__(self, now: datetime) -> Iterable[Reading]:
        """Yield how it is."""
        lost_at = self._last_event_at(AUDIT_LOST)
        is_lost = lost_at is not None and now - lost_at < self.STILL_TOLD
        ago = "" if lost_at is None else f", {say_span((now - lost_at).total_seconds())} ago"
        text = f"records of the audit trail were lost{ago}; see to space and rights of audit/ under node.data_dir"
        verdict = Verdict.WRONG if is_lost else Verdict.WELL
        yield Reading(kind=AlarmKind.AUDIT_LOST, subject="", verdict=verdict, text=text)
