"""What no network answers whose weights and device are sound."""

import numpy as np
import torch
from numpy.typing import NDArray

from node.errors import ModelOutputInvalid


def is_finite(answer: torch.Tensor) -> bool:
    """Return whether there is neither NaN nor infinity in a tensor: both show in its lowest or highest value."""
    if not answer.is_floating_point() or not answer.numel():
        return True
    return bool(torch.isfinite(torch.stack(answer.detach().as_subclass(torch.Tensor).aminmax())).all())


def require_sound(answers: NDArray[np.floating], network: str) -> None:
    """Refuse answers that say nothing of what was asked.

    Parameters
    ----------
    answers
        Of any shape: one network's answers to places that differ.
    network
        Its name in words.

    Raises
    ------
    ModelOutputInvalid
        If there is NaN or infinity among them, or if all are the same.
    """
    require_finite(answers, network)
    if answers.size > 1 and np.ptp(answers) == 0:
        raise ModelOutputInvalid(
            f"the {network} network answered {float(answers.flat[0]):.3g} at each of {answers.size} places; check the "
            "weights and the device"
        )


def require_finite(answers: NDArray[np.floating], network: str) -> None:
    """Refuse answers with NaN or infinity among them.

    Raises
    ------
    ModelOutputInvalid
        If there are any.
    """
    if not np.isfinite(answers).all():
        raise ModelOutputInvalid(f"the {network} network answered with NaN; check the weights and the device")
