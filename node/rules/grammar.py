"""From `[[rules]]` tables to Rules; whatever cannot be evaluated stops here and names its key."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from node.domain.job import Priority
from node.domain.prior import PRIOR_ROLE
from node.errors import Misconfigured, PipelineUnknown, RuleInvalid
from node.rules.conditions import CONDITIONS
from node.rules.findings import parse_result
from node.rules.operands import suggest
from node.rules.prior_terms import parse_priors
from node.rules.rule import AllOf, AnyOf, Ask, Need, Not, Rule, StudyHas, Test, asked_of

RULE_KEYS = ("name", "when", "run", "forward", "inputs", "priors", "priority", "deliver_to")
GROUPS = ("any", "all", "not", "study_has", "result")


class Roles(Protocol):
    """What the grammar must know of a Pipeline; a ModelCard has it."""

    @property
    def required_roles(self) -> tuple[str, ...]:
        """Roles without which the Pipeline does not run."""
        ...

    @property
    def optional_roles(self) -> tuple[str, ...]:
        """Roles that the Pipeline uses where there are any."""
        ...


def parse_rules(
    tables: Iterable[Mapping[str, Any]],
    *,
    pipelines: Mapping[str, Roles],
    destinations: Collection[str],
    peers: Collection[str] = (),
) -> tuple[Rule, ...]:
    """Return the rules in the order of the file.

    Parameters
    ----------
    tables
        ``[[rules]]`` as TOML gives them.
    pipelines
        Every configured Pipeline with its roles.
    destinations
        Names of the configured Destinations.
    peers
        Names of those from whom Studies can be fetched.

    Raises
    ------
    RuleInvalid
        If a key, condition, operand, role, priority or Destination is not known, or a rule could never do anything.
    PipelineUnknown
        If a rule names a Pipeline that is not configured.
    """
    rules: list[Rule] = []
    for number, table in enumerate(tables, start=1):
        name = _read_name(table, number)
        if name in {rule.name for rule in rules}:
            raise RuleInvalid(f"rule {name!r}: name: another rule has it too; Decisions are told apart by it")
        try:
            rule = _parse_rule(name, table, pipelines, destinations)
            rules.append(_add_priors(rule, table, peers))
        except (RuleInvalid, PipelineUnknown) as exc:
            raise type(exc)(f"rule {name!r}: {exc}") from exc
    return tuple(rules)


def _read_name(table: object, number: int) -> str:
    if not isinstance(table, Mapping):
        raise RuleInvalid(f"rule {number}: is no table; write [[rules]]")
    name = table.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RuleInvalid(f"rule {number}: name is missing; give it one that people will read")
    return name.strip()


def _parse_rule(
    name: str, table: Mapping[str, Any], pipelines: Mapping[str, Roles], destinations: Collection[str]
) -> Rule:
    for key in table:
        if key not in RULE_KEYS:
            raise RuleInvalid(f"{key} is no key of a rule; {suggest(key, RULE_KEYS)}")
    needs = _parse_run(_read_names(table, "run"), pipelines)
    forward = _known_destinations(table, "forward", destinations)
    if not needs and "inputs" in table:
        raise RuleInvalid("inputs belong to run, which is missing")
    rule = Rule(
        name=name,
        when=_parse_table(table.get("when"), "when", pipelines),
        needs=needs,
        forward=forward,
        inputs=_parse_inputs(table, needs, pipelines),
        priority=_parse_priority(table.get("priority", "routine")),
        deliver_to=_known_destinations(table, "deliver_to", destinations),
    )
    _check_deeds(rule)
    return replace(rule, deliver_to=rule.deliver_to or tuple(sorted(destinations))) if needs else rule


def _add_priors(rule: Rule, table: Mapping[str, Any], peers: Collection[str]) -> Rule:
    """Return the rule with what it wants of earlier Studies; the role of theirs is none of this Study's."""
    if "priors" not in table:
        if PRIOR_ROLE in rule.inputs:
            raise RuleInvalid(
                f'inputs.{PRIOR_ROLE} belongs to priors, which is missing; add priors = {{ from = "..." }}'
            )
        return rule
    if not any(PRIOR_ROLE in need.optional_roles for need in rule.needs):
        raise RuleInvalid(f"priors: no pipeline of run reads one; its model.toml needs a table [inputs.{PRIOR_ROLE}]")
    own = {role: alternatives for role, alternatives in rule.inputs.items() if role != PRIOR_ROLE}
    priors = parse_priors(
        table["priors"], when=rule.when, series=rule.inputs.get(PRIOR_ROLE, ()), peers=peers, parse_ask=_parse_ask
    )
    return replace(rule, inputs=MappingProxyType(own), priors=priors)


def _check_deeds(rule: Rule) -> None:
    if rule.is_steering and not rule.asked_of:
        raise RuleInvalid("run and forward are both missing; say what is to be done")
    if not rule.needs and rule.deliver_to and not rule.asked_of:
        raise RuleInvalid("deliver_to belongs to run, or to a result that is asked for; both are missing")
    if rule.is_steering and not rule.deliver_to and rule.priority >= Priority.ROUTINE:
        raise RuleInvalid(
            'a result is asked for, and nothing follows; add priority = "high", deliver_to, forward or run'
        )


