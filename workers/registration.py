"""Where one stack of slices lies beside another of the same head: a rigid motion, and a figure of how well they fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from node.errors import GeometryRefused

# Edges of the voxels that are compared, coarse to fine. A third level of 2 mm took four times as long and moved two
# real heads by less than 0.3 mm and 0.1 degrees.
LEVELS_MM = (8.0, 4.0)
BINS = 32
# A step of one radian moves the rim of a head by as much as a step of 80 mm.
HEAD_RADIUS_MM = 80.0
FIRST_STEP, LAST_STEP, RELAXATION = 0.5, 0.005, 0.6  # of a voxel's edge
STEPS_PER_MM = 15  # of a voxel's edge; heads that fit need a third, and others might go on for long
FLAT_GRADIENT = 1e-5
# Outliers would leave too few bins for tissue.
CLIP_PERCENTILES = (0.5, 99.5)
FIT_BINS = 48

Matrix = NDArray[np.float64]
Voxels = NDArray[np.float32]


class Stack(Protocol):
    """Voxels and where they lie: a `Volume`, or what a Pipeline has made of it."""

    @property
    def voxels(self) -> Voxels:
        """Return (slices, rows, columns) float32."""
        ...

    @property
    def affine(self) -> Matrix:
        """Return the 4 × 4 matrix from (slice, row, column, 1) to patient coordinates LPS, mm."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """A rigid motion of a head between two Series.

    Attributes
    ----------
    matrix
        4 × 4 float64, from the reference's patient coordinates to those of the other Series, LPS, mm.
    shift_mm
        How far the middle of the reference moves, mm.
    turn_deg
        Angle of the rotation, 0 to 180 degrees.
    """

    matrix: Matrix
    shift_mm: float
    turn_deg: float

    def undo(self, affine: Matrix) -> Matrix:
        """Return the affine of the other Series as if the head had not moved since the reference."""
        return np.linalg.inv(self.matrix) @ affine


def find_motion(
    reference: Stack,
    other: Stack,
    *,
    start: Matrix | None = None,
    levels_mm: Sequence[float] = LEVELS_MM,
) -> Motion:
    """Return the rigid motion with the most mutual information (Mattes), sought from the headers' geometry.

    Every voxel of each level is compared, in one thread: the answer is the same each time.

    Parameters
    ----------
    start
        Where the search begins: a rigid motion, 4 × 4, as in `Motion.matrix`; None: no motion.
    levels_mm
        Edges of the voxels to compare, each smaller; mm, > 0.

    Raises
    ------
    GeometryRefused
        If the two have no place in common.
    """
    middle = find_middle(reference)
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter(middle.tolist())
    if start is not None:
        transform.SetMatrix(start[:3, :3].ravel().tolist())
        transform.SetTranslation((start[:3, :3] @ middle + start[:3, 3] - middle).tolist())
    fixed, moving = _to_image(reference), _to_image(other)
    for edge_mm in levels_mm:
        try:
            _climb(_coarsen(fixed, edge_mm), _coarsen(moving, edge_mm), transform, edge_mm)
        except RuntimeError as exc:  # ITK's only error: all samples map outside of the other image
            raise GeometryRefused("two Series that should show one head have no place in common") from exc
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    return Motion(
        matrix=matrix,
        shift_mm=float(np.linalg.norm(np.array(transform.TransformPoint(middle.tolist())) - middle)),
        turn_deg=float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))),
    )


def find_middle(stack: Stack) -> Matrix:
    """Return the middle of a stack's grid, LPS, mm."""
    last = np.array(stack.voxels.shape) - 1
    return np.asarray((stack.affine @ np.array([*(last / 2), 1.0]))[:3])


def measure_fit(reference: Voxels, other: Voxels) -> float:
    """Return the normalized mutual information (Studholme) of values at the same places: 1 unrelated, 2 the same.

    Parameters
    ----------
    reference, other
        Of one shape: values of both sequences inside of the head.
    """
    counts, _, _ = np.histogram2d(_clip(reference).ravel(), _clip(other).ravel(), bins=FIT_BINS)
    both = counts / counts.sum()
    joint = _entropy(both)
    return (_entropy(both.sum(axis=0)) + _entropy(both.sum(axis=1))) / joint if joint > 0 else 1.0


def _entropy(shares: Matrix) -> float:
    seen = shares[shares > 0]
    return float(-(seen * np.log(seen)).sum())


def _clip(voxels: Voxels) -> Voxels:
    low, high = np.percentile(voxels, CLIP_PERCENTILES)
    return np.clip(voxels, low, high)


def _to_image(stack: Stack) -> SimpleITK.Image:
    """Return a stack as ITK sees it: axes x, y, z are columns, rows, slices; coordinates are LPS there too."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(_clip(stack.voxels), np.float32))
    spacing = np.linalg.norm(stack.affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((stack.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(stack.affine[:3, 3].tolist())
    return image


def _coarsen(image: SimpleITK.Image, edge_mm: float) -> SimpleITK.Image:
    """Return means of whole voxels, about as large as `edge_mm`; a thick slice stays as it is."""
    factors = [
        int(np.clip(round(edge_mm / spacing), 1, size))
        for spacing, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    return SimpleITK.BinShrink(image, factors)


def _climb(fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: SimpleITK.Transform, edge_mm: float) -> None:
    """Follow the gradient of the mutual information, from `transform`, which is changed."""
    method = SimpleITK.ImageRegistrationMethod()
    # Sums of several threads are added in any order, and round otherwise each time.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=FIRST_STEP * edge_mm,
        minStep=LAST_STEP * edge_mm,
        numberOfIterations=round(STEPS_PER_MM * edge_mm),
        relaxationFactor=RELAXATION,
        gradientMagnitudeTolerance=FLAT_GRADIENT,
    )
    # Three angles, three shifts.
    method.SetOptimizerScales([HEAD_RADIUS_MM**2] * 3 + [1.0] * 3)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
