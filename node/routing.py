"""The station that asks every rule about a settled Study and orders what they conclude."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from node.domain.decision import Decision, Outcome
from node.domain.forward import Forward
from node.domain.imaging_order import most_urgent
from node.domain.job import JobOrder, Priority, digest_inputs
from node.domain.prior import PRIOR_ROLE
from node.domain.steering import Steering
from node.domain.study import StudyFacts
from node.domain.switch import Mode
from node.domain.uids import SeriesUID, StudyUID
from node.models import ModelCard
from node.rules.evaluate import evaluate, matching_series
from node.rules.priors import PriorChoice, choose_prior, tell_prior
from node.rules.rule import Need, Rule

log = logging.getLogger(__name__)

STUDIES_A_TICK = 16

Routed = tuple[tuple[Decision, ...], tuple[JobOrder, ...], tuple[Forward, ...]]


class RoutingLedger(Protocol):
    """What routing asks of the ledger."""

    def hear_answers(self, pipelines: frozenset[str], *, now: datetime) -> int:
        """Let the rules be asked again of each Study that one of `pipelines` has answered since; return how many."""
        ...

    def settled_studies(self, limit: int) -> tuple[StudyUID, ...]:
        """Return at most `limit` Studies in state SETTLED, the longest waiting first."""
        ...

    def study_facts(self, study_instance_uid: StudyUID) -> StudyFacts:
        """Return the Study with all its Series."""
        ...

    def record_routing(
        self,
        study: StudyFacts,
        *,
        decisions: tuple[Decision, ...],
        orders: tuple[JobOrder, ...],
        forwards: tuple[Forward, ...],
        steerings: tuple[Steering, ...],
        now: datetime,
    ) -> bool:
        """Commit all and move the Study to ROUTED, in one transaction; returns whether it did.

        Nothing is written if the Study changed since it was read, or if a Pipeline was switched so that an order of it
        must not be given any more.
        """
        ...


class Routing:
    """Moves Studies from SETTLED to ROUTED.

    Parameters
    ----------
    models
        Name of each configured Pipeline to its model.
    read_modes
        Returns how Pipelines stand now; one that is not named is on.
    faults
        Name of each Pipeline that has no model to why; it is not asked, and its Decisions say so.
    """

    def __init__(
        self,
        ledger: RoutingLedger,
        rules: Sequence[Rule],
        models: Mapping[str, ModelCard],
        *,
        read_modes: Callable[[], Mapping[str, Mode]] = dict,
        faults: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._ledger = ledger
        self._read_modes = read_modes
        self._rules = tuple(rules)
        self._models = models
        self._faults = faults
        self._asked_of = frozenset(name for rule in self._rules for name in rule.asked_of)

    def tick(self, now: datetime) -> datetime | None:
        """Route the Studies that wait; return `now` when more may be waiting, else None.

        Returns after Decisions, Jobs and the Study's state are committed.
        """
        self._ledger.hear_answers(self._asked_of, now=now)
        waiting = self._ledger.settled_studies(STUDIES_A_TICK)
        are_routed = [self._route(study_instance_uid, now) for study_instance_uid in waiting]
        # A prior that changed has those asked again that read it.
        is_more = bool(waiting) and bool(self._ledger.settled_studies(1))
        return now if is_more or not all(are_routed) else None

    def _route(self, study_instance_uid: StudyUID, now: datetime) -> bool:
        study = self._ledger.study_facts(study_instance_uid)
        routed = tell_faults(route_study(study, self._rules, self._models), self._rules, self._faults)
        decisions, orders, forwards = heed_switches(routed, self._rules, self._read_modes())
        is_routed = self._ledger.record_routing(
            study,
            decisions=decisions,
            orders=orders,
            forwards=forwards,
            steerings=find_steerings(self._rules, decisions),
            now=now,
        )
        if is_routed:
            log.info("study routed", extra={"study_uid": study_instance_uid, "count": len(orders)})
        return is_routed


def route_study(study: StudyFacts, rules: Sequence[Rule], models: Mapping[str, ModelCard]) -> Routed:
    """Return what every rule decides, and the orders and forwards that follow; nothing is stored.

    A Pipeline is ordered once for a Study. Two rules that ask the same of it share an order with the higher priority
    and all Destinations; where they pick different Series, the first rule counts and the other's Decision says so.
    A Pipeline that is not in `models` is not ordered.
    """
    decisions: list[Decision] = []
    orders: dict[str, JobOrder] = {}
    forwards: dict[str, set[SeriesUID]] = {}
    for rule in rules:
        decision = evaluate(rule, study)
        prior = choose_prior(rule, study, decision)
        decision = tell_prior(decision, prior)
        if decision.outcome is Outcome.MATCH:
            for need in (one for one in rule.needs if one.pipeline in models):
                decision = _place(orders, _order(study, rule, need, decision, models, prior), decision)
            for destination in rule.forward:
                forwards.setdefault(destination, set()).update(matching_series(rule, study))
        decisions.append(decision)
    forwarded = (
        Forward(destination=destination, series_instance_uids=tuple(sorted(forwards[destination])))
        for destination in sorted(forwards)
    )
    return tuple(decisions), tuple(orders.values()), tuple(forwarded)


def find_steerings(rules: Sequence[Rule], decisions: Sequence[Decision]) -> tuple[Steering, ...]:
    """Return what follows from answers that rules asked for and found."""
    matched = {decision.rule for decision in decisions if decision.outcome is Outcome.MATCH}
    return tuple(
        Steering(rule=rule.name, pipeline=pipeline, priority=rule.priority, deliver_to=rule.deliver_to)
        for rule in rules
        if rule.is_steering and rule.name in matched
        for pipeline in rule.asked_of
    )


def tell_faults(routed: Routed, rules: Sequence[Rule], faults: Mapping[str, str]) -> Routed:
    """Return what follows where Pipelines have no model: each Decision that asked for one says why it was not asked."""
    decisions, orders, forwards = routed
    said = {
        rule.name: [
            f"Pipeline {need.pipeline} is off, its model is not to be had: {faults[need.pipeline]}"
            for need in rule.needs
            if need.pipeline in faults
        ]
        for rule in rules
    }
    told = tuple(
        replace(one, reason=" ".join((one.reason, *said[one.rule]))) if one.outcome is Outcome.MATCH else one
        for one in decisions
    )
    return told, orders, forwards


def heed_switches(routed: Routed, rules: Sequence[Rule], modes: Mapping[str, Mode]) -> Routed:
    """Return what follows where Pipelines are switched: nothing is ordered of one that is off.

    One in shadow is served after all others. Each Decision that asked for it says so.
    """
    decisions, orders, forwards = routed
    names = {rule.name: [need.pipeline for need in rule.needs] for rule in rules}
    told = tuple(
        replace(one, reason=" ".join((one.reason, *_say_modes(names[one.rule], modes))))
        if one.outcome is Outcome.MATCH
        else one
        for one in decisions
    )
    heeded = (
        replace(order, is_shadow=True, priority=Priority.LOW) if modes.get(order.pipeline) is Mode.SHADOW else order
        for order in orders
        if modes.get(order.pipeline) is not Mode.OFF
    )
    return told, tuple(heeded), forwards


def _say_modes(pipelines: Sequence[str], modes: Mapping[str, Mode]) -> tuple[str, ...]:
    said = {
        Mode.OFF: "is switched off and was not asked",
        Mode.SHADOW: "is in shadow: its Results are not delivered",
    }
    return tuple(f"Pipeline {name} {said[modes[name]]}." for name in pipelines if modes.get(name) in said)


def _order(
    study: StudyFacts,
    rule: Rule,
    need: Need,
    decision: Decision,
    models: Mapping[str, ModelCard],
    prior: PriorChoice,
) -> JobOrder:
    roles = (*need.required_roles, *need.optional_roles)
    inputs = {role: decision.inputs[role] for role in roles if role in decision.inputs}
    held = (*study.series, prior.series) if prior.series is not None and PRIOR_ROLE in inputs else study.series
    instances = {series.series_instance_uid: series.sop_instance_uids for series in held}
    card, urgency = models[need.pipeline], most_urgent(study.orders)
    return JobOrder(
        study_instance_uid=study.study_instance_uid,
        pipeline=need.pipeline,
        model=card.name,
        model_version=card.version,
        rule=rule.name,
        priority=rule.priority if urgency is None else min(rule.priority, urgency),
        inputs=inputs,
        content=digest_inputs({role: instances[uid] for role, uid in inputs.items()}),
        deliver_to=rule.deliver_to,
        prior_study_instance_uid=prior.study.study_instance_uid if prior.study and PRIOR_ROLE in inputs else None,
        awaits=prior.awaits if PRIOR_ROLE in need.optional_roles else None,
    )


def _place(orders: dict[str, JobOrder], order: JobOrder, decision: Decision) -> Decision:
    """Add `order` to `orders` in place; return `decision`, with a word where an earlier rule went before it."""
    earlier = orders.get(order.pipeline)
    if earlier is None:
        orders[order.pipeline] = order
        return decision
    if earlier.content != order.content:
        said = f"{decision.reason} Pipeline {order.pipeline} is ordered by rule {earlier.rule!r} on other Series."
        return replace(decision, reason=said)
    orders[order.pipeline] = replace(
        earlier,
        priority=min(earlier.priority, order.priority),
        deliver_to=tuple(dict.fromkeys((*earlier.deliver_to, *order.deliver_to))),
    )
    return decision
