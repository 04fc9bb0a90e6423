"""What an answer leads to beside its Results: urgency for its Study, and further Destinations."""

from dataclasses import dataclass

from node.domain.finding import Finding
from node.domain.job import JobID, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a Pipeline concluded about what a Study holds now; never in shadow, never taken back.

    Attributes
    ----------
    findings
        Present, absent and undetermined ones.
    """

    job_id: JobID
    pipeline: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What one rule wants because of the answer of a Pipeline.

    Attributes
    ----------
    priority
        Of every Job of the Study that waits, and of the Study on the worklist, unless they are more urgent.
    deliver_to
        Destinations that get the Results of the Pipeline, too.
    """

    rule: str
    pipeline: str
    priority: Priority
    deliver_to: tuple[str, ...]
