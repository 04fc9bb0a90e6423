"""How a `NoduleFinder` is asked about a whole CT, and how its maps become boxes and outlines."""

from collections.abc import Sequence

import torch
from monai.inferers.utils import sliding_window_inference
from torch.nn.functional import max_pool3d

from workers.networks.nodule_finder import CENTER, INSIDE, SIZE

PEAK_VOXELS = 5  # a middle is the largest of so many voxels along each axis
DIAMETERS_LOG2_MM = (1.0, 6.0)
# Two middles nearer than this, or than the radius of the more certain one, are one nodule.
APART_VOXELS = 3.0
# An outline ends at this share of the diameter from the middle: where vessels leave the nodule.
REACH = 0.75

Answer = dict[str, torch.Tensor]


class FinderInferer:
    """The inferer of the bundle that ``radnode-train ct-detector`` writes.

    Parameters
    ----------
    roi_size
        Edges of the patches that the network reads, voxels.
    overlap
        Of neighboring patches, 0..1.
    least
        Certainty of a middle below which it is none, 0..1.
    most
        How many are kept, the most certain ones; 1 to 255.
    """

    def __init__(self, roi_size: Sequence[int], *, overlap: float = 0.25, least: float = 0.05, most: int = 50) -> None:
        self._roi_size = tuple(roi_size)
        self._overlap = overlap
        self._least = least
        self._most = most

    def __call__(self, images: Sequence[torch.Tensor], network: torch.nn.Module) -> list[Answer]:
        """Return what `read_maps` makes of each image (1, x, y, z), 0..1, of 1 mm."""
        return [self._find(image, network) for image in images]

    @torch.inference_mode()
    def _find(self, image: torch.Tensor, network: torch.nn.Module) -> Answer:
        maps = sliding_window_inference(image[None], self._roi_size, 1, network, overlap=self._overlap, mode="gaussian")
        return read_maps(maps[0].float().cpu(), least=self._least, most=self._most)


def read_maps(maps: torch.Tensor, *, least: float, most: int) -> Answer:
    """Return boxes and outlines of the nodules that three maps show.

    Parameters
    ----------
    maps
        (3, x, y, z) as `NoduleFinder` answers.

    Returns
    -------
    dict
        ``box`` (n, 6): two corners, voxels; ``label`` (n,): 0; ``label_scores`` (n,): 0..1, the most certain first;
        ``outlines`` (1, x, y, z) uint8: n at the voxels of the n-th box, 0 elsewhere.
    """
    chance = torch.sigmoid(maps[CENTER])
    peaks = max_pool3d(chance[None, None], PEAK_VOXELS, stride=1, padding=PEAK_VOXELS // 2)[0, 0]
    places = torch.nonzero((chance == peaks) & (chance >= least))
    scores = chance[tuple(places.T)]
    log_mm = maps[SIZE].clamp(*DIAMETERS_LOG2_MM)
    places = places[torch.argsort(scores, descending=True, stable=True)]
    centers = places[_list_apart(places, 2 ** log_mm[tuple(places.T)] / 2, most=most)]
    diameters = 2 ** log_mm[tuple(centers.T)]
    half = diameters[:, None] / 2
    return {
        "box": torch.cat([centers - half, centers + half], dim=1),
        "label": torch.zeros(len(centers), dtype=torch.int64),
        "label_scores": chance[tuple(centers.T)],
        "outlines": _draw_outlines(maps[INSIDE] > 0, centers, diameters),
    }


def _list_apart(places: torch.Tensor, radii: torch.Tensor, *, most: int) -> torch.Tensor:
    """Return the indices of at most so many places that lie apart from each one kept before them."""
    kept: list[int] = []
    left = torch.arange(len(places))
    while len(left) and len(kept) < most:
        first = int(left[0])
        kept.append(first)
        away = (places[left] - places[first]).float().norm(dim=1)
        left = left[away > max(APART_VOXELS, float(radii[first]))]
    return torch.tensor(kept, dtype=torch.int64)


def _draw_outlines(inside: torch.Tensor, centers: torch.Tensor, diameters: torch.Tensor) -> torch.Tensor:
    outlines = torch.zeros((1, *inside.shape), dtype=torch.uint8)
    # Backwards: where two meet, the more certain one stays.
    for number in reversed(range(len(centers))):
        reach = float(diameters[number]) * REACH
        low = (centers[number] - reach).floor().clamp(min=0).int().tolist()
        high = (centers[number] + reach).ceil().int().tolist()
        x, y, z = (slice(a, b + 1) for a, b in zip(low, high, strict=True))
        part = inside[x, y, z]
        grid = torch.stack(torch.meshgrid(*map(torch.arange, part.shape), indexing="ij"), dim=-1) + torch.tensor(low)
        near = (grid - centers[number]).float().norm(dim=-1) <= reach
        outlines[0, x, y, z][near & part] = number + 1
    return outlines
