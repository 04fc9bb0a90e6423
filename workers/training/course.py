"""The steps of a training: the same loop for every recipe, which can be broken off and gone on with."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from workers.training.curve import LOSS, Curve
from workers.training.order import Order
from workers.training.schedule import learning_rate, set_learning_rate

CHECKPOINT = "checkpoint.pt"
MAX_NORM = 5.0  # of the gradient; a single strange batch must not throw the weights away
LOSS_EVERY = 10  # steps that one point of the curve stands for

Loss = Callable[[], torch.Tensor]
Validation = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast a network learns.

    Attributes
    ----------
    steps
        Optimizer steps, > 0; `Order.steps` goes before it, and nothing is learned after those.
    peak_rate, weight_decay
        Of AdamW; the rate rises shortly, then falls to zero by half a cosine.
    more_steps, more_peak_rate
        Steps after those, and the rate to which they rise once more before it falls to zero again.
    average
        Share of the averaged weights that each step keeps, 0..1.
    validate_every, keep_every
        Steps between two validations, and between two checkpoints.
    """

    steps: int
    peak_rate: float
    weight_decay: float = 1e-2
    more_steps: int = 0
    more_peak_rate: float = 0.0
    average: float = 0.998
    validate_every: int = 200
    keep_every: int = 100


class Course:
    """One network on its way through a `Plan`.

    Parameters
    ----------
    network
        Trained in place, on the order's device.
    rng
        Draws every batch; its state is part of the checkpoint.

    Attributes
    ----------
    network
        The network that learns.
    averaged
        Its moving average, in evaluation mode: what is validated, and shipped.
    rng
        To be used by the function that draws a batch, and by no other.
    """

    def __init__(self, network: torch.nn.Module, order: Order, *, rng: np.random.Generator, plan: Plan) -> None:
        self.network = network.to(order.device)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        self.rng = rng
        self._plan = plan
        self._turn = order.steps or plan.steps
        self._steps = order.steps or plan.steps + plan.more_steps
        self._checkpoint = order.out / CHECKPOINT
        self._optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=plan.weight_decay)
        self._done = self._resume(order.device) if order.resume else 0
        self._curve = Curve(order.out, until=self._done)

    def run(self, loss_of: Loss, *, validate: Validation | None = None) -> None:
        """Take the steps that are left; `averaged` holds the outcome.

        Parameters
        ----------
        loss_of
            Draws a batch and returns its loss.
        validate
            Returns figures of `averaged`, on patients that are not learned from.
        """
        columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("loss {task.fields[loss]}"))
        losses: list[float] = []
        with Progress(*columns) as progress:
            task = progress.add_task("training", total=self._steps, completed=self._done, loss="")
            while self._done < self._steps:
                losses.append(self._step(loss_of))
                self._done += 1
                if self._done % LOSS_EVERY == 0:
                    mean, losses = float(np.mean(losses)), []
                    self._curve.add(self._done - 1, {LOSS: mean})
                    progress.update(task, loss=f"{mean:.3f}")
                progress.advance(task)
                self._look(validate)
        self._curve.keep()

    def _step(self, loss_of: Loss) -> float:
        self.network.train()
        set_learning_rate(self._optimizer, self._rate())
        loss = loss_of()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no annotation for it
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self._optimizer.step()
        self._follow()
        return float(loss.detach())

    def _rate(self) -> float:
        if self._done < self._turn:
            return learning_rate(self._done, steps=self._turn, peak=self._plan.peak_rate)
        return learning_rate(self._done - self._turn, steps=self._plan.more_steps, peak=self._plan.more_peak_rate)

    @torch.no_grad()
    def _follow(self) -> None:
        # Young averages forget faster, or they would still hold the weights of the first steps.
        keep = min(self._plan.average, (1 + self._done) / (10 + self._done))
        theirs = self.network.state_dict()
        for name, mine in self.averaged.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - keep)
            else:
                mine.copy_(theirs[name])

    def _look(self, validate: Validation | None) -> None:
        last = self._done == self._steps
        if validate is not None and (last or self._done % self._plan.validate_every == 0):
            self._curve.add(self._done - 1, validate())
        if last or self._done % self._plan.keep_every == 0:
            self._curve.keep()
            self._keep()

    def _keep(self) -> None:
        aside = self._checkpoint.with_suffix(".aside")
        torch.save(
            {
                "step": self._done,
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "rng": self.rng.bit_generator.state,
                "torch_rng": torch.get_rng_state(),
            },
            aside,
        )
        aside.replace(self._checkpoint)

    def _resume(self, device: torch.device) -> int:
        kept: dict[str, Any] = torch.load(_existing(self._checkpoint), map_location=device, weights_only=True)
        self.network.load_state_dict(kept["network"])
        self.averaged.load_state_dict(kept["averaged"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self.rng.bit_generator.state = kept["rng"]
        torch.set_rng_state(kept["torch_rng"].cpu())
        return int(kept["step"])


def _existing(path: Path) -> Path:
    if not path.is_file():
        msg = f"{path}: there is no checkpoint to go on from; leave out --resume, or name the --out of that run"
        raise ValueError(msg)
    return path
