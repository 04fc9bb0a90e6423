"""A rule as it is evaluated: parsed, checked and frozen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from node.domain.job import Priority
from node.domain.prior import PriorTerms
from node.rules.conditions import Condition
from node.rules.findings import ResultHas
from node.rules.operands import Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One condition with what it is compared with."""

    condition: Condition
    operands: tuple[Operand, ...]

    @property
    def text(self) -> str:
        """The condition as a person would write it: ``body_part = CHEST or THORAX``."""
        words = []
        symbol = ""
        for operand in self.operands:
            words.append(operand.words if operand.symbol in {"", symbol} else f"{operand.symbol} {operand.words}")
            symbol = operand.symbol
        joint = " and " if self.condition.needs_all else " or "
        return f"{self.condition.key} {joint.join(words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    """Holds when every part holds."""

    parts: tuple["Test", ...]

    @property
    def text(self) -> str:
        """The parts, joined by "and"."""
        return " and ".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """Holds when one part holds."""

    parts: tuple["Test", ...]

    @property
    def text(self) -> str:
        """The parts, as a list of alternatives."""
        return f"any of ({'; '.join(part.text for part in self.parts)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """Holds when the part does not."""

    part: "Test"

    @property
    def text(self) -> str:
        """The part, negated."""
        return f"not ({self.part.text})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHas:
    """Holds when some Series of the Study, whichever it is, meets the part."""

    part: "Test"

    @property
    def text(self) -> str:
        """The part, asked of the Study."""
        return f"the Study has a Series with ({self.part.text})"


Test = Ask | AllOf | AnyOf | Not | StudyHas | ResultHas


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Which Series one Pipeline reads, by role."""

    pipeline: str
    required_roles: tuple[str, ...]
    optional_roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Which Series of an earlier Study a rule wants beside its inputs.

    Attributes
    ----------
    when
        What a Series of the earlier Study must meet.
    series
        Alternatives, best first; empty: the best Series of `when`.
    """

    terms: PriorTerms
    when: AllOf
    series: tuple[AllOf, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a site wants done with which Studies.

    Attributes
    ----------
    when
        What a Series must meet.
    needs
        The Pipelines to run; empty for a rule that only forwards.
    forward
        Destinations that get the Series as they are. A rule with neither asks for a result, and steers: its priority is
        that of the Study, and its Destinations get the Results that were asked for, too.
    inputs
        Role to alternatives, best first; empty when the one role of each Pipeline takes the best Series of `when`.
    deliver_to
        Destinations of the Results; every one that is configured unless the rule names some.
    priors
        What is wanted of earlier Studies; None: nothing.
    """

    name: str
    when: AllOf
    needs: tuple[Need, ...]
    forward: tuple[str, ...]
    inputs: Mapping[str, tuple[AllOf, ...]]
    priority: Priority
    deliver_to: tuple[str, ...]
    priors: Priors | None = None

    @property
    def asked_of(self) -> tuple[str, ...]:
        """Pipelines whose answers `when` asks for; the rule is asked again whenever one has answered."""
        return tuple(dict.fromkeys(asked_of(self.when)))

    @property
    def is_steering(self) -> bool:
        """True when the rule orders nothing: it only steers what was ordered."""
        return not self.needs and not self.forward


def asked_of(test: Test) -> Iterator[str]:
    """Return the Pipelines whose answers a test asks for, in its order."""
    match test:
        case ResultHas():
            yield test.pipeline
        case AllOf() | AnyOf():
            for part in test.parts:
                yield from asked_of(part)
        case Not() | StudyHas():
            yield from asked_of(test.part)
        case Ask():
            return
