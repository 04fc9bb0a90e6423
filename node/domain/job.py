"""Job, Priority and the coded reasons with which a Job ends."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NewType

from node.domain.finding import Presence, count_presence
from node.domain.prior import PRIOR_ROLE, PriorTerms
from node.domain.uids import InstanceUID, SeriesUID, StudyUID

JobID = NewType("JobID", str)
# SOP Instance UID, and the digest of the data set.
Version = tuple[InstanceUID, str]


class JobState(StrEnum):
    """Procedure Step State of a Unified Procedure Step (0074,1000), PS3.4 CC.1.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


LIVE_STATES = (JobState.SCHEDULED.value, JobState.IN_PROGRESS.value)


class Priority(IntEnum):
    """What is served first; a lower number overtakes a higher one."""

    STAT = 0
    HIGH = 1
    ROUTINE = 2
    LOW = 3

    @classmethod
    def from_word(cls, word: str) -> "Priority":
        """Return the Priority called `word` in settings; KeyError if there is none."""
        return cls[word.upper()]

    @property
    def word(self) -> str:
        """The word of the settings: ``stat``, ``high``, ``routine`` or ``low``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """What routing asks for: one Pipeline on the Series it needs of one Study.

    Attributes
    ----------
    content
        Digest of role and SOP Instance UIDs of every input (`digest_inputs`), or of their versions, too, where a
        person had a later one read (`digest_versions`); with pipeline and model version it is the identity of the
        question.
    inputs
        Role to Series Instance UID.
    deliver_to
        Names of Destinations.
    is_shadow
        True when the answer is kept and shown, and goes nowhere.
    prior_study_instance_uid
        The earlier Study that the Series of role `PRIOR_ROLE` is of; None without one.
    awaits
        The priors that it is to wait for; None: nothing. What the ledger keeps waits by itself.
    """

    study_instance_uid: StudyUID
    pipeline: str
    model: str
    model_version: str
    rule: str
    priority: Priority
    inputs: Mapping[str, SeriesUID]
    content: str
    deliver_to: tuple[str, ...]
    is_shadow: bool = False
    prior_study_instance_uid: StudyUID | None = None
    awaits: PriorTerms | None = None

    def study_of(self, role: str) -> StudyUID:
        """Return the Study that the Series of a role is of."""
        prior = self.prior_study_instance_uid
        return self.study_instance_uid if prior is None or role != PRIOR_ROLE else prior

    @property
    def recipients(self) -> tuple[str, ...]:
        """Names of the Destinations that get the answer; none of one in shadow."""
        return () if self.is_shadow else self.deliver_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One JobOrder with its fate.

    Attributes
    ----------
    accepted_at
        When the order entered the ledger (UTC); every time stamp in the Results derives from it.
    fence
        Grows with each claim; a worker that holds an older one may not write.
    reason_code, reason_text
        Why it was CANCELED, or why the last attempt failed.
    notes, threshold
        See `node.ledger.jobs.JobOutcome`.
    seconds, stages
        What the work took by stage, and by the parts of each stage; of an earlier version's work no parts are known.
    supersedes
        The Job on an earlier content of the same Study whose Results this one replaces.
    is_given_up
        Whether what it found was given up with the Study (`node.ledger.retention`): `findings` and `notes` are empty,
        and that says nothing.
    outdated_at
        When an Instance that it has read came again with other content (UTC); None while it read what counts.
    """

    job_id: JobID
    order: JobOrder
    state: JobState
    accepted_at: datetime
    attempts: int
    fence: int
    lease_owner: str | None
    lease_expires_at: datetime | None
    not_before: datetime
    reason_code: str | None
    reason_text: str | None
    findings: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    threshold: float | None
    seconds: Mapping[str, float]
    stages: Mapping[str, Mapping[str, float]]
    model_sha256: str | None
    supersedes: JobID | None
    finished_at: datetime | None
    is_given_up: bool = False
    outdated_at: datetime | None = None

    @property
    def seen(self) -> int | None:
        """How many findings are there; None where it is not known here any more."""
        return self._count(Presence.PRESENT)

    @property
    def undetermined(self) -> int | None:
        """How many labels could not be decided; None where it is not known here any more."""
        return self._count(Presence.UNDETERMINED)

    def _count(self, presence: Presence) -> int | None:
        return None if self.is_given_up else count_presence(self.findings, presence)


def digest_inputs(instances_by_role: Mapping[str, Iterable[InstanceUID]]) -> str:
    """Return the sha256 that names this content, whatever the order in which it arrived."""
    return _digest(f"{role}:{uid}" for role in sorted(instances_by_role) for uid in sorted(instances_by_role[role]))


def digest_versions(versions_by_role: Mapping[str, Iterable[Version]]) -> str:
    """Return the sha256 that names this content in these versions, whatever the order in which it arrived."""
    return _digest(
        f"{role}:{uid}:{digest}" for role in sorted(versions_by_role) for uid, digest in sorted(versions_by_role[role])
    )


def is_content(content: str, versions_by_role: Mapping[str, Sequence[Version]]) -> bool:
    """Return whether a question is about these Instances; where it names their versions, too, about these versions."""
    uids = {role: [uid for uid, _ in versions] for role, versions in versions_by_role.items()}
    return content in (digest_inputs(uids), digest_versions(versions_by_role))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()
