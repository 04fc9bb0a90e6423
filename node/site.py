"""What a site has installed and decided: its models, its rules, how long it keeps, and the stations that follow."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from node.assembly import Assembly
from node.domain import completeness
from node.domain.completeness import Evidence, Source
from node.domain.decision import Decision
from node.domain.job import JobOrder
from node.domain.model_version import ModelVersion
from node.domain.retention import Proof
from node.domain.study import StudyFacts
from node.errors import ModelInvalid, PipelineUnknown, RuleInvalid
from node.imaging_orders import ImagingOrders, ask_of_orders
from node.ledger.engine import Engine
from node.ledger.expectations import ExpectationLedger
from node.ledger.imaging_orders import OrderLedger
from node.ledger.jobs import RetryPolicy
from node.ledger.pauses import PauseLedger
from node.ledger.retention import RetentionLedger
from node.ledger.studies import StudyLedger
from node.ledger.switches import SwitchLedger
from node.ledger.work_orders import WorkOrderLedger
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.ordering import Means, Ordering
from node.retention import Gatekeeper, Terms
from node.routing import Routing, heed_switches, route_study
from node.rules.absent import guess_roles, name_inputs
from node.rules.grammar import Roles, parse_rules
from node.rules.rule import Rule
from node.settings.peers import HOLDING
from node.settings.whole import Settings
from node.store.trash import Trash

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSurvey:
    """What is to be had of the models that settings name.

    Attributes
    ----------
    models
        Pipeline name to its model.
    faults
        Pipeline name to why its model is not to be had, and what to do; that Pipeline is off.
    """

    models: Mapping[str, ModelCard]
    faults: Mapping[str, str]


def model_folders(settings: Settings) -> tuple[Path, ...]:
    """Return where models are looked for, the site's own first."""
    return (*settings.model_dirs, SHIPPED_MODELS)


def find_models(settings: Settings) -> Mapping[str, ModelCard]:
    """Return Pipeline name to the model that settings give it; one whose model is not to be had is left out."""
    return survey_models(settings).models


def survey_models(settings: Settings) -> ModelSurvey:
    """Return what is to be had of the models that settings name; one that is not does not stop the others."""
    folders, models, faults = model_folders(settings), {}, {}
    for name, entry in settings.pipelines.items():
        try:
            models[name] = find_model(entry.model, folders)
        except ModelInvalid as exc:
            faults[name] = str(exc)
    return ModelSurvey(models=models, faults=faults)


def model_versions(models: Mapping[str, ModelCard]) -> Mapping[str, ModelVersion]:
    """Return Pipeline name to the version of its model."""
    return {name: ModelVersion(name=card.name, version=card.version) for name, card in models.items()}


def installed_model(settings: Settings, pipeline: str) -> ModelVersion:
    """Return the version of the model that a Pipeline has now.

    Raises
    ------
    PipelineUnknown
        If no Pipeline of that name is configured.
    ModelInvalid
        If its model is absent or its folder incomplete.
    """
    if pipeline not in settings.pipelines:
        raise PipelineUnknown(f"pipeline {pipeline!r} is unknown; known are {', '.join(settings.pipelines)}")
    card = find_model(settings.pipelines[pipeline].model, model_folders(settings))
    return ModelVersion(name=card.name, version=card.version)


def read_rules(settings: Settings, models: Mapping[str, ModelCard]) -> tuple[Rule, ...]:
    """Return the rules of `settings`.

    Parameters
    ----------
    models
        Those of `find_models`. A rule that runs a Pipeline without one is read all the same: it is to say that the
        Pipeline was not asked.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If a rule cannot be evaluated.
    """
    return read_tables(settings, models, settings.rules)


def read_tables(
    settings: Settings, models: Mapping[str, ModelCard], tables: Sequence[Mapping[str, Any]]
) -> tuple[Rule, ...]:
    """Return the rules of `tables`, as `read_rules` those of `settings`.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If a rule cannot be evaluated.
    """
    faulty = settings.pipelines.keys() - models.keys()
    pipelines: Mapping[str, Roles] = {**models, **{name: guess_roles(name, tables) for name in faulty}}
    told = [name_inputs(table, models, faulty) for table in tables]
    peers = names_of_holders(settings)
    rules = parse_rules(told, pipelines=pipelines, destinations=settings.destinations, peers=peers)
    for rule in rules:
        for name in rule.forward:
            if settings.destinations[name].is_told:
                raise RuleInvalid(f"rule {rule.name!r}: forward names {name!r}, which takes no images; use deliver_to")
    return rules


