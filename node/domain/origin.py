"""Where each setting has its value from: the defaults, a file, the environment."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULT = "default"
# Set by a process for those that it starts: they get every value in the environment, wherever it was written.
ORIGINS_VARIABLE = "RADNODE_ORIGINS"

# Dotted key of a setting, such as ``node.aet``, to where its value stands; what is absent is a default.
Origins = Mapping[str, str]


def keys_of(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of each value; a list is one value, whatever it holds."""
    for key, value in table.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{dotted}.")
        else:
            yield dotted


def origins_of(
    file: Mapping[str, Any], where: str, environment: Mapping[str, str], named: Mapping[str, Any]
) -> Origins:
    """Return where each value of a site stands.

    Parameters
    ----------
    file
        What the site's file says; `where` is its path.
    environment
        Dotted key to the variable that says it, or a table of it.
    named
        What the environment says, as tables.
    """
    found = dict.fromkeys(keys_of(file), where)
    for dotted in keys_of(named):
        # The longest: a variable of its own counts before one that holds the table.
        variables = [key for key in environment if dotted == key or dotted.startswith(f"{key}.")]
        found[dotted] = environment[max(variables, key=len)]
    return found


def encode_origins(origins: Origins) -> str:
    """Return `origins` as the value of `ORIGINS_VARIABLE`."""
    return json.dumps(dict(origins), ensure_ascii=True, sort_keys=True)


def decode_origins(text: str) -> Origins:
    """Return what `encode_origins` was given; nothing of a text that is none of its own."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(where) for key, where in told.items()} if isinstance(told, dict) else {}
