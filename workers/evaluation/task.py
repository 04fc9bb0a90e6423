"""What is measured: the port of the three tasks, and which of them a model is for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from node.errors import TruthInvalid
from node.manifest import BundleKind
from node.models import ModelCard
from workers.evaluation import classification, detection, segmentation
from workers.evaluation.measure import Row, Section
from workers.evaluation.order import Order
from workers.evaluation.truth import Truth
from workers.pipelines.base import Analysis


class Task(Protocol):
    """One kind of question; each has rows of its own kind."""

    name: str

    def judge(self, truth: Truth, analysis: Analysis) -> Row | None:
        """Return what an answer is worth; None where the truth says nothing of it."""
        ...

    def picture(self, truth: Truth, analysis: Analysis) -> bytes | None:
        """Return the answer beside the truth as PNG; None where there is nothing to see."""
        ...

    def tabulate(self, rows: Sequence[Any]) -> tuple[Section, ...]:
        """Return the figures of rows that `judge` returned."""
        ...


TASKS: Mapping[str, Callable[[Order], Task]] = {
    segmentation.NAME: segmentation.Segmentation,
    detection.NAME: detection.Detection,
    classification.NAME: classification.Classification,
}
OF_PIPELINES: Mapping[str, str] = {
    "lung_nodules": detection.NAME,
    "brain_tumour": segmentation.NAME,
    "chest_xray": classification.NAME,
}
OF_BUNDLES: Mapping[BundleKind, str] = {
    BundleKind.SEGMENTATION: segmentation.NAME,
    BundleKind.DETECTION: detection.NAME,
    BundleKind.CLASSIFICATION: classification.NAME,
}


def choose_task(order: Order, card: ModelCard) -> Task:
    """Return what a model is measured at: what the order says, else what the model is for.

    Raises
    ------
    TruthInvalid
        If neither is known.
    """
    name = order.task or (OF_PIPELINES.get(card.pipeline, "") if card.bundle is None else OF_BUNDLES[card.bundle.kind])
    if name not in TASKS:
        raise TruthInvalid(
            f"model {card.name}: what it is to be measured at is not known; give --task {'|'.join(TASKS)}"
        )
    return TASKS[name](order)
