"""Water in a bottle is refused; an organ, and what is too small to be judged, is not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from node.errors import PhantomOrTest
from node.rehearsal.brain_mr import brain_mr
from workers.fitness.tissue import MIN_SPREAD, require_tissue
from workers.networks.input_autoencoder import MATRIX
from workers.pipelines.axial_stack import turn_volume
from workers.pipelines.input_views import view_head
from workers.volume import read_volume


def bottle(*, spread: float, radius: float = 0.8) -> NDArray[np.float32]:
    rows, columns = np.mgrid[-1 : 1 : MATRIX * 1j, -1 : 1 : MATRIX * 1j]
    noise = np.random.default_rng(3).normal(1, spread, (4, MATRIX, MATRIX))
    return np.asarray((rows**2 + columns**2 < radius**2) * noise, np.float32)


def test_a_bottle_of_water_is_refused_with_what_was_found() -> None:
    with pytest.raises(PhantomOrTest, match=r"spread 0\.01\d, in tissue at least 0\.03"):
        require_tissue(bottle(spread=MIN_SPREAD / 2))


def test_what_has_structure_or_no_inside_passes() -> None:
    require_tissue(bottle(spread=2 * MIN_SPREAD))
    require_tissue(bottle(spread=0, radius=0.1))
    require_tissue(np.zeros((1, MATRIX, MATRIX), np.float32))


def test_a_drawn_head_without_lesion_passes() -> None:
    flair = brain_mr(with_lesion=False, slices=6).flair
    require_tissue(view_head(turn_volume(read_volume(flair))[0]))
