"""What comes to intake, and what intake asks of the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from node.domain.recording import Recording
from node.domain.study import InstanceFacts, KnownInstance, Place
from node.domain.uids import StudyUID


class IntakeLedger(Protocol):
    """What intake asks of the ledger.

    What is recorded is committed when the call returns, or soon after and in the order of the calls: a row that is
    lost by then is made anew by the start-up scan, which adopts the file.
    """

    def record_instance(self, facts: InstanceFacts) -> Recording:
        """Record one Instance whose bytes are durable, and open its Series and Study.

        NEW and CHANGED make `facts` the version that counts; SAME (equal `digest`) changes nothing.

        Raises
        ------
        IdentifierClash
            If the UID belongs to an Instance of another Study or Series.
        LedgerBusy
            If it cannot be recorded now, nor is it clear that it soon will be.
        """

    def find_known(self, place: Place) -> KnownInstance | None:
        """Judge an Instance before it is kept; return the version that counts now, None when it is unknown.

        Raises
        ------
        IdentifierClash
            If the UID belongs to an Instance of another Study or Series.
        LedgerBusy
            If the ledger cannot be read.
        """

    def known_digest(self, sop_instance_uid: str) -> str | None:
        """Return the digest of the version that counts, or None when the Instance is unknown."""

    def known_paths(self) -> Mapping[str, int]:
        """Return the store's path of every version that counts, with the size of its file in bytes."""

    def end_association(self, association_id: str, now: datetime) -> None:
        """Note that nothing more comes over this Association."""

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line that a person may look for."""

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        """Commit one line for so many refusals alike, and count them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeTerms:
    """What is taken.

    Attributes
    ----------
    own_results
        What becomes of objects that radnode wrote: ``store`` keeps them, ``drop`` only notes them.
    max_instance_bytes
        Longest data set that is taken, bytes.
    """

    own_results: Literal["store", "drop"]
    max_instance_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How an Instance came: what its sender announced, and who that was.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000), or what stands for them.
    association_id
        Which Association or request brought it.
    peer
        Address that it came from; empty where nobody sends.
    study_instance_uid
        Study to which its sender said that it belongs; empty where it said nothing.
    """

    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    association_id: str
    calling_aet: str
    peer: str = ""
    study_instance_uid: str = ""
