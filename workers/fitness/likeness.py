"""How like the training data an input is: what the input autoencoder cannot draw again of it."""

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from node.errors import ModelInvalid, UnlikeTraining
from node.manifest import Autoencoder
from node.models import ModelCard
from workers.networks.input_autoencoder import InputAutoencoder

# A plane of one gray value has nothing to be drawn; this spread keeps its share finite.
MIN_SPREAD = 0.02


def share_missed(planes: torch.Tensor, drawings: torch.Tensor) -> torch.Tensor:
    """Return the share of each plane's contrast that its drawing misses, 0 upwards; training and check share it.

    Parameters
    ----------
    planes, drawings
        (planes, 1, rows, columns).
    """
    missed = (planes - drawings).square().mean(dim=(1, 2, 3))
    spread = planes.var(dim=(1, 2, 3), unbiased=False).clamp_min(MIN_SPREAD**2)
    return missed / spread


@torch.inference_mode()
def score_planes(network: torch.nn.Module, planes: NDArray[np.float32]) -> float:
    """Return the score of one input, 0 upwards: the median over its planes (planes, rows, columns)."""
    batch = torch.from_numpy(np.ascontiguousarray(planes, np.float32))[:, None]
    return float(share_missed(batch, network(batch)).median())


class Likeness:
    """The autoencoder of one model, loaded; it runs on the CPU, where it takes milliseconds.

    Its digest is compared with those of all files of the model, by `ModelCard.verify_weights`.

    Raises
    ------
    ModelInvalid
        If its weights are absent or do not fit.
    """

    def __init__(self, card: ModelCard, told: Autoencoder) -> None:
        self._told = told
        self._network = _load(card, told)

    def check(self, planes: NDArray[np.float32]) -> tuple[str, ...]:
        """Return what the report says of the score; empty for what is like the training data.

        Parameters
        ----------
        planes
            (planes, rows, columns) float32, as the views of the Pipelines give them.

        Raises
        ------
        UnlikeTraining
            If the score lies above the threshold by more than the band.
        """
        score, threshold = score_planes(self._network, planes), self._told.threshold
        limit = threshold + self._told.band
        if not score <= limit:
            raise UnlikeTraining(
                f"the input is unlike the training data: score {score:.2f} where at most {limit:.2f} is read; look "
                "at the images, and at body part, view and orientation in their headers"
            )
        if score <= threshold:
            return ()
        return (f"The input is unusual for this model (score {score:.2f}; ordinary up to {threshold:.2f}).",)


def _load(card: ModelCard, told: Autoencoder) -> torch.nn.Module:
    path = told.file
    network = InputAutoencoder()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as exc:
        raise ModelInvalid(f"model {card.name}: {path} is no input autoencoder; train it by radnode-train") from exc
    return network.eval()
