"""Heads of ellipsoids in three MR contrasts, with and without a lesion, for the training mix."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.networks.tumour_unet import MATRIX, PIXEL_MM
from workers.pipelines.axial_stack import center_window, crop_plane, mark_head, standardize
from workers.training.lgg import MarkedHead

Field = NDArray[np.float32]
Point = tuple[float, float, float]
Contrasts = tuple[float, float, float]  # T1 pre, FLAIR, T1 post

SLICES = 10
SLICE_MM = (3.5, 6.5)
EDGE_MM = 1.5
SKULL_BASE = 0.8  # how often a head has a face


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the voxels are: z, y, x in mm from the middle of the head, each (slices, rows, columns)."""

    z: Field
    y: Field
    x: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What the skull base shares with the rest of a head: half axes of the skull, mm, and what FLAIR shows."""

    inside: Point
    fat: float
    bone: float
    liquor: float


def draw_head(rng: np.random.Generator, *, has_lesion: bool) -> MarkedHead:
    """Return one head on the network's grid; its patient key is ``phantom``."""
    half = MATRIX * PIXEL_MM / 2
    axis = (np.arange(MATRIX) + 0.5) * PIXEL_MM - half
    axes = rng.uniform(66, 84), rng.uniform(84, 106), rng.uniform(80, 110)
    slice_mm = rng.uniform(*SLICE_MM)
    highest = 0.85 * axes[2] - SLICES * slice_mm
    # Half of the stacks lie where deep gray matter and ventricles look most like lesions.
    low = rng.uniform(-0.8 * axes[2], highest) if rng.random() < 0.5 else rng.uniform(-25, -5)
    levels = low + np.arange(SLICES) * slice_mm
    mesh = np.meshgrid(levels, axis, axis, indexing="ij")
    place = _tilt(Place(z=mesh[0].astype(np.float32), y=mesh[1].astype(np.float32), x=mesh[2].astype(np.float32)), rng)
    images, shell = _paint_anatomy(place, axes, rng)
    mask = np.zeros(images[0].shape, np.float32)
    if has_lesion:
        mask = _paint_lesions(images, place, axes, rng)
    if rng.random() < SKULL_BASE:
        mask *= 1 - _paint_skull_base(images, place, shell, rng)
    images = [_scan(image, rng) for image in images]
    head = mark_head(images[1])
    corner = center_window(head, MATRIX)
    channels = np.stack([crop_plane(standardize(image), corner, MATRIX) for image in images], axis=1)
    return MarkedHead(
        patient="phantom",
        channels=channels.astype(np.float16),
        mask=crop_plane(mask, corner, MATRIX).astype(np.float16),
        head=crop_plane(head.astype(np.float32), corner, MATRIX) > 0.5,
        slice_mm=slice_mm,
    )


def _tilt(place: Place, rng: np.random.Generator) -> Place:
    a, b = rng.uniform(-0.2, 0.2, 2)
    y = place.y * np.cos(a) - place.z * np.sin(a)
    z = place.z * np.cos(a) + place.y * np.sin(a)
    x, y = place.x * np.cos(b) - y * np.sin(b), y * np.cos(b) + place.x * np.sin(b)
    dx, dy = rng.uniform(-8, 8, 2)
    return Place(z=z.astype(np.float32), y=(y + dy).astype(np.float32), x=(x + dx).astype(np.float32))


def _cover(place: Place, center: Point, axes: Point, roughness: Field | float = 0.0) -> Field:
    """Return how far voxels lie inside an ellipsoid (x, y, z): 0..1 with a soft edge."""
    level = np.sqrt(
        ((place.x - center[0]) / axes[0]) ** 2
        + ((place.y - center[1]) / axes[1]) ** 2
        + ((place.z - center[2]) / axes[2]) ** 2
    )
    return np.asarray(np.clip((1 - level + roughness) * min(axes) / EDGE_MM + 0.5, 0, 1), np.float32)


def _texture(shape: tuple[int, ...], width_px: float, rng: np.random.Generator) -> Field:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.7, width_px, width_px))
    return np.asarray(noise / noise.std(), np.float32)


def _fill(images: list[Field], cover: Field, values: Contrasts) -> None:
    for image, value in zip(images, values, strict=True):
        image += cover * (np.float32(value) - image)


