"""In what order waiting Jobs are served: by priority, then the short ones first, and nobody waits for ever."""

from bisect import bisect_left
from dataclasses import dataclass

from node.domain.job import JobID, Priority

# Seconds up to which a Job is short, and up to which it is of middle length.
LENGTHS_S = (2.0, 20.0)
CLASSES = len(LENGTHS_S) + 1
LANES = CLASSES * len(Priority)
# By waiting, a Job comes to the front of those that are urgent, and never before those that are STAT.
FRONT = CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a worker is rung for.

    Attributes
    ----------
    lane
        0 to `LANES` - 1; a lower one is served first.
    """

    job_id: JobID
    lane: int


def lane_of(priority: Priority, *, expected_s: float | None, waited_s: float, ageing_s: float) -> int:
    """Return the lane of a Job that has waited so long.

    Parameters
    ----------
    expected_s
        How long its Pipeline took of late, seconds; None where it never ran: taken as of middle length.
    ageing_s
        Seconds of waiting for which it comes one lane forward, > 0.
    """
    length = 1 if expected_s is None else bisect_left(LENGTHS_S, expected_s)
    lane = CLASSES * int(priority) + length
    front = 0 if priority is Priority.STAT else FRONT
    return max(min(lane, front), lane - int(max(0.0, waited_s) // ageing_s))
