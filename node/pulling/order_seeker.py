"""Station 2c: a Modality Worklist is asked for the order of each Study that came without one."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.imaging_order import ImagingOrder
from node.domain.uids import StudyUID
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.patience import Patience
from node.pulling.worklist_query import AskWorklist

logger = logging.getLogger(__name__)

WORKLIST_NOT_ASKED = "worklist not asked"
# Studies that came before that are not asked about.
WINDOW = timedelta(hours=2)
# When it is asked again after so many answers without an order; then no more.
PAUSES = (timedelta(seconds=30), timedelta(minutes=5), timedelta(minutes=30))
# A peer that cannot be reached is left alone so long at most; seconds.
MAX_RETRY_S = 120.0
# After so long a tick ends, though more is to be asked.
TICK_LIMIT = timedelta(seconds=5)


class Sought(Protocol):
    """A Study of which no order is known."""

    @property
    def study_instance_uid(self) -> StudyUID:
        """Which one."""

    @property
    def accession_number(self) -> str:
        """Accession Number (0008,0050); empty where its images say none."""

    @property
    def patient_id(self) -> str:
        """Patient ID (0010,0020); empty where its images say none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a seeker is given by the process it lives in.

    Attributes
    ----------
    unordered
        Returns the Studies that came since and of which no order is known.
    open_worklist
        Gives a conversation with the worklist; see `node.pulling.worklist_query.open_worklist`.
    record
        Commits orders; raises LedgerBusy.
    committed
        Called after that.
    chance
        Uniform in [0, 1).
    """

    unordered: Callable[[datetime], Sequence[Sought]]
    open_worklist: Callable[[], AbstractContextManager[AskWorklist]]
    record: Callable[[Sequence[ImagingOrder]], object]
    committed: Callable[[], None]
    clock: Callable[[], datetime]
    chance: Callable[[], float]


class OrderSeeker:
    """Asks one Modality Worklist; called by one thread at a time."""

    def __init__(self, *, peer: str, surroundings: Surroundings) -> None:
        self._peer = peer
        self._around = surroundings
        self._patience = Patience(max_retry_s=MAX_RETRY_S)
        self._failures = 0
        # When each Study is asked about next, and how often it was.
        self._plans: dict[StudyUID, tuple[datetime, int]] = {}

    def tick(self, now: datetime) -> datetime | None:
        """Ask about what is due; return when to be called next, None when nothing is to be asked.

        Raises
        ------
        LedgerBusy
            If an answer could not be committed; it is asked again.
        """
        sought = {one.study_instance_uid: one for one in self._around.unordered(now - WINDOW)}
        self._plans = {uid: self._plans.get(uid, (now, 0)) for uid in sought}
        due = [uid for uid, (at, count) in self._plans.items() if at <= now and count <= len(PAUSES)]
        if due:
            failed_until = self._ask_all([sought[uid] for uid in due])
            if failed_until is not None:
                return failed_until
        return min((at for at, count in self._plans.values() if count <= len(PAUSES)), default=None)

    def _ask_all(self, due: Sequence[Sought]) -> datetime | None:
        """Ask about these Studies; return until when the peer is left alone, None where it answered."""
        ends_at = self._around.clock() + TICK_LIMIT
        try:
            with self._around.open_worklist() as ask:
                for one in due:
                    if self._around.clock() >= ends_at:
                        break
                    self._ask(ask, one)
        except (DestinationDown, Misconfigured) as exc:
            self._failures += 1
            logger.warning(WORKLIST_NOT_ASKED, extra={"destination": self._peer, "reason_code": exc.code})
            return self._around.clock() + self._patience.pause(self._failures, self._around.chance())
        self._failures = 0
        return None

    def _ask(self, ask: AskWorklist, one: Sought) -> None:
        uid = one.study_instance_uid
        _, count = self._plans[uid]
        try:
            orders = ask(uid, one.accession_number, one.patient_id)
        except DestinationBusy as exc:
            logger.warning(WORKLIST_NOT_ASKED, extra={"destination": self._peer, "reason_code": exc.code})
            orders = ()
        if orders:
            self._around.record(orders)
            self._around.committed()
        pause = PAUSES[min(count, len(PAUSES) - 1)]
        self._plans[uid] = (self._around.clock() + pause, count + 1)
