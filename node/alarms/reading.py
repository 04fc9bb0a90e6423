"""What a watch reads of one thing that it watches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.domain.alarm import AlarmKind


class Verdict(StrEnum):
    """How a thing is; what is between WRONG and WELL changes nothing, so that no alarm comes and goes."""

    WRONG = "wrong"
    BETWEEN = "between"
    WELL = "well"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at one thing.

    Attributes
    ----------
    subject
        See `node.domain.alarm.Alarm`.
    text
        What is wrong, and what to do; no patient values. Empty where nothing is.
    after_s
        It must be wrong for so long before that is an alarm; seconds.
    """

    kind: AlarmKind
    subject: str
    verdict: Verdict
    text: str = ""
    after_s: float = 0.0


Watch = Callable[[datetime], Iterable[Reading]]


def judge(value: float, *, wrong_from: float, well_below: float) -> Verdict:
    """Return the verdict on something that is the worse the larger it is."""
    if value >= wrong_from:
        return Verdict.WRONG
    return Verdict.WELL if value < well_below else Verdict.BETWEEN


def say_span(seconds: float) -> str:
    """Return a span in the unit that people would use."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
