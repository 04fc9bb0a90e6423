"""What a rule may ask of what a Pipeline found: ``result = { pipeline = "…", long_axis = ">= 8 mm" }``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from node.domain.decision import Outcome
from node.domain.finding import Finding, Presence
from node.domain.steering import Answered
from node.errors import RuleInvalid
from node.rules.kleene import all_of, any_of
from node.rules.operands import Operand, RawOperand, Reading, parse_choice, parse_comparison, parse_word, suggest
from node.rules.quantity import COUNT, MILLIMETRES, Quantity

CERTAINTY = Quantity(unit="", factors=MappingProxyType({"": 1.0}), tolerance=1e-6)
MILLILITRES = Quantity(unit="mL", factors=MappingProxyType({"mL": 1.0, "ml": 1.0}), tolerance=1e-3)
MM3_PER_ML = 1000.0
NOT_ANSWERED = "no answer yet"
PRESENCES = tuple(presence.value for presence in Presence)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingCondition:
    """One thing that may be asked of a finding; see `node.rules.conditions.Condition`."""

    key: str
    form: str
    read: Callable[[Finding], Reading | None]
    parse: Callable[[RawOperand], Operand]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingAsk:
    """One condition with what it is compared with; one of the operands must hold."""

    condition: FindingCondition
    operands: tuple[Operand, ...]

    @property
    def text(self) -> str:
        """The condition as a person would write it: ``long_axis >= 8 mm``."""
        return f"{self.condition.key} " + " or ".join(f"{one.symbol} {one.words}".strip() for one in self.operands)

    def is_met(self, finding: Finding) -> Outcome:
        """Return the answer of a finding; what it was not measured for is UNDETERMINED."""
        reading = self.condition.read(finding)
        return any_of(operand.compare(reading) for operand in self.operands)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultHas:
    """Holds when a Pipeline has answered, and as many findings as `count` allows meet all of `asks`.

    Attributes
    ----------
    count
        Compared with the number of those findings.
    """

    pipeline: str
    asks: tuple[FindingAsk, ...]
    count: Operand

    @property
    def text(self) -> str:
        """The question in words."""
        which = f" with {' and '.join(ask.text for ask in self.asks)}" if self.asks else ""
        return f"{self.pipeline} found {self.count.words} finding(s){which}"

    def ask(self, answered: Sequence[Answered]) -> tuple[Outcome, str]:
        """Return whether it holds, and what was found; without an answer it does not."""
        answers = [answer for answer in answered if answer.pipeline == self.pipeline]
        if not answers:
            return Outcome.NO_MATCH, NOT_ANSWERED
        outcomes = [all_of(ask.is_met(finding) for ask in self.asks) for finding in _seen(answers, self.asks)]
        sure, open_ = outcomes.count(Outcome.MATCH), outcomes.count(Outcome.UNDETERMINED)
        # What is not known may or may not count: only where both come to the same is the whole known.
        possible = {self.count.compare(Reading(words="", number=n)) for n in range(sure, sure + open_ + 1)}
        found = f"{sure} of {len(outcomes)}" + (f", {open_} not measured" if open_ else "")
        return possible.pop() if len(possible) == 1 else Outcome.UNDETERMINED, found


def parse_result(table: object, where: str, pipelines: Iterable[str]) -> ResultHas:
    """Return what ``result = { … }`` asks.

    Raises
    ------
    RuleInvalid
        If it is no table, its Pipeline is none, or a key or operand is not known.
    """
    if not isinstance(table, Mapping):
        raise RuleInvalid(f'{where} must be a table: {where} = {{ pipeline = "…" }}')
    pipeline = table.get("pipeline")
    known = tuple(pipelines)
    if not isinstance(pipeline, str) or pipeline not in known:
        raise RuleInvalid(f"{where}.pipeline: {pipeline!r} is no configured pipeline; {suggest(str(pipeline), known)}")
    others = {key: raw for key, raw in table.items() if key not in {"pipeline", "count"}}
    return ResultHas(
        pipeline=pipeline,
        asks=tuple(_parse_ask(key, raw, f"{where}.{key}") for key, raw in others.items()),
        count=_parse_operand(partial(parse_comparison, quantity=COUNT), table.get("count", ">= 1"), f"{where}.count"),
    )


def _parse_ask(key: str, raw: object, where: str) -> FindingAsk:
    if key not in FINDING_CONDITIONS:
        raise RuleInvalid(f"{where} is no condition; {suggest(key, ('pipeline', 'count', *FINDING_CONDITIONS))}")
    condition = FINDING_CONDITIONS[key]
    operands = raw if isinstance(raw, list | tuple) else [raw]
    if not operands:
        raise RuleInvalid(f"{where} is an empty list; it could never hold")
    parsed = tuple(_parse_operand(condition.parse, operand, where) for operand in operands)
    return FindingAsk(condition=condition, operands=parsed)


def _parse_operand(parse: Callable[[RawOperand], Operand], raw: object, where: str) -> Operand:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise RuleInvalid(f"{where}: {raw!r} must be a text or a number")
    try:
        return parse(raw)
    except RuleInvalid as exc:
        raise RuleInvalid(f"{where}: {exc}") from exc


def _seen(answers: Sequence[Answered], asks: Sequence[FindingAsk]) -> list[Finding]:
    findings = [finding for answer in answers for finding in answer.findings]
    if any(ask.condition.key == "presence" for ask in asks):
        return findings
    return [finding for finding in findings if finding.presence is Presence.PRESENT]


def _read_names(finding: Finding) -> Reading:
    code = finding.code
    texts = (finding.label, code.meaning, code.value, f"{code.scheme}:{code.value}")
    return Reading(words=finding.label, texts=texts)


def _read_site(finding: Finding) -> Reading | None:
    site = finding.site
    return None if site is None else Reading(words=site.meaning, texts=(site.meaning, f"{site.scheme}:{site.value}"))


def _read_presence(finding: Finding) -> Reading:
    return Reading(words=finding.presence.value, texts=(finding.presence.value,))


def _read_confidence(finding: Finding) -> Reading | None:
    return None if finding.confidence is None else Reading(words=f"{finding.confidence:.2f}", number=finding.confidence)


def _read_measurement(finding: Finding, *, name: str, per_unit: float = 1.0) -> Reading | None:
    value = finding.measurements.get(name)
    return None if value is None else Reading(words=f"{value / per_unit:g}", number=value / per_unit)


def _measured(key: str, name: str, quantity: Quantity, *, per_unit: float = 1.0) -> FindingCondition:
    return FindingCondition(
        key=key,
        form=f"number, {quantity.unit}",
        read=partial(_read_measurement, name=name, per_unit=per_unit),
        parse=partial(parse_comparison, quantity=quantity),
    )


FINDING_CONDITIONS: Mapping[str, FindingCondition] = MappingProxyType(
    {
        condition.key: condition
        for condition in (
            FindingCondition(key="finding", form="word", read=_read_names, parse=parse_word),
            FindingCondition(key="site", form="word", read=_read_site, parse=parse_word),
            FindingCondition(
                key="presence",
                form=f"one of {', '.join(PRESENCES)}",
                read=_read_presence,
                parse=partial(parse_choice, choices=PRESENCES),
            ),
            FindingCondition(
                key="confidence",
                form="number, 0 to 1",
                read=_read_confidence,
                parse=partial(parse_comparison, quantity=CERTAINTY),
            ),
            _measured("long_axis", "long_axis_mm", MILLIMETRES),
            _measured("short_axis", "short_axis_mm", MILLIMETRES),
            _measured("volume", "volume_mm3", MILLILITRES, per_unit=MM3_PER_ML),
        )
    }
)
