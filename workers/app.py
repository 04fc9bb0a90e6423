"""Composition root of a worker: the only file that names concrete Pipelines."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from node.clock import utc_now
from node.domain.job import Priority
from node.domain.switch import Mode
from node.errors import PipelineUnknown
from node.layouts import LayoutBook
from node.ledger.capabilities import CapabilityLedger
from node.ledger.engine import open_engine
from node.ledger.jobs import JobLedger, RetryPolicy
from node.ledger.retractions import RetractionLedger
from node.ledger.switches import SwitchLedger
from node.manifest import BUNDLE_PIPELINE
from node.models import SHIPPED_MODELS, ModelCard, find_model
from node.settings.whole import Settings
from node.store.files import FileStore, Reserve
from node.version import product_version
from workers.decoding.pool import DecoderLimits, DecoderPool
from workers.heartbeat import LeaseTerms
from workers.inference.device import find_grounds
from workers.inference.faults import prove_device
from workers.inference.layout import lay_out, networks_of
from workers.inference.scale import DeviceScale
from workers.inference.turn import CudaMemory, Turns
from workers.memory import keep_freed_memory
from workers.pipelines.base import Pipeline
from workers.post import Post
from workers.retraction import Registry
from workers.runner import JobRunner, WarmPipeline, Workshop
from workers.shelf import WarmShelf
from workers.warming import Tries, warm_up
from workers.wishes import SiteWishes

PipelineMaker = Callable[[ModelCard, torch.device], Pipeline[Any]]

# Of one process of a worker; more would wait for the disk, and each takes 75 MB.
MOST_DECODERS = 8
ROUNDED = "The network computed in bfloat16, which on trial Studies answered as float32 did."


# Each imports what it needs by itself: MONAI takes as long to load as torch does, and only bundles need it.


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


def arrange_pipeline(warm: WarmPipeline, book: LayoutBook, device: torch.device) -> WarmPipeline:
    """Return a Pipeline whose networks are laid out as a calibration on this device chose, or plain."""
    found = book.find(warm.card.name, find_grounds(warm.card, device))
    if found is None:
        return warm
    for name, network in networks_of(warm.pipeline).items():
        if name in found.networks:
            lay_out(network, found.networks[name].layout, device)
    return replace(warm, layout=found.words, notes=(ROUNDED,) if found.is_rounded else ())


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
    device = open_device(post)
    keep_freed_memory()
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    dispatch = settings.dispatch
    shelf = open_shelf(settings, post, makers=makers)
    turns = _open_turns(post, device)
    workshop = Workshop(
        ledger=JobLedger(engine),
        store=open_store(settings),
        warm=shelf,
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
        turns=turns,
        decoders=DecoderPool(DecoderLimits(processes=min(post.cores_each, MOST_DECODERS))),
    )
    if post.trials is not None:
        modes = SwitchLedger(engine).read_modes()
        enabled = [name for name in settings.pipelines if modes.get(name) is not Mode.OFF]
        tries = Tries(
            notes=post.trials,
            node_aet=settings.node.aet,
            turns=partial(_turn_before_jobs, turns),
            alarm=workshop.terms.alarm,
        )
        warm_up(shelf, enabled, tries)
    return JobRunner(workshop)


def open_device(post: Post) -> torch.device:
    """Return the device of a worker after it has computed something; torch takes no more cores than are its own.

    Raises
    ------
    DeviceFailed
        If the device cannot be used.
    """
    device = torch.device(post.device)
    if device.type == "cpu":
        torch.set_num_threads(post.cores_each)
    prove_device(device)
    return device


def open_shelf(settings: Settings, post: Post, *, makers: Mapping[str, PipelineMaker] = PIPELINES) -> WarmShelf:
    """Return the shelf of one process, on which nothing stands yet."""
    device = torch.device(post.device)
    book = LayoutBook(settings.layouts_dir)

    def load(name: str) -> WarmPipeline:
        warm = load_pipeline(find_card(settings, name), device, name=name, makers=makers)
        return arrange_pipeline(warm, book, device)

    return WarmShelf(load, scale=DeviceScale(device), room_bytes=settings.models.memory_bytes // post.processes)


def build_registry(settings: Settings) -> Registry:
    """Return what retractions work with; loads no weights."""
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    return Registry(
        retractions=RetractionLedger(engine),
        jobs=JobLedger(engine),
        store=open_store(settings),
        card=partial(find_card, settings),
        wishes=SiteWishes(settings, CapabilityLedger(engine)),
        node_aet=settings.node.aet,
        software_version=product_version(),
        clock=utc_now,
    )


def _open_turns(post: Post, device: torch.device) -> Turns | None:
    if post.gate is None:
        return None
    return Turns(post.gate, CudaMemory(device) if device.type == "cuda" else None)


def _turn_before_jobs(turns: Turns | None, pipeline: str) -> AbstractContextManager[None]:
    return nullcontext() if turns is None else turns.of(pipeline, Priority.LOW)


def _time_limit_s(settings: Settings, name: str) -> float:
    if name not in settings.pipelines:
        raise _unknown(name)
    return settings.pipelines[name].time_limit_s


def find_card(settings: Settings, name: str) -> ModelCard:
    """Return the model of a Pipeline.

    Raises
    ------
    PipelineUnknown
        If settings have none of that name.
    ModelInvalid
        If the model is absent or incomplete.
    """
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
