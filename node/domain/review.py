"""Review: what a radiologist says of a Finding, and how the verdicts on one model add up."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.domain.job import JobID
from node.errors import RequestMalformed

MAX_COMMENT = 500
# No finding is larger than a person.
MAX_AXIS_MM = 2000.0


class Verdict(StrEnum):
    """What a radiologist says of a Finding."""

    ACCEPT = "accept"
    REJECT = "reject"
    CORRECT = "correct"

    @property
    def participle(self) -> str:
        """The word before "by"."""
        match self:
            case Verdict.ACCEPT:
                return "accepted"
            case Verdict.REJECT:
                return "rejected"
            case Verdict.CORRECT:
                return "corrected"


class Instead(StrEnum):
    """What a Finding is instead of what the model says; a short list, so that it can be counted."""

    SAME = ""
    VESSEL = "vessel"
    SCAR = "scar or atelectasis"
    BONE = "bone or joint"
    NORMAL = "normal tissue"
    ARTIFACT = "artifact"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOrder:
    """A verdict as it is handed in.

    Attributes
    ----------
    number
        Place of the Finding in the answer of the Job, from 1; its Segment Number where there is a SEG.
    long_axis_mm, short_axis_mm
        As they should be, mm; None where they are not corrected.
    comment
        A sentence; never logged, and gone with the Study.
    reviewer
        Name of the account.
    """

    job_id: JobID
    number: int
    verdict: Verdict
    reviewer: str
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    instead: Instead = Instead.SAME
    comment: str = ""

    def check(self) -> None:
        """Return where everything in it can be kept.

        Raises
        ------
        RequestMalformed
            If an axis is none, the short one is the longer, the comment is too long, or a correction corrects nothing.
        """
        axes = [axis for axis in (self.long_axis_mm, self.short_axis_mm) if axis is not None]
        if any(not 0 < axis <= MAX_AXIS_MM for axis in axes):
            raise RequestMalformed(f"an axis is above 0 and at most {MAX_AXIS_MM:g} mm")
        if len(axes) == 2 and axes[0] < axes[1]:
            raise RequestMalformed("the short axis is not longer than the long axis; exchange them")
        if len(self.comment) > MAX_COMMENT:
            raise RequestMalformed(f"a comment has at most {MAX_COMMENT} characters, this one {len(self.comment)}")
        is_corrected = bool(axes) or self.instead is not Instead.SAME or bool(self.comment)
        if self.verdict is Verdict.CORRECT and not is_corrected:
            raise RequestMalformed("a correction says what is right: an axis, what it is instead, or a comment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A verdict as it is kept; no value of the patient is in it.

    Attributes
    ----------
    label
        What the model called the Finding.
    is_current
        Whether it is the newest on its Finding: that one counts.
    """

    review_id: int
    order: ReviewOrder
    label: str
    pipeline: str
    model: str
    model_version: str
    reviewed_at: datetime
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVerdicts:
    """How many Findings of one version of a model were accepted, rejected and corrected."""

    pipeline: str
    model: str
    model_version: str
    accepted: int
    rejected: int
    corrected: int
