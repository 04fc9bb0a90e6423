"""What the proofs of a Result answer: a Contradiction, or a reason why something could not be proven."""

from collections.abc import Sequence
from dataclasses import dataclass

from node.errors import ResultCheckFailed

SHOWN_NUMBERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """One thing in an object that is not true; no part of it holds a patient value.

    Attributes
    ----------
    thing
        What is wrong: ``segment 2``, ``volume of AI Nodule 1``, a keyword.
    expected, found
        What the originals say, and what the object says.
    remedy
        What to do about it: a sentence.
    """

    thing: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.thing}: expected {self.expected}, found {self.found}. {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """One thing that may be right or wrong; the originals at hand do not tell."""

    thing: str
    reason: str

    def __str__(self) -> str:
        return f"{self.thing}: {self.reason}"


Complaint = Contradiction | Unproven


def require(holds: object, complaint: str) -> None:
    """Go on when `holds` is true.

    Raises
    ------
    ResultCheckFailed
        With `complaint`, which names no patient value.
    """
    if not holds:
        raise ResultCheckFailed(complaint)


def list_some(noun: str, numbers: Sequence[object]) -> str:
    """Return ``frames 1, 2, 3, 4 and 396 more``: a thousand wrong Frames are one Contradiction."""
    shown = ", ".join(str(number) for number in numbers[:SHOWN_NUMBERS])
    more = len(numbers) - SHOWN_NUMBERS
    plural = noun if len(numbers) == 1 else f"{noun}s"
    return f"{plural} {shown}" + (f" and {more} more" if more > 0 else "")
