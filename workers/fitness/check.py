"""The one place where a Pipeline asks whether an input is fit for its model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.manifest import Fit
from node.models import ModelCard
from workers.fitness.grid import require_film, require_grid
from workers.fitness.header import require_role
from workers.fitness.likeness import Likeness
from workers.fitness.phantoms import refuse_phantoms
from workers.fitness.tissue import require_tissue
from workers.radiograph import Radiograph
from workers.volume import Volume

UNASKED = Fit()


class Fitness:
    """What ``[fit]`` and ``[inputs]`` of one model ask of an input; a Pipeline asks in the order of the methods.

    A refusal ends the Job CANCELED with its code and sentence. Damaged pixels are told before phantoms are, so that
    who sent them learns of the damage.

    Parameters
    ----------
    usual, modalities
        What the Pipeline itself was made for: asked where the model's own card leaves out body parts, views, the
        orientation, or the Modality of a role.

    Raises
    ------
    ModelInvalid
        If the autoencoder that ``[fit.autoencoder]`` names is absent, or none.
    """

    def __init__(self, card: ModelCard, *, usual: Fit = UNASKED, modalities: tuple[str, ...] = ()) -> None:
        roles = (*card.required_roles, *card.optional_roles)
        fit = replace(
            card.fit,
            body_parts=card.fit.body_parts or usual.body_parts,
            views=card.fit.views or usual.views,
            orientation=card.fit.orientation or usual.orientation,
        )
        asked = MappingProxyType({role: card.modalities.get(role) or modalities for role in roles})
        self._card = replace(card, fit=fit, modalities=asked)
        told = card.fit.autoencoder
        self._likeness = None if told is None else Likeness(card, told)

    def check_header(self, role: str, datasets: Sequence[Dataset]) -> None:
        """Refuse by the header, before pixels are decoded; Raises as `require_role`."""
        require_role(self._card, role, datasets)

    def check_volume(self, volume: Volume) -> None:
        """Refuse phantoms and tests, and what is placed or sampled otherwise; Raises as `require_grid`.

        Raises
        ------
        PhantomOrTest
            If a header says so, and ``fit.phantoms`` is not true.
        """
        if volume.datasets:
            self._refuse_phantoms(volume.datasets[0])
        require_grid(volume, self._card.fit)

    def check_film(self, radiograph: Radiograph) -> None:
        """Refuse phantoms and tests, and films of another size; Raises as `require_film`.

        Raises
        ------
        PhantomOrTest
            If the header says so, and ``fit.phantoms`` is not true.
        """
        self._refuse_phantoms(radiograph.dataset)
        require_film(radiograph, self._card.fit)

    def check_tissue(self, planes: NDArray[np.float32]) -> None:
        """Refuse what is as even as water, unless ``fit.phantoms`` is true; Raises as `require_tissue`."""
        if not self._card.fit.phantoms:
            require_tissue(planes)

    def check_likeness(self, show: Callable[[], NDArray[np.float32]]) -> tuple[str, ...]:
        """Return what the report says of the autoencoder's score; empty for an ordinary input or without one.

        Parameters
        ----------
        show
            Returns the planes (planes, rows, columns) float32; not called where no autoencoder is.

        Raises
        ------
        UnlikeTraining
            If the score is above threshold and band.
        """
        return () if self._likeness is None else self._likeness.check(show())

    def _refuse_phantoms(self, ds: Dataset) -> None:
        if not self._card.fit.phantoms:
            refuse_phantoms(ds)
