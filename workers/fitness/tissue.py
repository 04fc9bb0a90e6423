"""Whether there is tissue in what is seen: water in a bottle is as even as no organ is."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.errors import PhantomOrTest

TISSUE = 0.5  # of the typical tissue, which is 1
RIM = 3  # pixels of a plane whose edge is left out: there, everything has contrast
MIN_PIXELS = 30
# 13 patients with gliomas: 0.14 to 0.32, in FLAIR and in T1; the rehearsal's heads 0.07; bottles of water with noise
# of 1 to 3 %: 0.003 to 0.013.
MIN_SPREAD = 0.03


def require_tissue(planes: NDArray[np.float32]) -> None:
    """Refuse planes inside of which everything is equally bright.

    Parameters
    ----------
    planes
        (planes, rows, columns) float32, background 0 and typical tissue 1.

    Raises
    ------
    PhantomOrTest
        With the spread that was found. What has no inside is not judged.
    """
    inside = [ndimage.binary_erosion(plane > TISSUE, iterations=RIM) for plane in planes]
    spreads = [plane[seen].std() for plane, seen in zip(planes, inside, strict=True) if seen.sum() > MIN_PIXELS]
    if spreads and float(np.median(spreads)) < MIN_SPREAD:
        raise PhantomOrTest(
            f"what is seen is equally bright all over (spread {np.median(spreads):.3f}, in tissue at least "
            f"{MIN_SPREAD:g}): a bottle of water is no patient"
        )
