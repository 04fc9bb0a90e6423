"""What an edit of the rules would change: both sets of rules, asked of the same Studies; nothing is stored."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from node.domain.decision import Decision, Outcome
from node.domain.forward import Forward
from node.domain.job import JobOrder, Priority
from node.domain.prior import PriorTerms
from node.domain.study import StudyFacts
from node.domain.uids import SeriesUID, StudyUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one Pipeline would be asked.

    Attributes
    ----------
    inputs
        Role to Series Instance UID.
    rule
        Which orders it, the first of several.
    awaits
        The priors that it would wait for.
    """

    rule: str
    inputs: Mapping[str, SeriesUID]
    priority: Priority
    deliver_to: frozenset[str]
    awaits: PriorTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What rules want of one Study.

    Attributes
    ----------
    runs
        By the name of the Pipeline.
    forwards
        Destination to the Series that would be forwarded there.
    """

    runs: Mapping[str, Run]
    forwards: Mapping[str, frozenset[SeriesUID]]
    decisions: tuple[Decision, ...]


Ask = Callable[[StudyFacts], Wish]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One Study with which something else would be done.

    Attributes
    ----------
    starts, stops
        Pipelines, and forwards as ``forward to NAME``.
    otherwise
        Pipelines and forwards that stay, with other Series, priority or Destinations.
    changes
        In words what would be otherwise with each of these.
    before, after
        The Decisions that tell why, of the rules as they are and of the edited ones; None where there is no rule.
    """

    study_instance_uid: StudyUID
    starts: tuple[str, ...]
    stops: tuple[str, ...]
    otherwise: tuple[str, ...]
    changes: tuple[str, ...]
    before: Decision | None
    after: Decision | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What was found.

    Attributes
    ----------
    tried
        How many Studies were asked.
    is_whole
        False: time was up before all were.
    started, stopped
        Pipeline, or ``forward to NAME``, to how many Studies it would start or stop on.
    """

    tried: int
    is_whole: bool
    differences: tuple[Difference, ...]
    started: Mapping[str, int] = field(default_factory=dict)
    stopped: Mapping[str, int] = field(default_factory=dict)


def dry_run(studies: Iterable[StudyFacts], *, current: Ask, edited: Ask, is_time_up: Callable[[], bool]) -> DryRun:
    """Return how `edited` rules differ from `current` ones on these Studies, in their order.

    Parameters
    ----------
    current, edited
        Each returns what a set of rules wants of a Study.
    is_time_up
        Asked before each Study; the first True ends it.
    """
    tried, is_whole = 0, True
    differences: list[Difference] = []
    for study in studies:
        if is_time_up():
            is_whole = False
            break
        tried += 1
        found = compare(current(study), edited(study))
        if found is not None:
            differences.append(found)
    return DryRun(
        tried=tried,
        is_whole=is_whole,
        differences=tuple(differences),
        started=_count(one.starts for one in differences),
        stopped=_count(one.stops for one in differences),
    )


def wish_of(decisions: Sequence[Decision], orders: Iterable[JobOrder], forwards: Iterable[Forward]) -> Wish:
    """Return what rules want of a Study, as routing orders it."""
    return Wish(
        runs={
            order.pipeline: Run(
                rule=order.rule,
                inputs=order.inputs,
                priority=order.priority,
                deliver_to=frozenset(order.recipients),
                awaits=order.awaits,
            )
            for order in orders
        },
        forwards={forward.destination: frozenset(forward.series_instance_uids) for forward in forwards},
        decisions=tuple(decisions),
    )


def compare(before: Wish, after: Wish) -> Difference | None:
    """Return what differs, None where nothing does; both are of one Study, and of at least one rule together."""
    was, becomes = _parts(before), _parts(after)
    starts, stops = sorted(becomes.keys() - was.keys()), sorted(was.keys() - becomes.keys())
    changes = {
        name: words for name in sorted(was.keys() & becomes.keys()) if (words := _tell_change(was[name], becomes[name]))
    }
    if not (starts or stops or changes):
        return None
    told_before, told_after = _telling(before, after, {*starts, *stops, *changes})
    return Difference(
        study_instance_uid=(*before.decisions, *after.decisions)[0].study_instance_uid,
        starts=tuple(starts),
        stops=tuple(stops),
        otherwise=tuple(changes),
        changes=tuple(f"{name}: {words}" for name, words in changes.items()),
        before=told_before,
        after=told_after,
    )


def _parts(wish: Wish) -> dict[str, Run | frozenset[SeriesUID]]:
    forwards = {f"forward to {destination}": series for destination, series in wish.forwards.items()}
    return {**wish.runs, **forwards}


def _tell_change(was: Run | frozenset[SeriesUID], becomes: Run | frozenset[SeriesUID]) -> str:
    """Return what is otherwise with a Pipeline or a forward; empty where nothing is."""
    if not isinstance(was, Run) or not isinstance(becomes, Run):
        return "" if was == becomes else "other Series"
    parts = []
    if was.inputs != becomes.inputs:
        roles = sorted(
            role for role in {*was.inputs, *becomes.inputs} if was.inputs.get(role) != becomes.inputs.get(role)
        )
        parts.append(f"another Series as {', '.join(roles)}")
    if was.priority is not becomes.priority:
        parts.append(f"priority {becomes.priority.word} instead of {was.priority.word}")
    if was.deliver_to != becomes.deliver_to:
        parts.append(f"to {_name(becomes.deliver_to)} instead of {_name(was.deliver_to)}")
    if was.awaits != becomes.awaits:
        parts.append("other priors")
    return "; ".join(parts)


def _name(destinations: frozenset[str]) -> str:
    return ", ".join(sorted(destinations)) or "nobody"


def _telling(before: Wish, after: Wish, names: Collection[str]) -> tuple[Decision | None, Decision | None]:
    """Return what the rule says from which the difference comes.

    That is the first that comes to something else; where none does, the one that orders what is otherwise: its order or
    its Destinations changed.

    Parameters
    ----------
    names
        Of the Pipelines and forwards with which something else would be done.
    """
    was, becomes = ({one.rule: one for one in wish.decisions} for wish in (before, after))
    pairs = {name: (was.get(name), becomes.get(name)) for name in {**becomes, **was}}
    ordering = [wish.runs[name].rule for wish in (after, before) for name in sorted(names) if name in wish.runs]
    # Of those that order what differs, first of all.
    ranked = [*(pairs[rule] for rule in ordering if rule in pairs), *pairs.values()]
    return next((pair for pair in ranked if _effect(pair[0]) != _effect(pair[1])), ranked[0])


def _effect(decision: Decision | None) -> Mapping[str, SeriesUID] | None:
    """Return the Series that a rule takes; None where it takes none, for whatever reason."""
    return decision.inputs if decision is not None and decision.outcome is Outcome.MATCH else None


def _count(names: Iterable[Sequence[str]]) -> Mapping[str, int]:
    return Counter(name for each in names for name in each)
