"""The table of a `model.toml` as text."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_manifest(table: Mapping[str, Any]) -> str:
    """Return the text of a `model.toml` that holds `table`: texts, numbers, lists, tables."""
    return "\n".join(_write_table(table, "")).lstrip("\n") + "\n"


def _write_table(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, Mapping) and not _is_list_of_tables(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        path = f"{prefix}{_key(key)}"
        if isinstance(value, Mapping):
            yield f"\n[{path}]"
            yield from _write_table(value, f"{path}.")
        elif _is_list_of_tables(value):
            for entry in value:
                yield f"\n[[{path}]]"
                yield from _write_table(entry, f"{path}.")


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # What JSON writes of texts, numbers, true and false is TOML too.
    return json.dumps(value, ensure_ascii=True)