def names_of_holders(settings: Settings) -> Mapping[str, str]:
    """Return each name of whom Studies can be fetched from, and the name of the peer that it means."""
    own = {name: name for name, entry in settings.destinations.items() if entry.transport in HOLDING}
    asked = {
        name: entry.ask or name for name, entry in settings.sources.items() if entry.ask or entry.host or entry.url
    }
    return {**own, **asked}


def prior_sources(settings: Settings, rules: Sequence[Rule]) -> Mapping[str, frozenset[str]]:
    """Return each peer that has priors which `rules` want, and the names by which they name it."""
    holders = names_of_holders(settings)
    wanted = {rule.priors.terms.source for rule in rules if rule.priors is not None}
    return {
        peer: frozenset(name for name in wanted if holders[name] == peer)
        for peer in sorted({holders[name] for name in wanted})
    }


def build_assembly(settings: Settings, engine: Engine) -> Assembly:
    """Return the assembly station."""
    evidence, pauses = ExpectationLedger(engine), PauseLedger(engine)
    return Assembly(evidence, StudyLedger(engine), pauses, completeness_terms(settings))


def completeness_terms(settings: Settings) -> completeness.Terms:
    """Return how much evidence is enough for a Study to count as complete."""
    assembly = settings.assembly
    sources = {
        entry.aet: Source(
            asked=entry.ask or (name if entry.host or entry.url else ""),
            sends_whole_studies=entry.sends == "studies",
            quiet_s=entry.quiet_seconds,
        )
        for name, entry in settings.sources.items()
    }
    return completeness.Terms(
        heeded=frozenset(map(Evidence, assembly.evidence)),
        after_association_s=assembly.quiet_seconds,
        while_open_s=assembly.idle_seconds,
        belief_s=assembly.belief_seconds,
        doubt_s=assembly.doubt_seconds,
        max_age_s=60.0 * assembly.max_age_minutes,
        refuses=assembly.at_max_age == "refuse",
        sources=sources,
    )


def build_routing(settings: Settings, engine: Engine) -> Routing:
    """Return the routing station; a rule that cannot be evaluated is refused here, before anything starts."""
    survey = survey_models(settings)
    for name in survey.faults:
        logger.error("pipeline is off", extra={"pipeline": name, "reason_code": ModelInvalid.code})
    rules = read_rules(settings, survey.models)
    read_modes = SwitchLedger(engine).read_modes
    ledger = StudyLedger(engine, rejects_superseded=settings.results.reject_superseded)
    return Routing(ledger, rules, survey.models, read_modes=read_modes, faults=survey.faults)


def build_ordering(settings: Settings, engine: Engine) -> Ordering:
    """Return the station that makes Jobs of workitems."""
    models = find_models(settings)
    rules = read_rules(settings, models)
    read_modes = SwitchLedger(engine).read_modes

    def conclude(study: StudyFacts, asked: Sequence[Rule]) -> tuple[Sequence[Decision], Sequence[JobOrder]]:
        decisions, orders, _ = heed_switches(route_study(study, asked, models), asked, read_modes())
        return decisions, orders

    means = Means(models=models, rules=rules, destinations=tuple(settings.destinations))
    ledger = WorkOrderLedger(engine, rejects_superseded=settings.results.reject_superseded)
    return Ordering(ledger, StudyLedger(engine).study_facts, means, conclude)


def build_imaging_orders(settings: Settings, engine: Engine) -> ImagingOrders:
    """Return the station that hears of orders."""
    keep = timedelta(days=settings.orders.keep_days)
    return ImagingOrders(OrderLedger(engine), are_asked_for=ask_of_orders(settings.rules), keep=keep)


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return how often a Job may start."""
    return RetryPolicy(max_attempts=settings.dispatch.max_attempts, pause_s=settings.dispatch.retry_seconds)


def build_gatekeeper(settings: Settings, engine: Engine) -> Gatekeeper:
    """Return what lets a Study go when a person says so."""
    return Gatekeeper(RetentionLedger(engine), Trash(settings.store_root), retention_terms(settings).proof)


def retention_terms(settings: Settings) -> Terms:
    """Return how long Studies stay."""
    told = settings.retention
    return Terms(
        proof=Proof(
            keep_until=told.keep_until,
            confirming=frozenset(name for name, entry in settings.destinations.items() if entry.is_asked),
        ),
        studies=timedelta(days=told.studies_days) if told.studies_days else None,
        results=timedelta(days=told.results_days),
        high_percent=told.high_percent or None,
        low_percent=told.low_percent,
    )
