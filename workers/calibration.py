"""Calibration: the Layout in which each network of a model is asked on this device, proven on drawn Studies."""

import copy
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from node.clock import utc_now
from node.domain.finding import Finding
from node.errors import Broken, ModelOutputInvalid, NodeError, Rejected
from node.layouts import PLAIN, Calibration, Chosen, Layout, LayoutBook, Memory, Precision, Trial
from node.models import ModelCard
from node.settings.whole import Settings
from workers.app import find_card, load_pipeline, open_device
from workers.inference.device import computes_bfloat16, find_grounds
from workers.inference.faults import named_faults
from workers.inference.layout import lay_out, networks_of
from workers.pipelines.base import Analysis
from workers.post import Post
from workers.runner import WarmPipeline
from workers.samples import SMALL, Inputs, draw_inputs

logger = logging.getLogger(__name__)

# Seed of each drawn Study, and whether there is nothing to find in it.
SAMPLES = ((3, False), (4, True), (6, False), (8, True))
# Less than a tenth is not worth another rounding.
LEAST_TIMES_FASTER = 1.1
# Of Dice and of probabilities; docs/decisions/0058.
MOST_DIFFERENCE = 0.005
# Of one network: enough to time.
MAX_CALLS = 4
ROUNDS = 7

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What the trials of one model have in common."""

    warm: WarmPipeline
    prepared: Sequence[Any]
    plain: Sequence[Analysis]
    device: torch.device
    rounds: int


def calibrate_models(settings: Settings, post: Post, *, models: Collection[str], only_missing: bool) -> int:
    """Calibrate the models of Pipelines, one after the other; returns how many could not be.

    What is wrong with one is told on standard error, and is not in the way of the others.

    Parameters
    ----------
    models
        Their names; empty: those of all Pipelines.
    only_missing
        Whether a model is passed over that was calibrated on this device before.
    """
    device, book = open_device(post), LayoutBook(settings.layouts_dir)
    failures = 0
    for name in _choose_pipelines(settings, models):
        try:
            card = find_card(settings, name)
            if not only_missing or book.find(card.name, find_grounds(card, device)) is None:
                with named_faults():
                    warm = load_pipeline(card, device, name=name)
                    found = calibrate(warm, device, studies=draw_studies(card), rounds=ROUNDS)
                kept = book.keep(found, replaces=not only_missing)
                logger.info("model calibrated", extra={"pipeline": name, "step": kept.words or str(PLAIN)})
        except NodeError as exc:
            failures += 1
            sys.stderr.write(f"radnode worker: {name}: {exc.code}: {exc}\n")
        except Exception:
            # The outer edge of one calibration: a fault in the code of a model costs its own Layout.
            failures += 1
            logger.exception("model not calibrated", extra={"pipeline": name, "reason_code": Broken.code})
    return failures


def _choose_pipelines(settings: Settings, models: Collection[str]) -> Iterator[str]:
    """Yield one Pipeline for each model; two that share it share its Layouts."""
    seen = set()
    for name, entry in settings.pipelines.items():
        if entry.model not in seen and (not models or entry.model in models):
            seen.add(entry.model)
            yield name


def calibrate(
    warm: WarmPipeline,
    device: torch.device,
    *,
    studies: Iterable[Inputs],
    rounds: int,
    tried: Sequence[Layout] | None = None,
) -> Calibration:
    """Return the Layout of each network of a model; the Pipeline is laid out by them when this returns.

    A Layout is taken where it is faster by a tenth at least, in the median over rounds in turn, and where no answer to
    the Studies differs by `MOST_DIFFERENCE` or more: 1 - Dice of each Segment, each probability, and the mean of heat.
    A model that finds nothing in any of them stays plain: there is nothing to compare.

    Parameters
    ----------
    warm
        All its networks plain.
    rounds
        How often each Layout is timed, >= 1.
    tried
        Layouts beside the plain one; None: all for which the device has instructions.
    """
    if tried is None:
        tried = list_layouts(has_bfloat16=computes_bfloat16(device))
    prepared = list(_read_studies(warm, studies))
    networks = networks_of(warm.pipeline)
    chosen: dict[str, Chosen] = {}
    if prepared and networks:
        with _record_calls(networks) as calls:
            plain = [warm.pipeline.analyze(one) for one in prepared]
        bench = _Bench(warm=warm, prepared=prepared, plain=plain, device=device, rounds=rounds)
        if not any(map(_tells_anything, plain)):
            tried = ()
        chosen = {name: _choose(bench, network, calls[name], tried) for name, network in networks.items()}
    return Calibration(
        model=warm.card.name,
        version=warm.card.version,
        grounds=find_grounds(warm.card, device),
        networks=chosen,
        samples=len(prepared),
        at=utc_now(),
    )


def list_layouts(*, has_bfloat16: bool) -> tuple[Layout, ...]:
    """Return the Layouts that are tried beside the plain one."""
    precisions = tuple(Precision) if has_bfloat16 else (Precision.FLOAT32,)
    layouts = (Layout(memory=memory, precision=precision) for precision in precisions for memory in Memory)
    return tuple(layout for layout in layouts if layout != PLAIN)


def measure_difference(one: Analysis, other: Analysis) -> float:
    """Return how far two answers to one question are apart, 0..1; infinite where findings came, went or turned."""
    pairs = list(zip(_in_order(one), _in_order(other), strict=False))
    if len(one.findings) != len(other.findings) or any(a.presence is not b.presence for a, b in pairs):
        return inf
    chances = (abs((a.confidence or 0.0) - (b.confidence or 0.0)) for a, b in pairs)
    return max(*chances, _compare_masks(one, other, pairs), _compare_heat(one, other), 0.0)


def draw_studies(card: ModelCard) -> Iterator[Inputs]:
    """Yield the drawn Studies that a model is calibrated with; none where nothing is drawn of its Modality."""
    for seed, healthy in SAMPLES:
        inputs = draw_inputs(card, seed=seed, healthy=healthy, size=SMALL)
        if inputs is not None:
            yield inputs


def _read_studies(warm: WarmPipeline, studies: Iterable[Inputs]) -> Iterator[Any]:
    """Yield what the Pipeline makes of each Study that it reads."""
    for inputs in studies:
        try:
            yield warm.pipeline.read(inputs)
        except Rejected as exc:
            logger.info("drawn study refused", extra={"reason_code": exc.code})


def _tells_anything(analysis: Analysis) -> bool:
    return bool(analysis.findings) or analysis.mask is not None or analysis.heat is not None


def _choose(bench: _Bench, network: nn.Module, calls: Sequence[Call], tried: Sequence[Layout]) -> Chosen:
    """Return the fastest Layout that answers alike, and lay the network out by it."""
    if not calls or not tried:
        return Chosen(layout=PLAIN, trials=())
    ratios = _time_layouts(bench, network, calls, tried)
    trials, best = [], PLAIN
    for layout, times_faster in sorted(zip(tried, ratios, strict=True), key=lambda pair: -pair[1]):
        difference = None
        if best == PLAIN and times_faster >= LEAST_TIMES_FASTER:
            lay_out(network, layout, bench.device)
            difference = _differ(bench)
            best = layout if difference < MOST_DIFFERENCE else PLAIN
        trials.append(Trial(layout=layout, times_faster=round(times_faster, 2), difference=difference))
    lay_out(network, best, bench.device)
    return Chosen(layout=best, trials=tuple(trials))


def _differ(bench: _Bench) -> float:
    try:
        pairs = zip(bench.plain, map(bench.warm.pipeline.analyze, bench.prepared), strict=True)
        return max(measure_difference(plain, other) for plain, other in pairs)
    except ModelOutputInvalid:
        return inf


@contextmanager
def _record_calls(networks: Mapping[str, nn.Module]) -> Iterator[Mapping[str, Sequence[Call]]]:
    """Note what the networks are asked while the block runs, the first few calls of each."""
    calls: dict[str, list[Call]] = {name: [] for name in networks}

    def listen(name: str) -> Callable[..., None]:
        def note(_network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if len(calls[name]) < MAX_CALLS:
                calls[name].append((tuple(map(_keep, inputs)), {key: _keep(one) for key, one in named.items()}))

        return note

    hooks = [network.register_forward_pre_hook(listen(name), with_kwargs=True) for name, network in networks.items()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _keep(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _time_layouts(
    bench: _Bench, network: nn.Module, calls: Sequence[Call], tried: Sequence[Layout]
) -> tuple[float, ...]:
    """Return how many times faster than the plain network each Layout is: the median over rounds in turn."""
    rivals = [copy.deepcopy(network) for _ in (PLAIN, *tried)]
    for rival, layout in zip(rivals, (PLAIN, *tried), strict=True):
        lay_out(rival, layout, bench.device)
    seconds: list[list[float]] = [[] for _ in rivals]
    with torch.inference_mode():
        for number in range(bench.rounds + 1):
            for rival, kept in zip(rivals, seconds, strict=True):
                taken = _time_calls(rival, calls, bench.device)
                # The first round prepares kernels, and does not count.
                if number:
                    kept.append(taken)
    plain, *others = seconds
    return tuple(median(a / b for a, b in zip(plain, other, strict=True)) for other in others)


def _time_calls(network: nn.Module, calls: Sequence[Call], device: torch.device) -> float:
    """Return seconds: of this process on a CPU, which it shares with others; passed by on an accelerator."""
    is_cpu = device.type == "cpu"
    watch = time.process_time if is_cpu else time.perf_counter
    begun = watch()
    for inputs, named in calls:
        network(*inputs, **named)
    if not is_cpu:
        torch.accelerator.synchronize(device)
    return watch() - begun


def _in_order(analysis: Analysis) -> Sequence[Finding]:
    """Return findings by their place: two that are equally certain may change theirs in the list."""
    return sorted(analysis.findings, key=lambda finding: (finding.code.value, finding.center_mm or ()))


def _compare_masks(one: Analysis, other: Analysis, pairs: Sequence[tuple[Finding, Finding]]) -> float:
    """Return 1 - Dice of the Segment that differs most; all together are one, too."""
    if one.mask is None or other.mask is None:
        return 0.0 if one.mask is other.mask else inf
    segments = [
        _miss_dice(one.mask == a.segment_number, other.mask == b.segment_number)
        for a, b in pairs
        if a.segment_number is not None and b.segment_number is not None
    ]
    return max([_miss_dice(one.mask > 0, other.mask > 0), *segments])


def _miss_dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    marked = int(first.sum()) + int(second.sum())
    return 1.0 - 2.0 * int((first & second).sum()) / marked if marked else 0.0


def _compare_heat(one: Analysis, other: Analysis) -> float:
    if one.heat is None or other.heat is None:
        return 0.0 if one.heat is other.heat else inf
    return float(np.abs(one.heat - other.heat).mean())