def _paint_anatomy(place: Place, axes: Point, rng: np.random.Generator) -> tuple[list[Field], Shell]:
    shape = place.x.shape
    images = [np.zeros(shape, np.float32) for _ in range(3)]
    fat, bone, liquor = rng.uniform(0.7, 2.0), rng.uniform(0.02, 0.3), rng.uniform(0.03, 0.4)
    shells = np.cumprod([1.0, rng.uniform(0.92, 0.96), rng.uniform(0.92, 0.97), rng.uniform(0.95, 0.99)])
    skin, inner, dura, cortex = [(axes[0] * s, axes[1] * s, axes[2] * s) for s in shells]
    middle = (0.0, 0.0, 0.0)
    _fill(images, _cover(place, middle, skin), (1.6, fat, 1.6))
    _fill(images, _cover(place, middle, inner), (bone, bone, bone))
    _fill(images, _cover(place, middle, dura), (0.3, liquor, 0.35))
    gray, gray_t1 = rng.uniform(0.95, 1.3), rng.uniform(0.65, 0.95)
    folds = _texture(shape, rng.uniform(1.5, 4), rng) * rng.uniform(0, 0.05)
    _fill(images, _cover(place, middle, cortex, folds), (gray_t1, gray, gray_t1 + 0.05))
    white = (cortex[0] * 0.86, cortex[1] * 0.88, cortex[2] * 0.86)
    if rng.random() < 0.75:
        _fill(images, _cover(place, middle, white, folds * 2), (1.0, 0.9, 1.0))
    if rng.random() < 0.9:
        _paint_nuclei(images, place, (gray_t1, gray * rng.uniform(0.9, 1.05), gray_t1 + 0.05), rng)
    wide = rng.uniform(0.5, 1.6)
    for side in (-1, 1):
        horn = (side * rng.uniform(9, 16), rng.uniform(-8, 8), rng.uniform(5, 20))
        size = (6 * wide, rng.uniform(18, 34), 9 * wide)
        if rng.random() < 0.4:  # The bright rim of a normal ventricle is no lesion.
            _fill(images, _cover(place, horn, (size[0] + 2, size[1] + 3, size[2] + 2)), (0.9, gray * 1.2, 0.9))
        _fill(images, _cover(place, horn, size), (0.3, liquor, 0.3))
    if rng.random() < 0.5:
        _fill(images, _cover(place, middle, (2.5, 12, 12)), (0.3, liquor, 0.3))
    return images, Shell(inside=inner, fat=fat, bone=bone, liquor=liquor)


def _paint_nuclei(images: list[Field], place: Place, values: Contrasts, rng: np.random.Generator) -> None:
    """Paint deep gray matter: pairs of nuclei, and here and there an island, all of them normal."""
    for across, back, size in ((12, 8, (9, 15, 9)), (26, -3, (6, 18, 11)), (15, -22, (6, 10, 11))):
        x, y, z = across * rng.uniform(0.8, 1.2), back + rng.uniform(-6, 6), rng.uniform(0, 18)
        scale = rng.uniform(0.7, 1.3)
        for side in (-1, 1):
            _fill(images, _cover(place, (side * x, y, z), (size[0] * scale, size[1] * scale, size[2] * scale)), values)
    for _ in range(int(rng.integers(0, 8))):
        spot = (rng.uniform(-50, 50), rng.uniform(-60, 60), rng.uniform(-30, 70))
        _fill(images, _cover(place, spot, (rng.uniform(3, 9), rng.uniform(3, 12), rng.uniform(3, 12))), values)


