"""Whether a data set matches the keys of a query, both in the DICOM JSON Model (PS3.4 C.2.2.2)."""

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from node.domain.workitem import DataSet

RANGED = frozenset({"DA", "DT", "TM"})
# Longer than what a PN has in three writings; what is longer is no key.
MAX_KEY_CHARACTERS = 1024
# What tells of the query itself, or of how it is written.
NO_KEYS = frozenset({"00080005", "00080201"})
OFFSET = re.compile(r"[+-]\d{4}$")


def is_match(attributes: DataSet, keys: DataSet) -> bool:
    """Return whether every key holds; one without a value holds for all.

    A sequence holds where one of its items matches the item of the key.

    References
    ----------
    DICOM PS3.4 C.2.2.2 and CC.2.8.1.1
    """
    return all(_holds(attributes.get(tag), key) for tag, key in keys.items() if tag not in NO_KEYS)


def _holds(entry: Any, key: Any) -> bool:
    wanted = _values(key)
    if not wanted:
        return True
    found = _values(entry)
    if key.get("vr") == "SQ" or (isinstance(wanted[0], Mapping) and not _is_name(wanted[0])):
        return any(is_match(item, wanted[0]) for item in found if isinstance(item, Mapping)) or not any(
            _values(inner) for inner in wanted[0].values()
        )
    vr = key.get("vr") or (entry or {}).get("vr", "")
    return any(_is_like(_text(one), _text(other), vr) for one in found for other in wanted)


def _is_like(found: str, wanted: str, vr: str) -> bool:
    if vr in RANGED:
        return _is_in_range(found, wanted)
    if vr == "PN":
        found, wanted = found.casefold(), wanted.casefold()
    if vr != "UI" and ("*" in wanted or "?" in wanted):
        # Brackets mean nothing in DICOM.
        return fnmatch.fnmatchcase(found, wanted[:MAX_KEY_CHARACTERS].replace("[", "[[]"))
    return found == wanted


def _is_in_range(found: str, wanted: str) -> bool:
    """Return whether a moment lies in a range, as far as both are written."""
    found = OFFSET.sub("", found)
    first, dash, last = wanted.partition("-")
    if not dash:
        return found.startswith(OFFSET.sub("", wanted))
    if re.fullmatch(r"\d{4}", last) and len(first) > len("YYYYMMDD"):
        # An offset from UTC, no range.
        return found.startswith(first)
    first, last = OFFSET.sub("", first), OFFSET.sub("", last)
    return (not first or found >= first) and (not last or found[: len(last)] <= last)


def _values(entry: Any) -> list[Any]:
    values = entry.get("Value") if isinstance(entry, Mapping) else None
    return [value for value in values if value not in ("", None)] if isinstance(values, list) else []


def _is_name(value: Mapping[str, Any]) -> bool:
    return bool(value.keys() & {"Alphabetic", "Ideographic", "Phonetic"})


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return next((str(value[name]) for name in ("Alphabetic", "Ideographic", "Phonetic") if value.get(name)), "")
    return str(value)
