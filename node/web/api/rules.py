"""Rules: listed, checked, and explained for one Study."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from node.domain.uids import StudyUID
from node.errors import Misconfigured, NodeError, Rejected, WrongState
from node.rules.dry_run import Difference
from node.rules.explain import explain
from node.rules.writing import write_rules
from node.site import find_models, read_rules, read_tables
from node.trial import Limits, Trial, try_edit
from node.web.api.conduct import UID, Operator, Reader, new_router
from node.web.api.contract import told
from node.web.api.jobs import ReasonResource
from node.web.api.studies import DecisionResource, to_decision_resource
from node.web.rights import Right
from node.web.services import Services

MAX_RULES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResource:
    """One rule as the settings have it.

    Attributes
    ----------
    when
        Conditions, all of which must hold; see docs/rules.md.
    run
        Pipelines.
    forward
        Destinations that get the Instances.
    deliver_to
        Destinations that get the Results.
    """

    name: str
    when: Mapping[str, Any]
    run: tuple[str, ...]
    forward: tuple[str, ...]
    deliver_to: tuple[str, ...]
    priority: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleList:
    """All rules, in the order in which they are asked."""

    items: tuple[RuleResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOrder:
    """Which rules are read.

    Attributes
    ----------
    rules
        As tables of ``[[rules]]``; null: those of the settings.
    """

    rules: Annotated[tuple[Mapping[str, Any], ...] | None, Body(max_length=MAX_RULES)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResource:
    """Whether the node could start with these rules.

    Attributes
    ----------
    problem
        What is wrong with the first that is wrong.
    """

    is_right: bool
    names: tuple[str, ...]
    problem: ReasonResource | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOrder:
    """Which Study is asked about."""

    study_instance_uid: Annotated[str, Body(max_length=64, pattern=UID)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why each rule did, or did not, match a Study.

    Attributes
    ----------
    lines
        The same in words, rule by rule; the clause that decided begins with two angle brackets.
    """

    study_instance_uid: str
    decisions: tuple[DecisionResource, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunOrder:
    """Which rules are tried, and on which Studies.

    Attributes
    ----------
    rules
        As tables of ``[[rules]]``.
    days
        Studies that changed in the last so many.
    """

    rules: Annotated[tuple[Mapping[str, Any], ...], Body(max_length=MAX_RULES)]
    days: Annotated[float, Body(gt=0, le=3660)] = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceResource:
    """One Study with which something else would be done.

    Attributes
    ----------
    starts, stops, otherwise
        Pipelines, and forwards as ``forward to NAME``.
    reason
        What the rule says that decides.
    """

    study_instance_uid: str
    starts: tuple[str, ...]
    stops: tuple[str, ...]
    otherwise: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunResource:
    """What was found.

    Attributes
    ----------
    studies
        How many there are in these days.
    tried
        How many of them were asked about, the newest; the number is bounded, and so is the time.
    differences
        The Studies with which something else would be done.
    problem
        What is wrong with the rules; then none was asked about.
    """

    studies: int
    tried: int
    is_whole: bool
    differences: tuple[DifferenceResource, ...]
    problem: ReasonResource | None


def router(services: Services) -> APIRouter:
    """Return what programs ask of rules."""
    routes = new_router("rules")
    trying = Lock()

    @routes.get("/rules", **told(Right.READ))
    def list_rules(_reader: Reader) -> RuleList:
        """List the rules of the settings."""
        return RuleList(items=tuple(map(_to_resource, services.settings.rules)))

    @routes.post("/rules/check", **told(Right.READ))
    def check_rules(_reader: Reader, order: CheckOrder) -> CheckResource:
        """Read rules as the node would at start-up: those given, or those of the settings; nothing is changed."""
        settings = services.settings
        try:
            models = find_models(settings)
            rules = read_rules(settings, models) if order.rules is None else read_tables(settings, models, order.rules)
        except (Misconfigured, Rejected) as exc:
            return CheckResource(is_right=False, names=(), problem=_problem(exc))
        return CheckResource(is_right=True, names=tuple(rule.name for rule in rules), problem=None)

    @routes.post("/rules/dry-run", **told(Right.OPERATE, 409))
    def try_rules(_operator: Operator, order: DryRunOrder) -> DryRunResource:
        """Tell what other rules would have done otherwise with the Studies of the ledger; nothing is stored."""
        if not trying.acquire(blocking=False):
            raise WrongState("other rules are tried at this moment; ask again when that is done")
        try:
            since = services.clock() - timedelta(days=order.days)
            trial = try_edit(write_rules(order.rules), services.settings, since=since, limits=Limits())
        except Misconfigured as exc:
            return DryRunResource(studies=0, tried=0, is_whole=False, differences=(), problem=_problem(exc))
        finally:
            trying.release()
        return _to_dry_run(trial)

    @routes.post("/rules/explain", **told(Right.READ, 404))
    def explain_study(request: Request, reader: Reader, order: ExplainOrder) -> Explanation:
        """Tell for each rule whether it matched a Study, and which clause decided."""
        decisions = services.view.study_story(StudyUID(order.study_instance_uid)).decisions
        services.witnessing.saw(request, reader, order.study_instance_uid)
        return Explanation(
            study_instance_uid=order.study_instance_uid,
            decisions=tuple(map(to_decision_resource, decisions)),
            lines=explain(decisions),
        )

    return routes


def _problem(exc: NodeError) -> ReasonResource:
    return ReasonResource(code=exc.code, text=str(exc))


def _to_dry_run(trial: Trial) -> DryRunResource:
    found = trial.found
    return DryRunResource(
        studies=trial.studies,
        tried=found.tried,
        is_whole=found.is_whole,
        differences=tuple(_to_difference(one) for one in found.differences),
        problem=None,
    )


def _to_difference(one: Difference) -> DifferenceResource:
    told = one.after or one.before
    return DifferenceResource(
        study_instance_uid=one.study_instance_uid,
        starts=one.starts,
        stops=one.stops,
        otherwise=one.otherwise,
        reason="" if told is None else told.reason,
    )


def _to_resource(table: Mapping[str, Any]) -> RuleResource:
    return RuleResource(
        name=table["name"],
        when=table.get("when", {}),
        run=tuple(table.get("run", ())),
        forward=tuple(table.get("forward", ())),
        deliver_to=tuple(table.get("deliver_to", ())),
        priority=table.get("priority", "routine"),
        inputs=table.get("inputs", {}),
    )