def _paint_skull_base(images: list[Field], place: Place, base: Shell, rng: np.random.Generator) -> Field:
    """Paint what lies under the brain, bright or dark, all normal; return where face and brain stem are, 0..1."""
    level, front = rng.uniform(-22, -6), -rng.uniform(0.3, 0.45) * base.inside[1]
    below = np.asarray(np.clip((level - place.z) / EDGE_MM + 0.5, 0, 1), np.float32)
    below *= _cover(place, (0.0, 0.0, 0.0), base.inside)
    bone, liquor = (base.bone, base.bone, base.bone), (0.3, base.liquor, 0.3)
    face = np.asarray(below * np.clip((front - place.y) / EDGE_MM + 0.5, 0, 1), np.float32)
    _paint_face(images, place, face, rng)
    air = (0.0, front - rng.uniform(20, 40), level - 12)
    _fill(images, _cover(place, air, (rng.uniform(5, 14), 15, 14)) * below, bone)
    orbit = rng.uniform(26, 38), front - rng.uniform(12, 34), level - rng.uniform(4, 16)
    petrous = rng.uniform(40, 56), rng.uniform(5, 24), level - rng.uniform(5, 22)
    wide, rough = rng.uniform(12, 21), _texture(place.x.shape, 3, rng) * rng.uniform(0, 0.2)
    for side in (-1, 1):
        middle = (side * orbit[0], orbit[1], orbit[2])
        _fill(images, _cover(place, middle, (wide, wide * 1.25, wide * 0.8)) * below, (1.6, base.fat, 1.6))
        eye = (middle[0], middle[1] - 0.35 * wide, middle[2])
        _fill(images, _cover(place, eye, (wide * 0.6, wide * 0.6, wide * 0.6)) * below, liquor)
        ear = (side * petrous[0], petrous[1], petrous[2])
        _fill(images, _cover(place, ear, (16, 20, 14), rough) * below, bone)
    stem, radius = (0.0, rng.uniform(6, 18), level - 16), rng.uniform(11, 17)
    cistern = _cover(place, stem, (radius + 5, radius + 5, 36)) * below
    _fill(images, cistern, liquor)
    _fill(images, _cover(place, stem, (radius, radius * 0.9, 38)) * below, (1.0, 0.9, 1.0))
    return np.asarray(np.maximum(face, cistern), np.float32)


def _paint_face(images: list[Field], place: Place, face: Field, rng: np.random.Generator) -> None:
    """Paint muscle, and mucosa that is brighter than many a lesion; `face` (slices, rows, columns) is 0..1."""
    _fill(images, face, (0.6, rng.uniform(0.4, 0.9), 0.7))
    for _ in range(int(rng.integers(0, 5))):
        spot = (rng.uniform(-22, 22), rng.uniform(-85, -35), rng.uniform(-60, -12))
        size = (rng.uniform(3, 12), rng.uniform(4, 14), rng.uniform(4, 14))
        _fill(images, _cover(place, spot, size) * face, (0.6, rng.uniform(1.2, 2.6), 1.4))


def _paint_lesions(images: list[Field], place: Place, axes: Point, rng: np.random.Generator) -> Field:
    mask = np.zeros(place.x.shape, np.float32)
    for _ in range(1 if rng.random() < 0.85 else 2):
        radius = rng.uniform(8, 30)
        size = (radius * rng.uniform(0.7, 1.3), radius * rng.uniform(0.7, 1.3), radius * rng.uniform(0.7, 1.3))
        reach = np.maximum(np.array(axes) * 0.84 - np.array(size), 1)
        height = float(np.clip(rng.uniform(place.z.min(), place.z.max()) / reach[2], -0.9, 0.9))
        turn, away = rng.uniform(0, 2 * np.pi), np.sqrt(1 - height**2) * rng.random() ** 0.4
        center = (reach[0] * away * np.cos(turn), reach[1] * away * np.sin(turn), reach[2] * height)
        rough = _texture(place.x.shape, rng.uniform(2, 6), rng) * rng.choice((0.0, 0.08, 0.2))
        cover = _cover(place, (center[0], center[1], center[2]), size, rough)
        _fill(images, cover * rng.uniform(0.75, 1), (rng.uniform(0.4, 0.9), rng.uniform(1.5, 2.4), rng.uniform(0.5, 1)))
        if rng.random() < 0.5:
            small = tuple(v * rng.uniform(0.3, 0.7) for v in size)
            core = _cover(place, (center[0], center[1], center[2]), (small[0], small[1], small[2]), rough)
            flair = rng.uniform(0.3, 2.2)
            _fill(images, core, (rng.uniform(0.3, 0.9), flair, rng.uniform(0.4, 2.0)))
        mask = np.maximum(mask, cover)
    return mask


def _scan(image: Field, rng: np.random.Generator) -> Field:
    """Return the image blurred, shaded by a coil and noisy, as a magnitude."""
    coarse = rng.standard_normal((3, 4, 4))
    zoom = [size / knots for size, knots in zip(image.shape, coarse.shape, strict=True)]
    shade = 1 + rng.uniform(0, 0.12) * ndimage.zoom(coarse, zoom, order=1)
    sigma = rng.uniform(0, 0.9)
    blurred = ndimage.gaussian_filter(image, (0, sigma, sigma)) * shade
    noise = rng.standard_normal((2, *image.shape)) * rng.uniform(0.005, 0.06)
    return np.asarray(np.hypot(blurred + noise[0], noise[1]), np.float32)
