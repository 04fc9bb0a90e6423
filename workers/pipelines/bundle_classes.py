"""What a classifying bundle answers: a probability for each label of a radiograph."""

from typing import Any

import numpy as np
import torch

from node.domain.finding import Finding, Presence
from node.errors import ModelOutputInvalid
from node.models import ModelCard
from workers.inference.calibration import resoften
from workers.pipelines.base import Analysis
from workers.radiograph import Radiograph

DEFAULT_THRESHOLD = 0.5


def read_classes(answer: Any, card: ModelCard, radiograph: Radiograph, *, notes: tuple[str, ...]) -> Analysis:
    """Return a Finding for each label, present or not.

    Parameters
    ----------
    answer
        Probabilities; the value of a label is its place.

    Raises
    ------
    ModelOutputInvalid
        If these are no probabilities, or there is none for a label.
    """
    if not isinstance(answer, torch.Tensor):
        raise ModelOutputInvalid(f"the bundle {card.name} answers with no tensor; see [bundle] output in model.toml")
    chances = np.asarray(answer.detach().cpu(), np.float64).ravel()
    if not np.isfinite(chances).all() or chances.min() < 0.0 or chances.max() > 1.0:
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers with {chances.min():.3g} to {chances.max():.3g} where probabilities of 0 "
            "to 1 are due; its postprocessing lacks Activationsd"
        )
    thresholds = card.numbers.get("thresholds", {})
    threshold = float(thresholds.get("finding", DEFAULT_THRESHOLD))
    band = float(thresholds.get("undetermined_band", 0.0))
    temperature = float(card.numbers.get("calibration", {}).get("temperature", 1.0))
    findings = []
    for label in card.labels:
        if label.value >= len(chances):
            raise ModelOutputInvalid(
                f"the bundle {card.name} answers {len(chances)} numbers, and label {label.name} is number {label.value}"
            )
        chance = resoften(float(chances[label.value]), temperature=temperature)
        findings.append(
            Finding(
                label=label.name,
                code=label.code,
                presence=_decide(chance, threshold, band),
                confidence=chance,
                site=label.site,
            )
        )
    findings.sort(key=lambda finding: -(finding.confidence or 0.0))
    return Analysis(findings=tuple(findings), radiograph=radiograph, threshold=threshold, notes=notes)


def _decide(chance: float, threshold: float, band: float) -> Presence:
    if abs(chance - threshold) < band:
        return Presence.UNDETERMINED
    return Presence.PRESENT if chance >= threshold else Presence.ABSENT
