"""Rules as text: tables of settings written as TOML, and the line of which an error speaks."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

# In tables of their own, because they are long.
TABLES = ("when", "inputs")
NAMED = re.compile(r"rule '(?P<name>[^']+)': (?P<path>[\w.\[\]]+)?")
NUMBERED = re.compile(r"rule (?P<number>\d+): ")
HEADER = re.compile(r"\s*\[\[\s*rules\s*\]\]")
TOLD_LINE = re.compile(r"\bline (\d+)")


def write_rules(tables: Iterable[Mapping[str, Any]]) -> str:
    """Return ``[[rules]]`` as TOML that reads back as `tables`."""
    return "\n".join(_write_rule(table) for table in tables)


def find_line(text: str, message: str) -> int | None:
    """Return the line, from 1, of which an error of TOML or of the grammar speaks; None where it cannot be told."""
    told = TOLD_LINE.search(message)
    if told is not None:
        return int(told[1])
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if HEADER.match(line)]
    numbered, named = NUMBERED.match(message), NAMED.match(message)
    if numbered is not None and int(numbered["number"]) <= len(begins):
        return begins[int(numbered["number"]) - 1] + 1
    if named is None:
        return None
    return _find_key(lines, begins, named["name"], named["path"] or "")


def _find_key(lines: list[str], begins: list[int], name: str, path: str) -> int | None:
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        rule = lines[begin:end]
        if not any(re.match(rf"\s*name\s*=.*{re.escape(name)}", line) for line in rule):
            continue
        # The innermost part that stands in the rule; a missing one is told by what it is missing from.
        for key in reversed(re.findall(r"[A-Za-z_]\w*", path)):
            wanted = re.compile(rf"(?:^|[\s{{,.\[]){re.escape(key)}\s*(?:=|\])")
            found = next((number for number, line in enumerate(rule) if wanted.search(line)), None)
            if found is not None:
                return begin + found + 1
        return begin + 1
    return None


def _write_rule(table: Mapping[str, Any]) -> str:
    plain = [f"{key} = {_write(value)}" for key, value in table.items() if not _stands_alone(key, value)]
    lines = ["[[rules]]", *plain]
    for key in TABLES:
        value = table.get(key)
        if isinstance(value, Mapping):
            lines += ["", f"[rules.{key}]", *(f"{_key(name)} = {_write_part(part)}" for name, part in value.items())]
    return "\n".join(lines) + "\n"


def _stands_alone(key: str, value: object) -> bool:
    return key in TABLES and isinstance(value, Mapping)


def _write_part(value: object) -> str:
    """Return a value of ``when`` or ``inputs``; alternatives have a line each."""
    if isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
        inner = "".join(f"  {_write(one)},\n" for one in value)
        return f"[\n{inner}]"
    return _write(value)


def _write(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _write_text(value)
        case list() | tuple():
            return f"[{', '.join(_write(one) for one in value)}]"
        case Mapping():
            return f"{{ {', '.join(f'{_key(key)} = {_write(one)}' for key, one in value.items())} }}"
        case _:
            return str(value)


def _write_text(text: str) -> str:
    # A pattern is read best as it was written: without doubled backslashes.
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
