"""Unique Identifiers: their types, their check, and how radnode derives its own (PS3.5 9)."""

import re
import uuid
from typing import NewType

from node.errors import BadIdentifier

StudyUID = NewType("StudyUID", str)
SeriesUID = NewType("SeriesUID", str)
InstanceUID = NewType("InstanceUID", str)

MAX_UID_LENGTH = 64
# PS3.5 9.1 also forbids leading zeros in a component; archives are full of them, and they harm nobody.
UID_PATTERN = re.compile(r"[0-9]+(?:\.[0-9]+)*\Z")
# The root of every UID that radnode derives; changing it would give old questions new answers.
NAMESPACE = uuid.UUID("0c8e9a52-54f4-5a0e-9a51-6d3b3f0f5f5e")


def check_uid(uid: str, *, keyword: str) -> str:
    """Return `uid` when it is safe to store and to use as a file name.

    Parameters
    ----------
    uid
        Value of the element, padding removed.
    keyword
        Keyword of the element, for the message.

    Raises
    ------
    BadIdentifier
        If the value is empty, longer than 64 characters, or holds other than digits and dots.

    References
    ----------
    DICOM PS3.5 9.1
    """
    if not uid:
        raise BadIdentifier(f"{keyword} is empty; the sender must give each Instance its UIDs")
    if len(uid) > MAX_UID_LENGTH or UID_PATTERN.match(uid) is None:
        # It is not repeated: what stands where a UID should may be a patient's name.
        raise BadIdentifier(
            f"{keyword} is no UID but {len(uid)} characters (expected digits and dots, at most {MAX_UID_LENGTH}); "
            "correct it at the sender"
        )
    return uid


def derive_uid(*parts: str) -> str:
    """Return the UID 2.25.<uuid5> that always follows from `parts`.

    References
    ----------
    DICOM PS3.5 B.2
    """
    return f"2.25.{uuid.uuid5(NAMESPACE, '|'.join(parts)).int}"
