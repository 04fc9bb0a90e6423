"""The model is asked about one case after the other, as a Job asks it, and each answer is held against the truth."""

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch

from node.errors import DeviceFailed, NodeError
from node.models import ModelCard, read_model
from workers.app import load_pipeline
from workers.evaluation.case import Case, Refusal
from workers.evaluation.measure import Row
from workers.evaluation.order import Order
from workers.evaluation.task import Task
from workers.evaluation.truth import Truth
from workers.evaluation.truth_book import TruthBook
from workers.inference.faults import named_faults
from workers.pipelines.base import Analysis
from workers.runner import WarmPipeline

NO_TRUTH = Refusal(code="no-truth", text="The truth says nothing of this case that could be measured.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one model made of one case.

    Attributes
    ----------
    row
        None where it was refused.
    seconds
        Reading the files, the Pipeline's preparation and the network.
    """

    row: Row | None
    refusal: Refusal | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCase:
    """A case with the outcome of each model; `case` no longer holds what it could be read by."""

    case: Case
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """One of the worst answers of the first model, as PNG."""

    badness: float
    case: Case
    row: Row
    picture: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """All that was asked.

    Attributes
    ----------
    without_truth
        Cases of which nothing is known; they count for nothing.
    worst
        The worst first.
    """

    asked: tuple[AskedCase, ...]
    without_truth: tuple[Case, ...]
    worst: tuple[Worst, ...]


def load_models(order: Order) -> tuple[WarmPipeline, ...]:
    """Return the models of an order, loaded, with the thresholds that it puts in their place.

    Raises
    ------
    ModelInvalid
        If a model is absent or damaged, or has no such threshold.
    """
    return tuple(
        load_pipeline(set_thresholds(read_model(folder), order), torch.device("cpu")) for folder in order.models
    )


def set_thresholds(card: ModelCard, order: Order) -> ModelCard:
    """Return the card with other thresholds, in memory only."""
    thresholds = {**card.numbers.get("thresholds", {}), **order.thresholds}
    return replace(card, numbers={**card.numbers, "thresholds": thresholds}) if order.thresholds else card


class _Gallery:
    """Keeps the few worst pictures of many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, Worst]] = []
        self._numbers = count()

    def offer(self, case: Case, row: Row, draw: Callable[[], bytes | None]) -> None:
        is_full = len(self._heap) >= self._size
        least = self._heap[0][0] if is_full and self._heap else 0.0
        if not self._size or not row.badness > least:
            return
        picture = draw()
        if picture is None:
            return
        entry = (row.badness, next(self._numbers), Worst(badness=row.badness, case=case, row=row, picture=picture))
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def best_of(self) -> tuple[Worst, ...]:
        return tuple(entry[2] for entry in sorted(self._heap, key=lambda entry: (-entry[0], entry[1])))


def ask_all(
    cases: Iterable[Case],
    models: Sequence[WarmPipeline],
    task: Task,
    book: TruthBook,
    order: Order,
    *,
    tell: Callable[[int], None],
) -> Harvest:
    """Ask every model about every case whose truth is known; one case is in memory at a time.

    Parameters
    ----------
    tell
        Is told after each case how many were asked.

    Raises
    ------
    DeviceFailed, TruthInvalid
        What goes wrong with the device or the truth ends the measurement; what goes wrong with a case is its refusal.
    """
    asked: list[AskedCase] = []
    unknown: list[Case] = []
    gallery = _Gallery(order.pictures)
    for case in cases:
        truth = book.find(case)
        outcomes = () if truth is None else _ask(case, truth, models, task, order, gallery)
        bare = replace(case, read=dict, truth=None)
        if any(outcome.refusal is NO_TRUTH for outcome in outcomes) or truth is None:
            unknown.append(bare)
        else:
            columns = {**case.columns, **truth.columns}
            asked.append(AskedCase(case=replace(bare, columns=columns), outcomes=outcomes))
        tell(len(asked))
    return Harvest(asked=tuple(asked), without_truth=tuple(unknown), worst=gallery.best_of())


def _ask(
    case: Case, truth: Truth, models: Sequence[WarmPipeline], task: Task, order: Order, gallery: _Gallery
) -> tuple[Outcome, ...]:
    if case.refusal is not None:
        return tuple(Outcome(row=None, refusal=case.refusal, seconds=0.0) for _ in models)
    outcomes = []
    for number, warm in enumerate(models):
        begun = time.perf_counter()
        try:
            analysis = _answer(case, warm, order)
        except DeviceFailed:
            raise
        except NodeError as exc:
            refusal = Refusal(code=exc.code, text=str(exc))
            outcomes.append(Outcome(row=None, refusal=refusal, seconds=time.perf_counter() - begun))
            continue
        seconds = time.perf_counter() - begun
        row = task.judge(truth, analysis)
        outcomes.append(Outcome(row=row, refusal=NO_TRUTH if row is None else None, seconds=seconds))
        if row is not None and number == 0:
            bare = replace(case, read=dict, truth=None)
            gallery.offer(bare, row, partial(task.picture, truth, analysis))
    return tuple(outcomes)


def _answer(case: Case, warm: WarmPipeline, order: Order) -> Analysis:
    inputs = {role: found for role, found in case.read().items() if not order.roles or role in order.roles}
    with named_faults():
        return warm.pipeline.analyze(warm.pipeline.read(inputs))
