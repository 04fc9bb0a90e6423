"""The words of a rehearsal: a scenario, what it expects, what was seen, and the verdict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.rehearsal.stage import Stage


class Verdict(StrEnum):
    """How a scenario ended."""

    PASSED = "passed"
    LIMITED = "limited"
    FAILED = "failed"
    NOT_PLAYED = "not played"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must come out, and what came out.

    Attributes
    ----------
    expected, seen
        Sentences for people.
    is_required
        False where DICOM leaves it to the node: what is absent then is a limitation that the site must know.
    """

    expected: str
    seen: str
    holds: bool
    is_required: bool = True

    @property
    def verdict(self) -> Verdict:
        """Return what this check alone says."""
        if self.holds:
            return Verdict.PASSED
        return Verdict.FAILED if self.is_required else Verdict.LIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of evidence.

    Attributes
    ----------
    after_s
        Since the scenario began; seconds.
    """

    after_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One situation that a node must live through.

    Attributes
    ----------
    name
        Stable, kebab-case.
    title
        In a few words.
    story
        What happens, and why it does in hospitals.
    play
        Makes it happen, and yields what is to be judged.
    is_fault
        False where nothing goes wrong; it is played always.
    needs_series
        Whether it needs a phantom of several Instances.
    """

    name: str
    title: str
    story: str
    play: Callable[[Stage], Iterator[Check]]
    is_fault: bool = True
    needs_series: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one scenario.

    Attributes
    ----------
    began_at
        None when it was not played (UTC).
    seconds
        How long it took, the waiting for what must not come included.
    remark
        Why it was not played, or what ended it before its time; empty otherwise.
    """

    name: str
    title: str
    story: str
    began_at: datetime | None
    seconds: float
    checks: tuple[Check, ...]
    moments: tuple[Moment, ...]
    remark: str = ""

    @property
    def verdict(self) -> Verdict:
        """Return the worst that a check says; a scenario that proved nothing has not passed."""
        if self.began_at is None:
            return Verdict.NOT_PLAYED
        said = {check.verdict for check in self.checks}
        if self.remark or not said or Verdict.FAILED in said:
            return Verdict.FAILED
        return Verdict.LIMITED if Verdict.LIMITED in said else Verdict.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """Who was rehearsed, as it says itself in an Association.

    Attributes
    ----------
    address
        ``AET@host:port``.
    implementation_version_name, implementation_class_uid
        Of PS3.7 D.3.3.2; empty where it gave none.
    product
        Name and version where it is known otherwise; empty where not.
    """

    address: str
    implementation_version_name: str
    implementation_class_uid: str
    product: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalReport:
    """Everything a person signs.

    Attributes
    ----------
    run
        Which rehearsal; the Patient ID (0010,0020) of what was sent holds it.
    by
        Who ran it.
    facts
        Circumstances, a name and a value each.
    """

    run: str
    by: str
    node: NodeIdentity
    began_at: datetime
    ended_at: datetime
    facts: tuple[tuple[str, str], ...]
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the worst of all outcomes; what was not played is not passed."""
        said = {outcome.verdict for outcome in self.outcomes}
        if not said or said & {Verdict.FAILED, Verdict.NOT_PLAYED}:
            return Verdict.FAILED
        return Verdict.LIMITED if Verdict.LIMITED in said else Verdict.PASSED

    def count(self, verdict: Verdict) -> int:
        """Return how many scenarios ended so."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)
