"""Proof that a Destination holds what it took: how it is asked, about what, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ConfirmBy(StrEnum):
    """How a Destination is asked whether it holds what it took.

    AUTO asks by Storage Commitment where that is offered, else by a query, else not at all.
    """

    AUTO = "auto"
    COMMITMENT = "commitment"
    QUERY = "query"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """One object that a Destination took, and of which it is not known that it holds it.

    Attributes
    ----------
    series_instance_uid
        None where neither Result nor Instance is in the ledger any more.
    transaction_uid
        Of the Storage Commitment in which it was asked about last; None when it was not.
    asks
        How often it was asked about since it was sent, without an answer that counts.
    misses
        How often a query did not find it since it was sent.
    """

    delivery_id: int
    study_instance_uid: str
    series_instance_uid: str | None
    sop_class_uid: str
    sop_instance_uid: str
    transaction_uid: str | None
    asks: int
    misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What one N-EVENT-REPORT of Storage Commitment says.

    Attributes
    ----------
    held
        SOP Instance UIDs for whose safekeeping the Destination answers.
    failed
        SOP Instance UID to Failure Reason (0008,1197) of the others.

    References
    ----------
    DICOM PS3.4 table J.3-4
    """

    transaction_uid: str
    held: frozenset[str]
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What followed from objects that were lost.

    Attributes
    ----------
    resent
        How many are sent again.
    given_up
        How many a person was told of.
    """

    resent: int = 0
    given_up: int = 0
