"""What the answers of one Destination say of the Destination itself, when they are taken together.

One object that is not taken may be at fault itself, and surely is where others are taken. Several that fail in a row,
while none is taken, are not: whoever goes on sends them all in vain, and counts against them what the Destination did.
"""

from collections.abc import Iterable

from node.errors import DestinationBusy, DestinationDown, DestinationRefused, ReportRefused
from node.peers.carriage import LOSSES_UNTIL_DOWN
from node.peers.parcel import Fate, Outcome

# Different objects in a row, of which none was taken.
UNTAKEN_UNTIL_BUSY = 2
ANSWERS = frozenset({DestinationBusy.code, DestinationRefused.code, ReportRefused.code})


class Health:
    """Remembers the objects that failed since one was taken, and those that failed where others were taken.

    Parameters
    ----------
    name
        The Destination's, for the words of an error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lost: set[int] = set()
        self._untaken: set[int] = set()
        self._suspects: set[int] = set()

    def judge(self, delivery_id: int, outcome: Outcome) -> DestinationDown | DestinationBusy | None:
        """Return what follows for the whole Destination from this outcome and those before it; None: nothing."""
        if outcome.fate is Fate.LEFT_OUT:
            return None
        if outcome.fate is not Fate.RETRY:
            self._settle(delivery_id, is_taken=outcome.fate is Fate.SENT)
        elif delivery_id in self._suspects:
            return None
        elif outcome.code == DestinationDown.code:
            self._lost.add(delivery_id)
            if len(self._lost) >= LOSSES_UNTIL_DOWN:
                words = f"destination {self._name} answered none of {len(self._lost)} objects in a row"
                return DestinationDown(f"{words}. Last: {outcome.text}")
        elif outcome.code in ANSWERS:
            self._lost.clear()
            self._untaken.add(delivery_id)
            if self.excuses(delivery_id):
                words = f"destination {self._name} took none of {len(self._untaken)} objects in a row"
                return DestinationBusy(f"{words}. Last: {outcome.text}")
        return None

    @property
    def suspects(self) -> frozenset[int]:
        """Deliveries that failed where others were taken, until an answer settles them or they are forgotten."""
        return frozenset(self._suspects)

    def forget(self, delivery_ids: Iterable[int]) -> None:
        """Suspect these no more: they ended without an answer."""
        self._suspects.difference_update(delivery_ids)

    def excuses(self, delivery_id: int) -> bool:
        """Return whether an object got such an answer as others got, and none was taken since."""
        return delivery_id in self._untaken and len(self._untaken) >= UNTAKEN_UNTIL_BUSY

    def _settle(self, delivery_id: int, *, is_taken: bool) -> None:
        """Take note of a final answer."""
        if is_taken:
            self._suspects |= self._lost | self._untaken
            self._untaken.clear()
        self._lost.clear()
        self._untaken.discard(delivery_id)
        self._suspects.discard(delivery_id)