def _read_names(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = table.get(key, [])
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise RuleInvalid(f'{key} must be a list of names: {key} = ["..."]')
    for name in names:
        if list(names).count(name) > 1:
            raise RuleInvalid(f"{key} names {name!r} twice")
    return tuple(names)


def _parse_run(names: Sequence[str], pipelines: Mapping[str, Roles]) -> tuple[Need, ...]:
    for name in names:
        if name not in pipelines:
            raise PipelineUnknown(f"run: {name!r} is no configured pipeline; {suggest(name, pipelines)}")
    return tuple(
        Need(
            pipeline=name,
            required_roles=tuple(pipelines[name].required_roles),
            optional_roles=tuple(pipelines[name].optional_roles),
        )
        for name in names
    )


def _known_destinations(table: Mapping[str, Any], key: str, destinations: Collection[str]) -> tuple[str, ...]:
    names = _read_names(table, key)
    for name in names:
        if name not in destinations:
            raise RuleInvalid(f"{key}: {name!r} is no configured destination; {suggest(name, destinations)}")
    return names


def _parse_priority(word: object) -> Priority:
    words = tuple(priority.word for priority in Priority)
    if not isinstance(word, str) or word not in words:
        raise RuleInvalid(f"priority: {word!r} is none; {suggest(str(word), words)}")
    return Priority.from_word(word)


def _parse_inputs(
    table: Mapping[str, Any], needs: Sequence[Need], pipelines: Collection[str]
) -> Mapping[str, tuple[AllOf, ...]]:
    if "inputs" not in table:
        for need in needs:
            if len(need.required_roles) != 1:
                roles = ", ".join(need.required_roles) or "no role at all"
                raise RuleInvalid(f"inputs is missing; pipeline {need.pipeline!r} requires {roles}")
        return MappingProxyType({})
    written = table["inputs"]
    if not isinstance(written, Mapping):
        raise RuleInvalid("inputs must be a table of roles: inputs = { role = { ... } }")
    known = {role for need in needs for role in (*need.required_roles, *need.optional_roles)}
    for role in written:
        if role not in known:
            raise RuleInvalid(
                f"inputs.{role}: is no role of {', '.join(n.pipeline for n in needs)}; {suggest(role, known)}"
            )
    for need in needs:
        missing = [role for role in need.required_roles if role not in written]
        if missing:
            raise RuleInvalid(f"inputs.{missing[0]} is missing; pipeline {need.pipeline!r} requires it")
    alternatives = {role: _parse_alternatives(raw, f"inputs.{role}", pipelines) for role, raw in written.items()}
    return MappingProxyType(alternatives)


def _parse_alternatives(raw: object, where: str, pipelines: Collection[str]) -> tuple[AllOf, ...]:
    tables = raw if isinstance(raw, list | tuple) else [raw]
    if not tables:
        raise RuleInvalid(f"{where} is empty; it could never be filled")
    places = [f"{where}[{number}]" for number in range(len(tables))] if len(tables) > 1 else [where]
    return tuple(_parse_table(table, place, pipelines) for table, place in zip(tables, places, strict=True))


def _parse_table(raw: object, where: str, pipelines: Collection[str]) -> AllOf:
    if not isinstance(raw, Mapping):
        raise RuleInvalid(f'{where} must be a table of conditions: {where} = {{ modality = "CT" }}')
    if not raw:
        raise RuleInvalid(f"{where} is empty; it would hold for everything")
    return AllOf(parts=tuple(_parse_entry(key, value, where, pipelines) for key, value in raw.items()))


def _parse_entry(key: str, raw: object, where: str, pipelines: Collection[str]) -> Test:
    inner = f"{where}.{key}"
    if key == "not":
        part = _parse_table(raw, inner, pipelines)
        if any(asked_of(part)):
            raise RuleInvalid(f'{inner} asks for a result, and would hold before there is one; write count = "= 0"')
        return Not(part=part.parts[0] if len(part.parts) == 1 else part)
    if key == "study_has":
        return StudyHas(part=_parse_table(raw, inner, pipelines))
    if key == "result":
        return parse_result(raw, inner, pipelines)
    if key in GROUPS:
        parts = _parse_group(raw, inner, pipelines)
        return AnyOf(parts=parts) if key == "any" else AllOf(parts=parts)
    if key not in CONDITIONS:
        raise RuleInvalid(f"{inner} is no condition; {suggest(key, (*CONDITIONS, *GROUPS))}")
    return _parse_ask(key, raw, inner)


def _parse_group(raw: object, where: str, pipelines: Collection[str]) -> tuple[Test, ...]:
    if not isinstance(raw, list | tuple) or not raw:
        raise RuleInvalid(f"{where} must be a list of tables: [{{ ... }}, {{ ... }}]")
    tables = [_parse_table(table, f"{where}[{i}]", pipelines) for i, table in enumerate(raw)]
    return tuple(table.parts[0] if len(table.parts) == 1 else table for table in tables)


def _parse_ask(key: str, raw: object, where: str) -> Ask:
    operands = raw if isinstance(raw, list | tuple) else [raw]
    if not operands:
        raise RuleInvalid(f"{where} is an empty list; it could never hold")
    parsed = []
    for operand in operands:
        if isinstance(operand, bool) or not isinstance(operand, str | int | float):
            raise RuleInvalid(f"{where}: {operand!r} must be a text or a number")
        try:
            parsed.append(CONDITIONS[key].parse_operand(operand))
        except Misconfigured as exc:
            raise RuleInvalid(f"{where}: {exc}") from exc
    return Ask(condition=CONDITIONS[key], operands=tuple(parsed))
