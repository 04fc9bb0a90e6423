"""What a detecting bundle answers: boxes, each written as its outline, or as the ellipsoid inside it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from node.errors import ModelOutputInvalid
from node.manifest import BoxMode, BoxSpace, Bundle, Label
from node.models import ModelCard
from workers.axes import reversed_axes
from workers.measurements import Region, find_regions
from workers.pipelines.base import Analysis
from workers.pipelines.bundle_mask import bring_home, build_analysis, tell_unlabeled
from workers.volume import Volume

DEFAULT_SCORE = 0.5
MAX_BOXES = 100  # of one Series; a mask of eight bits holds 255
BOX_NUMBERS = 6
# Where an answer holds it: (1, x, y, z) of the image that went in, n in the voxels of the n-th box.
OUTLINES = "outlines"
NOTE = "The model marked boxes; the outlines are the ellipsoids inside them, and sizes are those of the boxes."
NOTE_OF_SOME = "{count} of the findings have no outline; theirs are the ellipsoids inside their boxes."

Numbers = NDArray[np.float64]


def read_boxes(answer: Mapping[str, Any], card: ModelCard, volume: Volume, *, notes: tuple[str, ...]) -> Analysis:
    """Return a Finding for each box that is certain enough, the most certain first.

    Raises
    ------
    ModelOutputInvalid
        If the answer holds no boxes, or NaN, or nothing but boxes of what has no label.
    """
    bundle = card.bundle
    if bundle is None:
        raise ModelOutputInvalid(f"model {card.name} is no bundle; the Pipeline is at fault")
    boxes, scores, classes = (_numbers(answer, key, card) for key in (bundle.boxes, bundle.scores, bundle.classes))
    boxes = boxes.reshape(-1, BOX_NUMBERS)
    if not len(boxes) == len(scores) == len(classes):
        raise ModelOutputInvalid(f"the bundle {card.name} gives {len(boxes)} boxes and {len(scores)} certainties")
    labels = {label.value: label for label in card.labels}
    least = float(card.numbers.get("thresholds", {}).get("finding", DEFAULT_SCORE))
    certain = [n for n in np.argsort(-scores, kind="stable").tolist() if scores[n] >= least]
    order = [n for n in certain if int(classes[n]) in labels]
    strange = sorted({int(classes[n]) for n in certain} - labels.keys())
    centers, halves = _to_patient(boxes, bundle, answer)
    outlines = _read_outlines(answer, bundle, volume)
    taken = np.zeros(volume.voxels.shape, bool)
    found: list[tuple[Label, Region]] = []
    kept: list[float] = []
    drawn = 0
    for number in order[:MAX_BOXES]:
        is_drawn = number + 1 not in outlines
        region = _fill_ellipsoid(volume, centers[number], halves[number]) if is_drawn else outlines[number + 1]
        marked = region.mask & ~taken[region.box]
        # Outside of the images, or wholly inside a box that is more certain.
        if marked.any():
            taken[region.box] |= marked
            drawn += is_drawn
            found.append((labels[int(classes[number])], Region(box=region.box, mask=marked)))
            kept.append(float(min(scores[number], 1.0)))
    more = (f"{len(order) - MAX_BOXES} further boxes are not listed.",) if len(order) > MAX_BOXES else ()
    names = [f"{label.name} {number}" for number, (label, _) in enumerate(found, 1)]
    unlabeled = tell_unlabeled(strange, card, is_found=bool(found))
    said = (*notes, *_tell_ellipsoids(drawn, len(found)), *more, *unlabeled) if found else notes
    return build_analysis(found, card, volume, notes=said, names=names, scores=kept)


def _read_outlines(answer: Mapping[str, Any], bundle: Bundle, volume: Volume) -> Mapping[int, Region]:
    """Return the voxels of the volume that belong to each box, by its number from 1; a box may have none."""
    outlines, image = answer.get(OUTLINES), answer.get(bundle.image)
    if not isinstance(outlines, torch.Tensor) or not isinstance(image, MetaTensor):
        return {}
    if outlines.shape != (1, *image.shape[1:]):
        raise ModelOutputInvalid(
            f"the bundle answers with outlines of {tuple(outlines.shape)} where (1, x, y, z) of its image is due"
        )
    placed = MetaTensor(outlines.as_subclass(torch.Tensor), affine=image.affine)
    home = bring_home(placed, volume)[0]
    # A bundle may count in any type; more boxes than eight bits can number are numbered too.
    return find_regions(volume, reversed_axes(home.astype(np.uint8 if home.dtype == np.uint8 else np.uint16)))


def _tell_ellipsoids(drawn: int, findings: int) -> tuple[str, ...]:
    if drawn == findings:
        return (NOTE,)
    return (NOTE_OF_SOME.format(count=drawn),) if drawn else ()


def _numbers(answer: Mapping[str, Any], key: str, card: ModelCard) -> Numbers:
    value = answer.get(key)
    if value is None:
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers without {key!r}; name the keys of its answer in [bundle] of model.toml"
        )
    tensor = value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    numbers: Numbers = np.asarray(tensor.cpu(), np.float64)
    if not np.isfinite(numbers).all():
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers with NaN in {key!r}; check the weights and the device"
        )
    return numbers


def _to_patient(boxes: Numbers, bundle: Bundle, answer: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """Return centers and half edges of boxes in patient coordinates LPS, mm, (n, 3) each."""
    if bundle.box_mode is BoxMode.CENTER:
        centers, halves = boxes[:, :3], boxes[:, 3:] / 2
    else:
        centers, halves = (boxes[:, :3] + boxes[:, 3:]) / 2, np.abs(boxes[:, 3:] - boxes[:, :3]) / 2
    if bundle.box_space is BoxSpace.VOXEL:
        image = answer.get(bundle.image)
        affine = np.asarray(image.affine, float) if isinstance(image, MetaTensor) else np.eye(4)
        centers = centers @ affine[:3, :3].T + affine[:3, 3]
        halves = halves @ np.abs(affine[:3, :3]).T
    if bundle.box_space is not BoxSpace.WORLD_LPS:
        centers = centers * np.array([-1.0, -1.0, 1.0])
    return centers, halves


def _fill_ellipsoid(volume: Volume, center: Numbers, half: Numbers) -> Region:
    """Return the voxels inside the ellipsoid that touches the faces of a box; at least the one in its middle.

    There are none where the middle lies outside of the images.
    """
    inverse = np.linalg.inv(volume.affine)
    middle = (inverse @ np.array([*center, 1.0]))[:3]
    reach = np.abs(inverse[:3, :3]) @ half
    last = np.array(volume.voxels.shape) - 1
    low = np.clip(np.floor(middle - reach), 0, last).astype(int)
    high = np.clip(np.ceil(middle + reach), 0, last).astype(int)
    nearest = np.rint(middle).astype(int)
    z, y, x = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    if (nearest < 0).any() or (nearest > last).any():
        return Region(box=(z, y, x), mask=np.zeros(high - low + 1, bool))
    index = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1
    )
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    inside: NDArray[np.bool_] = (((points - center) / np.maximum(half, 1e-6)) ** 2).sum(axis=-1) <= 1.0
    inside[tuple(nearest - low)] = True
    return Region(box=(z, y, x), mask=inside)
