"""Settings as variables of the environment, ``RADNODE__SECTION__KEY``."""

import json
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from node.errors import SettingsInvalid

ENVIRONMENT_PREFIX = "RADNODE__"


def dotted_key(variable: str) -> str:
    """Return the key that a variable names: ``section.key``."""
    return variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")


def read_variables(environment: Mapping[str, str], *, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the variables of ours say, as a table; one that is a text in `defaults` stays a text.

    Raises
    ------
    SettingsInvalid
        If one names a table that is none.
    """
    table: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        *sections, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        target, default = table, defaults
        for section in sections:
            target, default = target.setdefault(section, {}), default.get(section, {})
            if not isinstance(target, dict) or not isinstance(default, Mapping):
                raise SettingsInvalid(f"environment {variable}: {section} is no table of keys; see settings.toml")
        target[key] = _from_text(text, default=default.get(key))
    return table


def _from_text(text: str, *, default: object) -> object:
    # A value that is TOML (number, true, list, table) is that; anything else is the text itself.
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    # An AE title may be 123.
    return text if isinstance(default, str) and not isinstance(value, str) else value


def write_variables(table: Mapping[str, Any], *, whole: Collection[str]) -> dict[str, str]:
    """Return the variables that say what `table` does; each of the keys `whole` is one variable."""
    variables = {f"{ENVIRONMENT_PREFIX}{key.upper()}": _to_toml(table[key]) for key in whole}
    _flatten({key: value for key, value in table.items() if key not in whole}, ENVIRONMENT_PREFIX, variables)
    return variables


def _flatten(table: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for key, value in table.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key.upper()}__", into)
        else:
            into[f"{prefix}{key.upper()}"] = _to_toml(value)


def _to_toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(_to_toml(item) for item in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{_to_toml(str(k))} = {_to_toml(v)}" for k, v in value.items()) + " }"
        case _:
            return str(value)
