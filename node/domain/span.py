"""One stage of the way of a Study, with its true times; a trace is all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What took how long.

    The keys are the same whoever reads the ledger, and however often.

    Attributes
    ----------
    trace_key
        What all spans of one trace share.
    key, parent_key
        This span and the one that it is part of, within its trace; the root has no parent.
    begun_at, ended_at
        UTC; never the wrong way round.
    facts
        What is told of it; nothing of a patient, no UID.
    failure
        Code of what ended it badly; empty: nothing did.
    """

    name: str
    trace_key: str
    key: str
    parent_key: str | None
    begun_at: datetime
    ended_at: datetime
    facts: Mapping[str, str | int] = field(default_factory=dict)
    failure: str = ""
