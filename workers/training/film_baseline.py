"""The classic recipe, to compare with: features of a network that learned another task, and logistic regression."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from workers.networks.xray_densenet import STAGES, XrayDensenet, pool_evidence
from workers.pipelines.chest_xray import standardize
from workers.training.course import CHECKPOINT, Course, Plan
from workers.training.film_changes import change_films
from workers.training.order import Order, seed_everything

PLAN = Plan(steps=300, peak_rate=2e-3, keep_every=50)
PER_LABEL = 16
PENALTY = 1e-2  # on the squared weights: some hundred features of a few thousand films
ROUNDS = 200  # of the solver
ASKED_AT_ONCE = 64

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Logistic regression on standardized features.

    Attributes
    ----------
    middle, spread
        (features,) of the films that were learned from.
    weights, bias
        (features,) and a number: the score is a logit.
    """

    middle: torch.Tensor
    spread: torch.Tensor
    weights: torch.Tensor
    bias: float

    def score(self, features: torch.Tensor) -> NDArray[np.float64]:
        """Return the logit of each film (films, features)."""
        scores: torch.Tensor = (features - self.middle) / self.spread @ self.weights + self.bias
        return scores.double().numpy()


def learn_features(drawn: tuple[torch.Tensor, torch.Tensor], order: Order, *, seed: int) -> torch.nn.Module:
    """Return a network that tells drawn chests with an opacity from those without; it saw no child's film.

    Parameters
    ----------
    drawn
        Films (films, 1, rows, columns) without and with an opacity.
    """
    seed_everything(seed)
    network = XrayDensenet()
    own = replace(order, out=order.out / "features", steps=min(PLAN.steps, order.steps or PLAN.steps))
    own.out.mkdir(exist_ok=True)
    own = replace(own, resume=order.resume and (own.out / CHECKPOINT).is_file())
    course = Course(network, own, rng=np.random.default_rng(seed), plan=PLAN)
    target = torch.repeat_interleave(torch.tensor((0.0, 1.0)), PER_LABEL).to(order.device)

    def loss_of() -> torch.Tensor:
        picked = torch.cat([films[course.rng.integers(len(films), size=PER_LABEL)] for films in drawn])
        batch = standardize(change_films(picked.float(), course.rng)).to(order.device)
        return binary_cross_entropy_with_logits(pool_evidence(course.network(batch)), target)

    course.run(loss_of)
    return course.averaged


@torch.no_grad()
def read_features(network: torch.nn.Module, films: torch.Tensor) -> torch.Tensor:
    """Return (films, features): mean and maximum over the film of each channel of two stages."""
    device = next(network.parameters()).device
    rows = []
    for part in torch.split(films, ASKED_AT_ONCE):
        batch = standardize(part.float()).to(device)
        seen = [_see(network, stage, batch) for stage in STAGES]
        rows.append(torch.cat([pool(stage) for stage in seen for pool in (_mean, _peak)], dim=1).cpu())
    return torch.cat(rows)


def _see(network: torch.nn.Module, stage: str, films: torch.Tensor) -> torch.Tensor:
    """Return what one stage answers."""
    seen: list[torch.Tensor] = []
    hook = network.get_submodule(stage).register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    network(films)
    hook.remove()
    return seen[-1]


def _mean(stage: torch.Tensor) -> torch.Tensor:
    return stage.mean(dim=(2, 3))


def _peak(stage: torch.Tensor) -> torch.Tensor:
    return stage.amax(dim=(2, 3))


def fit_regression(features: torch.Tensor, labels: NDArray[np.int64]) -> Regression:
    """Return the regression that fits the labels (films,) of features (films, features)."""
    middle, spread = features.mean(dim=0), features.std(dim=0) + 1e-6
    known = (features - middle) / spread
    target = torch.from_numpy(labels).float()
    weights = torch.zeros(known.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = binary_cross_entropy_with_logits(known @ weights + bias, target) + PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch ships no annotation for it
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]  # torch ships no annotation for it
    return Regression(middle=middle, spread=spread, weights=weights.detach(), bias=float(bias.detach()))
