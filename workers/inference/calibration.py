"""Probabilities that mean what they say: temperature scaling of a classifier's score."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

# Beyond these a temperature says that there is nothing to learn from, not how sure the network may be.
LEAST, MOST = 0.05, 20.0
ALMOST = 1e-12  # a probability of 0 or 1 has no finite score


def soften(scores: Tensor, *, temperature: float) -> Tensor:
    """Return the probability of each score.

    Parameters
    ----------
    scores
        Logits.
    temperature
        > 0; above 1 the network is made less sure than it feels, below 1 surer. No order is changed.
    """
    return torch.sigmoid(scores / temperature)


def fit_temperature(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the temperature under which the labels are least surprising, 0.05 to 20.

    Parameters
    ----------
    scores
        (films,) logits of films that were not learned from.
    labels
        (films,) 0 or 1.
    """
    signs = np.where(labels == 1, 1.0, -1.0)

    def surprise(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signs * scores / np.exp(log_temperature)).mean())

    found = minimize_scalar(surprise, bounds=(np.log(LEAST), np.log(MOST)), method="bounded")
    return float(np.exp(found.x))


def resoften(probability: float, *, temperature: float) -> float:
    """Return what `soften` gives where only the probability (0..1) of the score is known."""
    score = torch.logit(torch.tensor(probability, dtype=torch.float64), eps=ALMOST)
    return float(soften(score, temperature=temperature))
