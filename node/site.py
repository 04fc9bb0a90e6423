"""What a site has installed and decided: its models, its rules, and the stations that follow them."""

from collections.abc import Mapping
from pathlib import Path

from node.assembly import Assembly, QuietTime
from node.domain.model_version import ModelVersion
from node.errors import PipelineUnknown
from node.ledger.engine import Engine
from node.ledger.jobs import RetryPolicy
from node.ledger.studies import StudyLedger
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.routing import Routing
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.settings import Settings


def model_folders(settings: Settings) -> tuple[Path, ...]:
    """Return where models are looked for, the site's own first."""
    return (*settings.models.dirs, SHIPPED_MODELS)


def find_models(settings: Settings) -> Mapping[str, ModelCard]:
    """Return Pipeline name to the model that settings give it.

    Raises
    ------
    ModelInvalid
        If a model is absent or its folder incomplete.
    """
    folders = model_folders(settings)
    return {name: find_model(entry.model, folders) for name, entry in settings.pipelines.items()}


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

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If a rule cannot be evaluated.
    """
    return parse_rules(settings.rules, pipelines=models, destinations=settings.destinations)


def build_assembly(settings: Settings, engine: Engine) -> Assembly:
    """Return the assembly station."""
    assembly = settings.assembly
    heeds_ends = "association-end" in assembly.evidence
    quiet = QuietTime(
        after_association_s=assembly.quiet_seconds if heeds_ends else assembly.idle_seconds,
        while_open_s=assembly.idle_seconds,
    )
    return Assembly(StudyLedger(engine), quiet)


def build_routing(settings: Settings, engine: Engine) -> Routing:
    """Return the routing station; a rule that cannot be evaluated is refused here, before anything starts."""
    models = find_models(settings)
    return Routing(StudyLedger(engine), read_rules(settings, models), models)


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return how often a Job may start."""
    return RetryPolicy(max_attempts=settings.dispatch.max_attempts, pause_s=settings.dispatch.retry_seconds)
