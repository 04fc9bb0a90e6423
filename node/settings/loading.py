"""Loading the settings: shipped defaults < operator's file < environment."""

import difflib
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from node.domain.origin import ORIGINS_VARIABLE, Origins, decode_origins, origins_of
from node.errors import SettingsInvalid
from node.settings.environment import ENVIRONMENT_PREFIX, dotted_key, read_variables
from node.settings.whole import NAMED_TABLES, Settings

FILE_NAME = "settings.toml"
# What pydantic puts before the words of a check of ours.
OWN_WORDS = "Value error, "
# Keys of a rule that a Pipeline's own table may hold; with the first it has a rule of its name.
WHEN = "when"
RULE_KEYS = (WHEN, "inputs", "priors", "priority", "deliver_to")


def shipped_file() -> Path:
    """Return the `settings.toml` that holds every default.

    Raises
    ------
    SettingsInvalid
        If this installation lacks it.
    """
    beside_package = Path(__file__).resolve().parents[2] / FILE_NAME
    installed = Path(sys.prefix) / "share" / "radnode" / FILE_NAME
    for path in (beside_package, installed):
        if path.is_file():
            return path
    raise SettingsInvalid(f"{installed} is absent; reinstall radnode")


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the defaults, then `path`, then the environment.

    Raises
    ------
    SettingsInvalid
        If a file is absent or no TOML, a key is unknown, or a value is out of range.
    """
    table = _read_toml(shipped_file())
    file = {} if path is None else _read_toml(path)
    _overlay(table, file, where=str(path))
    variables = os.environ if environment is None else environment
    named = read_variables(variables, defaults=table)
    _overlay(table, named, where="environment")
    if ORIGINS_VARIABLE in variables:
        return check_settings(table, decode_origins(variables[ORIGINS_VARIABLE]))
    said_by = {dotted_key(name): f"environment {name}" for name in variables if name.startswith(ENVIRONMENT_PREFIX)}
    return check_settings(table, origins_of(file, str(path), said_by, named))


def check_settings(table: Mapping[str, Any], origins: Origins | None = None) -> Settings:
    """Return `table` as Settings.

    Parameters
    ----------
    origins
        Where its values stand, those that are no defaults.

    Raises
    ------
    SettingsInvalid
        If a key is unknown (naming the nearest known one) or a value is out of range.
    """
    try:
        return Settings.model_validate(_add_rules_of_pipelines(table), context=origins)
    except ValidationError as exc:
        raise SettingsInvalid("; ".join(_say(error) for error in exc.errors())) from exc


def _add_rules_of_pipelines(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `table` with a rule for each Pipeline whose table says when it runs."""
    pipelines = table.get("pipelines")
    if not isinstance(pipelines, Mapping):
        return table
    own = {name: entry for name, entry in pipelines.items() if isinstance(entry, Mapping) and WHEN in entry}
    plain = {name: {key: entry[key] for key in entry if key not in RULE_KEYS} for name, entry in own.items()}
    rules = [
        {"name": name, "run": [name], **{key: entry[key] for key in RULE_KEYS if key in entry}}
        for name, entry in own.items()
    ]
    return {**table, "pipelines": {**pipelines, **plain}, "rules": [*table.get("rules", ()), *rules]}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsInvalid(f"{path} does not exist; copy settings.toml there or correct --settings") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise SettingsInvalid(f"{path} cannot be read as TOML: {exc}") from exc


def _overlay(base: dict[str, Any], over: Mapping[str, Any], *, where: str) -> None:
    for section in NAMED_TABLES & base.keys() & over.keys():
        for name, entry in _as_table(over[section], section, where).items():
            _as_table(entry, f"{section}.{name}", where)
    _merge(base, over)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def _as_table(entry: object, key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise SettingsInvalid(f"{key} ({where}) must be a table of keys; see settings.toml")
    return entry


def _say(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"unknown setting {key}; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    if error["type"] == "missing":
        return f"setting {key} is missing; see settings.toml"
    said = str(error["msg"]).removeprefix(OWN_WORDS)
    # What two settings say against each other has no key of its own, and names both.
    return f"setting {key}: {said}" if key else said


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    names = list(location)
    if names and names[0] in NAMED_TABLES:
        # A site chose the second.
        del names[1:2]
    model: type[BaseModel] = Settings
    for name in names:
        # An entry of a list has a number, and the keys of the list.
        field = model.model_fields.get(str(name))
        model = (_table_in(field.annotation) if field else None) or model
    return sorted(model.model_fields)


def _table_in(annotation: object) -> type[BaseModel] | None:
    """Return the table that a key holds: one, several by name, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((table for part in get_args(annotation) if (table := _table_in(part))), None)
