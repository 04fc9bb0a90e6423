"""What may go, who ordered it, and what must hold first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.domain.uids import StudyUID


class KeepUntil(StrEnum):
    """How far the Results of a Study must have come before it may go."""

    COMMITTED = "committed"
    SENT = "sent"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What must be known of a Study before it may go.

    Attributes
    ----------
    confirming
        Names of the Destinations that confirm what they hold; of all others SENT is all that can be known.
    """

    keep_until: KeepUntil
    confirming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOrder:
    """An order to give up a Study.

    Attributes
    ----------
    with_results
        False: its Results stay.
    is_forced
        A person wants it though nobody else may hold its Results; nothing overrides a Job that waits or runs.
    """

    study_instance_uid: StudyUID
    ordered_by: str
    reason: str
    with_results: bool = True
    is_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """A Study whose rows have gone, and whose files are going.

    Attributes
    ----------
    began_at
        When the rows went (UTC).
    size_bytes
        Of the files that go.
    patient_id
        Patient ID (0010,0020), for the audit trail only.
    sop_classes
        SOP Class UID to number of Instances and Results that go.
    """

    purge_id: str
    study_instance_uid: StudyUID
    began_at: datetime
    with_results: bool
    size_bytes: int
    ordered_by: str
    reason: str
    patient_id: str
    sop_classes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A Study that may go.

    Attributes
    ----------
    with_results
        Whether its Results may go with it.
    size_bytes
        Of the files that may go.
    """

    study_instance_uid: StudyUID
    with_results: bool
    size_bytes: int
