"""Rules that run a Pipeline whose model is not to be had: they are read all the same, and conclude nothing of it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from node.domain.prior import PRIOR_ROLE
from node.rules.grammar import Roles

# What a rule without inputs gives to a Pipeline whose roles nobody knows.
ANY_ROLE = "series"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedRoles:
    """The roles of a Pipeline as far as rules name them; none can be required."""

    optional_roles: tuple[str, ...]
    required_roles: tuple[str, ...] = ()


def guess_roles(pipeline: str, tables: Iterable[object]) -> GuessedRoles:
    """Return the roles that the rules in `tables` give to a Pipeline."""
    named = [ANY_ROLE, PRIOR_ROLE]
    for table in tables:
        inputs = table.get("inputs") if isinstance(table, Mapping) and _runs(table, {pipeline}) else None
        named += [role for role in inputs if role not in named] if isinstance(inputs, Mapping) else []
    return GuessedRoles(optional_roles=tuple(named))


def name_inputs(table: Any, known: Mapping[str, Roles], faulty: Collection[str]) -> Any:
    """Return the table of a rule with inputs, where it has none and runs a Pipeline whose roles are guessed.

    Parameters
    ----------
    known
        Name of each Pipeline that has a model to its roles.
    faulty
        Names of the others.
    """
    if not isinstance(table, Mapping) or not _runs(table, faulty) or "inputs" in table or "when" not in table:
        return table
    roles = {role for name in table["run"] if name in known for role in known[name].required_roles}
    return {**table, "inputs": dict.fromkeys(sorted(roles) or (ANY_ROLE,), table["when"])}


def _runs(table: Mapping[str, Any], pipelines: Collection[str]) -> bool:
    names = table.get("run")
    return isinstance(names, list | tuple) and any(name in pipelines for name in names if isinstance(name, str))
