"""Phantoms for tests: small, drawn once a test run, with the truth beside them.

The Datasets are shared between tests: change a `copy.deepcopy`, never the phantom itself.
"""

import copy
from collections.abc import Sequence
from functools import cache

from pydicom import Dataset

from node.rehearsal.brain_mr import BrainMrPhantom, brain_mr
from node.rehearsal.chest import Nodule
from node.rehearsal.chest_ct import ChestCtPhantom, chest_ct
from node.rehearsal.chest_xray import ChestXrayPhantom, chest_xray

# Both lie in lung, off vessels and walls, for the seed used here; a test proves it.
SMALL_CT_SEED = 7
SMALL_NODULES = (
    Nodule(center_mm=(-64.2, 41.6, 18.3), diameter_mm=12.0),
    Nodule(center_mm=(78.9, 27.9, -12.3), diameter_mm=9.0),
)


@cache
def small_chest_ct() -> ChestCtPhantom:
    """Return a chest CT of 48 slices of 256 × 256 with one nodule in each lung."""
    return chest_ct(seed=SMALL_CT_SEED, nodules=SMALL_NODULES, slices=48, slice_distance_mm=2.0, matrix=256)


@cache
def healthy_chest_ct() -> ChestCtPhantom:
    """Return the same chest without nodules."""
    return chest_ct(seed=SMALL_CT_SEED, nodules=(), slices=48, slice_distance_mm=2.0, matrix=256)


@cache
def small_brain_mr() -> BrainMrPhantom:
    """Return T1, T1c and FLAIR of 18 slices each with one lesion."""
    return brain_mr(seed=5, slices=18)


@cache
def small_chest_xray(*, with_opacity: bool) -> ChestXrayPhantom:
    """Return a film of 512 × 512 with or without an opacity."""
    return chest_xray(seed=11, with_opacity=with_opacity, matrix=512)


def changed(datasets: Sequence[Dataset], **elements: object) -> list[Dataset]:
    """Return copies of Instances with these elements."""
    copies = [copy.deepcopy(ds) for ds in datasets]
    for ds in copies:
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
    return copies
