"""What recording an Instance did to the ledger."""

from enum import StrEnum


class Recording(StrEnum):
    """Whether an Instance was unknown, known with the same bytes, or known with others."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"
