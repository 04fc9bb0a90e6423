"""Retraction: a person, or a newer answer, takes the Results of a Job back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from node.domain.codes import REJECTED_FOR_QUALITY, REJECTED_FOR_SAFETY, WRONG_WORKLIST_ENTRY, Code
from node.domain.job import JobID
from node.errors import RequestMalformed

MAX_COMMENT = 1000
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class RejectionReason(StrEnum):
    """Why Instances are rejected: the document titles that IHE IOCM knows (RAD TF-3 4.66)."""

    QUALITY = "quality"
    PATIENT_SAFETY = "patient-safety"
    WRONG_WORKLIST_ENTRY = "wrong-worklist-entry"


# How the rejection note is titled.
REJECTION_TITLES: Mapping[RejectionReason, Code] = MappingProxyType(
    {
        RejectionReason.QUALITY: REJECTED_FOR_QUALITY,
        RejectionReason.PATIENT_SAFETY: REJECTED_FOR_SAFETY,
        RejectionReason.WRONG_WORKLIST_ENTRY: WRONG_WORKLIST_ENTRY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractionOrder:
    """What is to be taken back, and by whom.

    Attributes
    ----------
    comment
        A sentence for the rejection note; may be empty. Never logged.
    struck
        Labels of findings to leave out of a corrected answer; empty: nothing takes the place of the old Results.
    ordered_by
        Name of the person's account, or ``radnode``.
    """

    reason: RejectionReason
    comment: str
    struck: tuple[str, ...]
    ordered_by: str

    def check(self) -> None:
        """Return where the comment can stand in a rejection note.

        Raises
        ------
        RequestMalformed
            If it is too long, or is more than one line.
        """
        if len(self.comment) > MAX_COMMENT:
            raise RequestMalformed(f"a comment has at most {MAX_COMMENT} characters, this one {len(self.comment)}")
        if CONTROL_CHARACTER.search(self.comment):
            raise RequestMalformed("a comment is one line, without control characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """An order on the Results of one Job, with its fate.

    Attributes
    ----------
    ordered_at
        The only source of time stamps in what follows from it (UTC).
    noted_at
        When the rejection note was in the store and ordered for delivery; None until then.
    done_at
        When nothing was left to write: the note, and the corrected Results where findings were struck.
    reason_code
        Why the last attempt failed.
    """

    retraction_id: str
    job_id: JobID
    order: RetractionOrder
    ordered_at: datetime
    noted_at: datetime | None = None
    done_at: datetime | None = None
    reason_code: str | None = None
