"""A temperature makes probabilities mean what they say."""

import numpy as np
import pytest
import torch

from workers.evaluation.probabilities import expected_calibration_error
from workers.inference.calibration import fit_temperature, resoften, soften


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 3, 20_000)
    labels = (rng.random(len(honest)) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    scores = honest * temperature
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    probability = soften(torch.from_numpy(scores), temperature=found).numpy()
    assert expected_calibration_error(labels == 1, probability) < 0.01


def test_no_order_is_changed_and_no_side() -> None:
    scores = torch.tensor([-4.0, -0.1, 0.0, 0.1, 4.0])
    softened = soften(scores, temperature=2.5)
    assert softened.tolist() == sorted(softened.tolist())
    assert float(softened[2]) == 0.5
    assert float(softened[4]) < float(torch.sigmoid(scores[4]))


def test_scores_that_are_always_right_end_at_a_bound_and_not_at_zero() -> None:
    assert fit_temperature(np.array([-3.0, 3.0]), np.array([0, 1])) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("probability", [0.0, 1e-9, 0.2, 0.5, 0.97, 1.0])
def test_a_probability_is_softened_as_its_score_is(probability: float) -> None:
    assert resoften(probability, temperature=1.0) == pytest.approx(probability, abs=1e-6)
    softened = resoften(probability, temperature=2.0)
    assert abs(softened - 0.5) <= abs(probability - 0.5)
    score = torch.logit(torch.tensor(probability, dtype=torch.float64), eps=1e-12)
    assert softened == pytest.approx(float(soften(score, temperature=2.0)), abs=1e-6)
