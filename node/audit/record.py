"""One record of the trail: a line of JSON that holds the digest of the line before it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

# Stands where the digest of an earlier record would, in the first record of all.
NOTHING_BEFORE = "0" * 64
DIGEST_MARK = b',"digest":"'
LINE_END = b'"}\n'
DIGEST_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one line says.

    Attributes
    ----------
    sequence
        Counts from 1 over all files.
    previous
        Digest of the record before this one.
    message
        The AuditMessage, XML.
    facts
        What else stands in the line.
    digest
        SHA-256 of the line's bytes up to the comma before ``"digest"``, hexadecimal.
    """

    sequence: int
    at: datetime
    kind: str
    outcome: str
    text: str
    source: str
    facts: Mapping[str, Any]
    previous: str
    message: str
    digest: str


NAMED = ("sequence", "at", "kind", "outcome", "text", "source", "previous", "message")


def encode_record(values: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the line for what a Record but its digest holds, with that digest."""
    body = json.dumps(dict(values), ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    digest = sha256(body).hexdigest()
    return body + DIGEST_MARK + digest.encode() + LINE_END, digest


def parse_record(line: bytes) -> Record | None:
    """Return what a line with its line end says; None when it is no record, or not the one that was written."""
    split_at = len(line) - len(DIGEST_MARK) - DIGEST_DIGITS - len(LINE_END)
    if split_at <= 0 or not line.endswith(LINE_END) or not line.startswith(DIGEST_MARK, split_at):
        return None
    body, digest = line[:split_at], line[split_at + len(DIGEST_MARK) : -len(LINE_END)].decode("ascii", "replace")
    if sha256(body).hexdigest() != digest:
        return None
    try:
        return _record(json.loads(body + b"}"), digest)
    except (ValueError, TypeError, KeyError):
        return None


def _record(values: dict[str, Any], digest: str) -> Record:
    named = {name: values.pop(name) for name in NAMED}
    return Record(**{**named, "at": datetime.fromisoformat(named["at"])}, facts=values, digest=digest)
