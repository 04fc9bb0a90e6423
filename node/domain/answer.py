"""What one Pipeline says of one Study, as it stands now: what a message to a RIS or HIS is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.domain.finding import Finding, Presence
from node.domain.imaging_order import ImagingOrder, standing
from node.domain.job import Job, Priority
from node.domain.result import Result
from node.domain.study import StudyFacts

UNVERIFIED = "AI result, not verified by a physician. Not for diagnosis."
TAKEN_BACK = "This AI result was taken back. What was told before does not count any more."


class AnswerState(StrEnum):
    """What became of an answer; TAKEN_BACK and MISPLACED are nothing that anybody should read any more."""

    FIRST = "first"
    CORRECTED = "corrected"
    TAKEN_BACK = "taken back"
    MISPLACED = "of another patient or order"

    @property
    def stands(self) -> bool:
        """Whether there is an answer."""
        return self in (AnswerState.FIRST, AnswerState.CORRECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldFinding:
    """A Finding, and which one it is among those that were told, from 1; it keeps its place for ever."""

    place: int
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How the answer of one Pipeline on one Study stands, whichever Job gave it.

    Attributes
    ----------
    job
        The one that answered last.
    results
        Its Results that stand.
    findings
        Those that stand.
    withdrawn
        Those that may have been told before and stand no more.
    is_urged
        Whether a rule has raised the Study because of this answer.
    is_heard
        False while rules are still to be asked what follows from it.
    since
        When it came to stand so (UTC).
    """

    study: StudyFacts
    job: Job
    state: AnswerState
    results: tuple[Result, ...]
    findings: tuple[ToldFinding, ...]
    withdrawn: tuple[ToldFinding, ...]
    is_urged: bool
    is_heard: bool
    since: datetime

    @property
    def key(self) -> tuple[str, str]:
        """What all messages about it have in common, and no others."""
        return self.study.study_instance_uid, self.job.order.pipeline

    @property
    def priority(self) -> Priority:
        """How urgent the Study is, after rules and orders had their say."""
        return self.job.order.priority

    @property
    def order(self) -> ImagingOrder | None:
        """The order that it answers; None where nobody told of any."""
        number = str(self.study.attributes.get("AccessionNumber") or "")
        known = standing(self.study.orders)
        return next((one for one in known if one.accession_number == number), known[0] if known else None)

    @property
    def accession_number(self) -> str:
        """Accession Number (0008,0050) of the Study, else of its order; empty where there is none."""
        order = self.order
        return str(self.study.attributes.get("AccessionNumber") or "") or (order.accession_number if order else "")

    def conclude(self) -> Sequence[str]:
        """Return what it comes to, in sentences for people."""
        if not self.state.stands:
            return (TAKEN_BACK,)
        found = tell_found([one.finding for one in self.findings])
        return f"{self.job.order.pipeline}: {found}.", *self.job.notes


def tell_found(findings: Sequence[Finding]) -> str:
    """Return the labels of what was seen and of what could not be decided; that there is neither is said, too."""
    labels = {presence: [one.label for one in findings if one.presence is presence] for presence in Presence}
    undecided = ", ".join(labels[Presence.UNDETERMINED])
    said = (", ".join(labels[Presence.PRESENT]), f"undetermined: {undecided}" if undecided else "")
    return "; ".join(filter(None, said)) or "no findings"
