"""The station that makes Jobs of workitems that ask for one of our Pipelines."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from node.domain.decision import Decision
from node.domain.job import JobOrder
from node.domain.study import StudyFacts
from node.domain.uids import StudyUID
from node.errors import InputMissing, PipelineUnknown
from node.ledger.work_orders import WorkOrder
from node.models import ModelCard
from node.rules.rule import AllOf, Need, Rule

logger = logging.getLogger(__name__)

# Returns what follows for a Study from rules: Decisions, and orders where they match.
Conclude = Callable[[StudyFacts, Sequence[Rule]], tuple[Sequence[Decision], Sequence[JobOrder]]]


class OrderLedger(Protocol):
    """What the station asks of the ledger; each operation is one transaction."""

    def waiting_orders(self) -> Sequence[WorkOrder]:
        """Return orders whose Study is here and complete."""
        ...

    def take_order(self, work: WorkOrder, order: JobOrder, *, revision: int, now: datetime) -> bool:
        """Commit the Job; return whether the Study is still what it was."""
        ...

    def refuse_order(self, work: WorkOrder, *, code: str, reason: str, now: datetime) -> None:
        """Commit that there will be none, and why."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a site has to answer orders with.

    Attributes
    ----------
    models
        Pipeline name to its model.
    rules
        Those of the site: they say which Series a Pipeline reads, and where its Results go.
    destinations
        Names of all Destinations: who gets the Results of a Pipeline that no rule names.
    """

    models: Mapping[str, ModelCard]
    rules: Sequence[Rule]
    destinations: tuple[str, ...]


class Ordering:
    """Moves workitems that are orders from waiting to a Job, or to CANCELED."""

    def __init__(
        self, ledger: OrderLedger, read_study: Callable[[StudyUID], StudyFacts], means: Means, conclude: Conclude
    ) -> None:
        self._ledger = ledger
        self._read_study = read_study
        self._means = means
        self._conclude = conclude

    def tick(self, now: datetime) -> datetime | None:
        """Take the orders that wait; return `now` when one is to be looked at anew, else None."""
        are_taken = [self._take(work, now) for work in self._ledger.waiting_orders()]
        return None if all(are_taken) else now

    def _take(self, work: WorkOrder, now: datetime) -> bool:
        study = self._read_study(work.study_instance_uid)
        rule = self._rule_of(work)
        if rule is None:
            reason = f"pipeline {work.pipeline} has no model here"
            self._ledger.refuse_order(work, code=PipelineUnknown.code, reason=reason, now=now)
            return True
        # Whoever orders it by name wants it, prior or not.
        decisions, orders = self._conclude(replace(_restrict(study, work), is_prior=False), [rule])
        if not orders:
            reason = " ".join(one.reason for one in decisions)
            self._ledger.refuse_order(work, code=InputMissing.code, reason=reason, now=now)
            return True
        is_taken = self._ledger.take_order(work, orders[0], revision=study.revision, now=now)
        if is_taken:
            logger.info("workitem ordered", extra={"study_uid": work.study_instance_uid})
        return is_taken

    def _rule_of(self, work: WorkOrder) -> Rule | None:
        """Return what is asked: which Series, as the site's own rule for the Pipeline has it, unless they are named."""
        card = self._means.models.get(work.pipeline)
        if card is None:
            return None
        own = [one for one in self._means.rules if any(need.pipeline == work.pipeline for need in one.needs)]
        is_plain = len(card.required_roles) == 1 and bool(work.series_instance_uids)
        deliver_to = tuple(dict.fromkeys(name for one in own for name in one.deliver_to))
        need = Need(pipeline=work.pipeline, required_roles=card.required_roles, optional_roles=card.optional_roles)
        return Rule(
            name=f"by order of {work.ordered_by}",
            when=AllOf(parts=()) if is_plain or not own else own[0].when,
            needs=(need,),
            forward=(),
            inputs={} if is_plain or not own else own[0].inputs,
            priority=work.priority,
            deliver_to=deliver_to or self._means.destinations,
            priors=own[0].priors if own else None,
        )


def _restrict(study: StudyFacts, work: WorkOrder) -> StudyFacts:
    """Return a Study as if it had only the Series that an order names; all where it names none."""
    if not work.series_instance_uids:
        return study
    named = tuple(one for one in study.series if one.series_instance_uid in work.series_instance_uids)
    return replace(study, series=named)
