"""The station that decides when a Series, and with it its Study, is complete."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.ledger.studies import OpenSeries

logger = logging.getLogger(__name__)


class AssemblyLedger(Protocol):
    """What assembly asks of the ledger."""

    def open_series(self) -> Sequence[OpenSeries]:
        """Return every Series in state OPEN with its evidence."""
        ...

    def settle_series(self, seen: OpenSeries, *, reason: str, now: datetime) -> bool:
        """Move a Series to SETTLED unless it changed; True when its Study settled with it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """How long nothing must come before a Series counts as complete.

    Attributes
    ----------
    after_association_s
        When every Association that brought it has ended.
    while_open_s
        When one is still open.
    """

    after_association_s: float
    while_open_s: float


class Assembly:
    """Settles Series whose evidence says that nothing more comes."""

    def __init__(self, ledger: AssemblyLedger, quiet: QuietTime) -> None:
        self._ledger = ledger
        self._quiet = quiet

    def tick(self, now: datetime) -> datetime | None:
        """Settle what is due; return when the next Series may be due, None when none is open."""
        waiting: list[datetime] = []
        for series in self._ledger.open_series():
            due, reason = judge_series(series, self._quiet)
            if due > now:
                waiting.append(due)
            elif self._ledger.settle_series(series, reason=reason, now=now):
                logger.info("study settled", extra={"study_uid": series.study_instance_uid})
        return min(waiting, default=None)


def judge_series(series: OpenSeries, quiet: QuietTime) -> tuple[datetime, str]:
    """Return from when on the Series counts as complete if nothing more comes, and why.

    The end of every Association that brought it is evidence; silence alone is the last resort.
    """
    if series.open_associations:
        silence = timedelta(seconds=quiet.while_open_s)
        reason = f"quiet for {quiet.while_open_s:g} s while {series.open_associations} Associations were open"
        return series.last_instance_at + silence, reason
    ended = max(series.last_association_end or series.last_instance_at, series.last_instance_at)
    reason = f"every Association ended, then quiet for {quiet.after_association_s:g} s"
    return ended + timedelta(seconds=quiet.after_association_s), reason
