"""How long senders pause inside a Series: learned from what came, so that silence is judged by who is silent."""

from collections.abc import Mapping
from itertools import pairwise

from sqlalchemy import delete, insert, select

from node.domain.completeness import OpenSeries
from node.ledger.engine import Desk, Engine
from node.ledger.schema import instances, pauses

# Series of one sender from which is learned, the latest ones.
REMEMBERED = 500
# Fewer tell nothing of it.
ENOUGH = 50
PERCENTILE = 0.99
# The next pause may be longer than any that was seen.
MARGIN = 1.5


class PauseLedger(Desk):
    """The longest pause between two Associations of each Series.

    Parameters
    ----------
    remembered
        Series of one sender from which is learned, the latest ones.
    """

    def __init__(self, engine: Engine, *, remembered: int = REMEMBERED) -> None:
        super().__init__(engine)
        self._remembered = remembered

    def note(self, series: OpenSeries) -> None:
        """Commit the longest pause of a Series that settled."""
        statement = (
            select(instances.c.received_at, instances.c.association_id)
            .where(
                instances.c.study_instance_uid == series.study_instance_uid,
                instances.c.series_instance_uid == series.series_instance_uid,
            )
            .order_by(instances.c.received_at)
        )
        with self.writing() as connection:
            came = connection.execute(statement).all()
            longest_s = max(
                (
                    (after.received_at - before.received_at).total_seconds()
                    for before, after in pairwise(came)
                    if before.association_id != after.association_id
                ),
                default=0.0,
            )
            connection.execute(insert(pauses).values(source=series.source, seconds=longest_s))
            newest = select(pauses.c.pause_id).where(pauses.c.source == series.source)
            last = newest.order_by(pauses.c.pause_id.desc()).offset(self._remembered).limit(1)
            oldest = connection.execute(last).scalar_one_or_none()
            if oldest is not None:
                old = (pauses.c.source == series.source, pauses.c.pause_id <= oldest)
                connection.execute(delete(pauses).where(*old))

    def learned_s(self) -> Mapping[str, float]:
        """Return how long each sender of whom enough is known must be silent, by AE title; seconds."""
        with self.reading() as connection:
            found: dict[str, list[float]] = {}
            for source, seconds in connection.execute(select(pauses.c.source, pauses.c.seconds)):
                found.setdefault(source, []).append(seconds)
        return {source: MARGIN * _percentile(seen) for source, seen in found.items() if len(seen) >= ENOUGH}


def _percentile(seconds: list[float]) -> float:
    """Return the 99th percentile; of up to a hundred, the longest one does not count, and may have been an accident."""
    return sorted(seconds)[int(PERCENTILE * (len(seconds) - 1))]
