"""Composition root of a worker: the only file that names concrete Pipelines."""

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from node.clock import utc_now
from node.errors import PipelineUnknown
from node.ledger.capabilities import CapabilityLedger
from node.ledger.engine import open_engine
from node.ledger.jobs import JobLedger, RetryPolicy
from node.ledger.retractions import RetractionLedger
from node.manifest import BUNDLE_PIPELINE
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.settings import Settings
from node.store.files import FileStore, Reserve
from node.version import product_version
from workers.heartbeat import LeaseTerms
from workers.inference.faults import prove_device
from workers.memory import keep_freed_memory
from workers.pipelines.base import Pipeline
from workers.post import Post
from workers.retraction import Registry
from workers.runner import JobRunner, WarmPipeline, Workshop
from workers.wishes import SiteWishes

PipelineMaker = Callable[[ModelCard, torch.device], Pipeline[Any]]


# Each imports what it needs by itself: MONAI takes as long to load as torch does, and not every worker needs it.


def _lung_nodules(card: ModelCard, device: torch.device) -> Pipeline[Any]:
    from workers.pipelines.lung_nodules import LungNodules

    return LungNodules(card, device)


def _brain_tumour(card: ModelCard, device: torch.device) -> Pipeline[Any]:
    from workers.pipelines.brain_tumour import BrainTumour

    return BrainTumour(card, device)


def _chest_xray(card: ModelCard, device: torch.device) -> Pipeline[Any]:
    from workers.pipelines.chest_xray import ChestXray

    return ChestXray(card, device)


def _bundle(card: ModelCard, device: torch.device) -> Pipeline[Any]:
    from workers.pipelines.bundle import BundlePipeline

    return BundlePipeline(card, device)


PIPELINES: Mapping[str, PipelineMaker] = {
    "lung_nodules": _lung_nodules,
    "brain_tumour": _brain_tumour,
    "chest_xray": _chest_xray,
    BUNDLE_PIPELINE: _bundle,
}


class WarmShelf:
    """Pipelines by name, each loaded once, at its first Job."""

    def __init__(self, settings: Settings, device: torch.device, makers: Mapping[str, PipelineMaker]) -> None:
        self._settings = settings
        self._device = device
        self._makers = makers
        self._warm: dict[str, WarmPipeline] = {}

    def __call__(self, name: str) -> WarmPipeline:
        """Return the Pipeline called `name`, loaded.

        Raises
        ------
        PipelineUnknown
            If settings or code know no such Pipeline.
        ModelInvalid
            If its model is absent or damaged.
        """
        if name not in self._warm:
            self._warm[name] = self._load(name)
        return self._warm[name]

    def _load(self, name: str) -> WarmPipeline:
        return load_pipeline(_find_card(self._settings, name), self._device, name=name, makers=self._makers)


def load_pipeline(
    card: ModelCard, device: torch.device, *, name: str = "", makers: Mapping[str, PipelineMaker] = PIPELINES
) -> WarmPipeline:
    """Return the Pipeline of a model, loaded.

    Parameters
    ----------
    name
        What settings call it; empty: as its model does.

    Raises
    ------
    PipelineUnknown
        If code knows no such Pipeline.
    ModelInvalid
        If the model is absent or damaged.
    """
    # A site may give a Pipeline a name of its own; then its model says which code that is.
    maker = makers.get(name if card.bundle is None else BUNDLE_PIPELINE) or makers.get(card.pipeline)
    if maker is None:
        raise _unknown(name or card.pipeline)
    return WarmPipeline(pipeline=maker(card, device), card=card)


def build_runner(
    settings: Settings,
    post: Post,
    *,
    dates_by_inputs: bool = False,
    makers: Mapping[str, PipelineMaker] = PIPELINES,
) -> JobRunner:
    """Return what runs Jobs in this process; opens the ledger, loads no model yet.

    Parameters
    ----------
    dates_by_inputs
        See `workers.runner.Workshop`.
    makers
        Name of each Pipeline to what loads it.

    Raises
    ------
    DeviceFailed
        If the device cannot be used.
    """
    device = torch.device(post.device)
    if device.type == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // post.processes))
    keep_freed_memory()
    prove_device(device)
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    dispatch = settings.dispatch
    workshop = Workshop(
        ledger=JobLedger(engine),
        store=open_store(settings),
        warm=WarmShelf(settings, device, makers),
        time_limit_s=partial(_time_limit_s, settings),
        wishes=SiteWishes(settings, CapabilityLedger(engine)),
        terms=LeaseTerms(
            lease_s=dispatch.lease_seconds,
            heartbeat_s=dispatch.heartbeat_seconds,
            retry=RetryPolicy(max_attempts=dispatch.max_attempts, pause_s=dispatch.retry_seconds),
            # SIGALRM, for which nobody has a handler here, ends the process from without.
            alarm=partial(signal.setitimer, signal.ITIMER_REAL),
        ),
        owner=post.name_process(os.getpid()),
        node_aet=settings.node.aet,
        software_version=product_version(),
        rejects_superseded=settings.results.reject_superseded,
        dates_by_inputs=dates_by_inputs,
        clock=utc_now,
    )
    return JobRunner(workshop)


def build_registry(settings: Settings) -> Registry:
    """Return what retractions work with; loads no weights."""
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    return Registry(
        retractions=RetractionLedger(engine),
        jobs=JobLedger(engine),
        store=open_store(settings),
        card=partial(_find_card, settings),
        wishes=SiteWishes(settings, CapabilityLedger(engine)),
        node_aet=settings.node.aet,
        software_version=product_version(),
        clock=utc_now,
    )


def _time_limit_s(settings: Settings, name: str) -> float:
    if name not in settings.pipelines:
        raise _unknown(name)
    return settings.pipelines[name].time_limit_s


def _find_card(settings: Settings, name: str) -> ModelCard:
    if name not in settings.pipelines:
        raise _unknown(name)
    return find_model(settings.pipelines[name].model, (*settings.model_dirs, SHIPPED_MODELS))


def _unknown(name: str) -> PipelineUnknown:
    return PipelineUnknown(f"pipeline {name!r} is unknown to this worker; it knows {', '.join(PIPELINES)}")


def open_store(settings: Settings) -> FileStore:
    """Return the store of `settings`."""
    return FileStore(
        Path(settings.store_root),
        Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent),
    )
