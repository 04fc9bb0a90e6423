"""What the work on one Job took: seconds by stage, and by the parts of a stage."""

from collections.abc import Mapping

# In the order in which a worker does them; who reads the ledger is told how long each took, not when.
STAGES = ("prepare", "infer", "encode")
# What none of the parts of a stage took.
OTHER = "other"
# Ends the key of what a Job waited for others on its device.
TURN = ".turn"


def sum_stages(spent: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by stage, its parts included.

    Parameters
    ----------
    spent
        As the ledger keeps it: ``stage.part`` by part, and under the stage itself what no part of it took. A Job of an
        earlier version has stages without parts.
    """
    found: dict[str, float] = {}
    for key, seconds in spent.items():
        name, _, _ = key.partition(".")
        found[name] = found.get(name, 0.0) + seconds
    return {name: round(found[name], 3) for name in sorted(found, key=_rank)}


def list_parts(spent: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return, by stage, the seconds of its parts in the order in which they began first, `OTHER` last.

    Stages without parts are left out. See `sum_stages`.
    """
    found: dict[str, dict[str, float]] = {}
    for key, seconds in spent.items():
        name, _, part = key.partition(".")
        if part:
            found.setdefault(name, {})[part] = seconds
    for name, parts in found.items():
        if spent.get(name):
            parts[OTHER] = spent[name]
    return {name: found[name] for name in sorted(found, key=_rank)}


def _rank(name: str) -> tuple[int, str]:
    return (STAGES.index(name) if name in STAGES else len(STAGES), name)
