"""The station that compares an Instance that came again with the version that answers were made from.

Modality and PACS may both send a Study, each encoded in its way: that is no reason to doubt an answer.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from node.domain.later_version import LaterVersion

# At a time, after which the end of the node is looked for.
LIMIT = 50


class VersionLedger(Protocol):
    """What the station asks of the ledger."""

    def pending(self, *, limit: int) -> Sequence[LaterVersion]:
        """Return later versions that nobody has compared, the oldest first."""
        ...

    def let_stand(self, version: LaterVersion, *, now: datetime) -> None:
        """Commit that a later version says what was read."""
        ...

    def outdate(self, version: LaterVersion, difference: str, *, now: datetime) -> None:
        """Commit that the answers of who read the earlier version are of that one alone."""
        ...


class Reader(Protocol):
    """Reads two versions."""

    def difference(self, earlier_path: str, path: str) -> str:
        """Return in words, and without values, in what they differ; empty where both say the same."""
        ...


class Comparison:
    """Tells the versions that say something else from those that are only encoded otherwise.

    Parameters
    ----------
    open_reader
        Gives a reader, only while something is to be compared.
    """

    def __init__(self, ledger: VersionLedger, open_reader: Callable[[], AbstractContextManager[Reader]]) -> None:
        self._ledger = ledger
        self._open_reader = open_reader

    def tick(self, now: datetime) -> datetime | None:
        """Compare what came again; return `now` where more may be waiting."""
        waiting = self._ledger.pending(limit=LIMIT)
        if not waiting:
            return None
        with self._open_reader() as reader:
            for version in waiting:
                difference = reader.difference(version.earlier_path, version.path)
                if difference:
                    self._ledger.outdate(version, difference, now=now)
                    # Others of this Study may need no comparison any more.
                    break
                self._ledger.let_stand(version, now=now)
        return now
