"""Chest radiographs projected from simple bodies, with and without an opacity, for the training mix."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[np.float32]

TISSUE_PER_MM = 0.02  # linear attenuation of water at about 70 keV
BONE_PER_MM = 0.045
LUNG_DENSITY = 0.25  # of water
SEEN_MM = 8.0  # of a path through a lung: less is its rim, which nobody sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The plane of one projection.

    Attributes
    ----------
    x, z
        (rows, columns) float32, mm: patient left to the right, feet downwards; zero is the middle of the chest.
    rng
        The source of every random number of this phantom.
    """

    x: Pixels
    z: Pixels
    rng: np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRadiograph:
    """A radiograph and what is in it.

    Attributes
    ----------
    film
        (rows, columns) float32, 0..1, bright is dense.
    lungs, opacity
        (rows, columns) bool: what lies behind lung, and behind airspace disease.
    """

    film: Pixels
    lungs: NDArray[np.bool_]
    opacity: NDArray[np.bool_]


def chord_mm(
    scene: Scene,
    center: tuple[float, float],
    semi_axes: tuple[float, float, float],
    power: tuple[float, float] = (2.0, 2.0),
) -> Pixels:
    """Return the path length of each ray through a superellipsoid, mm.

    Parameters
    ----------
    center
        x and z, mm.
    semi_axes
        Along x, along the ray, along z; mm, > 0.
    power
        Exponents along x and z; 2 is an ellipsoid, more is boxier.
    """
    u = np.abs((scene.x - center[0]) / semi_axes[0]) ** power[0]
    v = np.abs((scene.z - center[1]) / semi_axes[2]) ** power[1]
    return np.asarray(2 * semi_axes[1] * np.sqrt(np.maximum(0.0, 1.0 - u - v)), np.float32)


def draw_radiograph(rng: np.random.Generator, *, size: int, has_opacity: bool) -> Pixels:
    """Return one radiograph, bright is dense.

    Parameters
    ----------
    size
        Rows and columns, > 32.
    has_opacity
        Whether airspace opacities are put into the lungs.

    Returns
    -------
    NDArray
        (size, size) float32, 0..1.
    """
    return draw_with_truth(rng, size=size, has_opacity=has_opacity).film


def draw_with_truth(rng: np.random.Generator, *, size: int, has_opacity: bool) -> DrawnRadiograph:
    """Return what `draw_radiograph` does, and where its lungs and opacities are."""
    half = rng.uniform(140, 215)
    tall = half * rng.uniform(0.75, 1.2)
    z, x = np.meshgrid(np.linspace(-tall, tall, size), np.linspace(-half, half, size), indexing="ij")
    tilt = rng.uniform(-0.08, 0.08)
    scene = Scene(
        x=(x * np.cos(tilt) - z * np.sin(tilt)).astype(np.float32),
        z=(x * np.sin(tilt) + z * np.cos(tilt) + rng.uniform(-25, 25)).astype(np.float32),
        rng=rng,
    )
    attenuation, lungs, opacities = _attenuate(scene, has_opacity=has_opacity)
    return DrawnRadiograph(
        film=_expose(attenuation, rng), lungs=lungs > SEEN_MM, opacity=opacities > SEEN_MM * (1 - LUNG_DENSITY)
    )


def _attenuate(scene: Scene, *, has_opacity: bool) -> tuple[Pixels, Pixels, Pixels]:
    """Return the attenuation of each ray, and its paths through lung and through opacities, mm."""
    rng = scene.rng
    width, depth, height = rng.uniform(145, 195), rng.uniform(95, 130), rng.uniform(160, 400)
    body = chord_mm(scene, (0, 0), (width, depth, height), (rng.uniform(2, 3.5), rng.uniform(2, 8)))
    lungs = [_draw_lung(scene, side, width, depth) for side in (-1, 1)]
    if rng.random() < 0.5:
        for side in (-1, 1):
            body = np.maximum(
                body, chord_mm(scene, (side * 150, -140), (rng.uniform(60, 100), 60, rng.uniform(40, 70)))
            )
    heart = chord_mm(
        scene,
        (rng.uniform(5, 30), rng.uniform(20, 60)),
        (rng.uniform(35, 60), rng.uniform(30, 50), rng.uniform(40, 75)),
    )
    if rng.random() < 0.2:  # Simple phantoms have no heart.
        heart *= 0
    both = lungs[0] + lungs[1]
    air = np.maximum(both - heart, 0) * (1 - LUNG_DENSITY)
    soft = body - air + _draw_vessels(scene, both)
    opacities = _draw_opacities(scene, lungs) if has_opacity else np.zeros_like(body)
    soft = soft + opacities
    bones = _draw_bones(scene, body, width)
    attenuation = np.asarray(TISSUE_PER_MM * np.maximum(soft, 0) + BONE_PER_MM * bones, np.float32)
    return attenuation, both, opacities


def _draw_lung(scene: Scene, side: int, width: float, depth: float) -> Pixels:
    """Return one lung: rounded or tapered above, and in most bodies cut by a dome below."""
    rng = scene.rng
    center = (side * width * rng.uniform(0.42, 0.52), rng.uniform(-15, 15))
    axes = (width * rng.uniform(0.32, 0.42), depth * rng.uniform(0.55, 0.8), rng.uniform(95, 175))
    taper = np.clip(1 + rng.uniform(0, 0.5) * np.minimum(scene.z, 0) / axes[2], 0.3, 1)
    narrow = Scene(x=((scene.x - center[0]) / taper + center[0]).astype(np.float32), z=scene.z, rng=rng)
    lung = chord_mm(narrow, center, axes, (rng.uniform(2.0, 2.8), rng.uniform(2.0, 5.0)))
    if rng.random() < 0.75:
        dome = rng.uniform(60, 115) + rng.uniform(10, 45) * ((scene.x - 0.9 * center[0]) / axes[0]) ** 2
        lung = lung / (1 + np.exp(np.clip((scene.z - dome) / rng.uniform(2, 10), -30, 30)))
    return np.asarray(lung, np.float32)


def _draw_vessels(scene: Scene, lungs: Pixels) -> Pixels:
    rng = scene.rng
    total = np.zeros_like(scene.x)
    for _ in range(int(rng.integers(0, 24))):
        start = np.array([rng.choice((-1, 1)) * rng.uniform(15, 40), rng.uniform(-20, 30)])
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(30, 110)
        direction = np.array([np.cos(angle), np.sin(angle)])
        along = (scene.x - start[0]) * direction[0] + (scene.z - start[1]) * direction[1]
        across = (scene.x - start[0]) * direction[1] - (scene.z - start[1]) * direction[0]
        radius = rng.uniform(1.5, 5) * np.clip(1 - along / length, 0, 1) * (along > 0)
        total += 2 * np.sqrt(np.maximum(radius**2 - across**2, 0))
    for _ in range(int(rng.integers(0, 4))):  # A nodule is no opacity: both labels have them.
        spot = (rng.uniform(-110, 110), rng.uniform(-90, 90))
        radius = rng.uniform(2, 6)
        total += chord_mm(scene, spot, (radius, radius, radius))
    return np.asarray(np.minimum(total, lungs), np.float32)


def _draw_opacities(scene: Scene, lungs: list[Pixels]) -> Pixels:
    rng = scene.rng
    total = np.zeros_like(scene.x)
    for _ in range(int(rng.integers(1, 4))):
        lung = lungs[int(rng.integers(0, 2))]
        inside = np.argwhere(lung > 0.6 * lung.max())
        row, column = inside[int(rng.integers(len(inside)))]
        center = (float(scene.x[row, column]), float(scene.z[row, column]))
        axes = rng.uniform(20, 58), rng.uniform(30, 60), rng.uniform(20, 62)
        patch = cloud_patch(chord_mm(scene, center, axes), rng)
        total += patch * rng.uniform(0.7, 1.0)
    return np.asarray(np.minimum(total, lungs[0] + lungs[1]) * (1 - LUNG_DENSITY), np.float32)


def cloud_patch(patch: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a smooth patch made patchy and frayed, as airspace disease is, or left alone."""
    if rng.random() < 0.6:
        noise = ndimage.gaussian_filter(rng.standard_normal(patch.shape), rng.uniform(1, 5))
        patch = np.asarray(patch * np.clip(0.85 + 0.3 * noise / noise.std(), 0, 1.5), np.float32)
    if rng.random() < 0.7:
        patch = np.asarray(ndimage.gaussian_filter(patch, rng.uniform(0.5, 4)), np.float32)
    return patch


def paste_opacity(film: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a real, normal film (size, size) with one to three clouds where it is dark, as a lung is.

    Pneumonia on real films comes with other age, posture and lines; a cloud on a normal film comes alone, so that the
    network has to look at the lung.
    """
    size = len(film)
    place = (np.arange(size) + 0.5) / size
    smooth = ndimage.gaussian_filter(film, size / 24)
    across, down = np.abs(place - 0.5)[None, :], place[:, None]
    lung = (across > 0.08) & (across < 0.36) & (down > 0.2) & (down < 0.75)
    dark = np.argwhere(lung & (smooth < np.percentile(smooth[lung], 50)))
    z, x = (np.asarray(v * 400 - 200, np.float32) for v in np.meshgrid(place, place, indexing="ij"))
    scene = Scene(x=x, z=z, rng=rng)
    cover = np.zeros_like(film)
    for _ in range(int(rng.integers(1, 4))):
        row, column = dark[int(rng.integers(len(dark)))]
        axes = rng.uniform(22, 62), 0.5, rng.uniform(22, 66)
        patch = cloud_patch(chord_mm(scene, (float(x[row, column]), float(z[row, column])), axes), rng)
        cover = np.maximum(cover, patch * rng.uniform(0.5, 0.95))
    white = np.percentile(film, rng.uniform(70, 92))
    return np.asarray(np.clip(film + np.clip(cover, 0, 1) * np.maximum(white - film, 0), 0, 1), np.float32)


def _draw_bones(scene: Scene, body: Pixels, width: float) -> Pixels:
    rng = scene.rng
    bones = np.zeros_like(scene.x)
    if rng.random() < 0.85:
        spine = chord_mm(scene, (0, 0), (rng.uniform(10, 20), rng.uniform(10, 20), 1000))
        discs = 0.85 + 0.15 * np.sign(np.sin(scene.z * 2 * np.pi / rng.uniform(22, 32)))
        bones += spine * (discs if rng.random() < 0.7 else 1.0)
    if rng.random() < 0.6:
        gap, bend, thick = rng.uniform(16, 30), rng.uniform(0.2, 0.7), rng.uniform(3, 6)
        for side in (-1, 1):
            phase = (scene.z + side * bend * np.abs(scene.x) ** 1.1 + rng.uniform(0, gap)) / gap
            wave = np.abs(phase - np.round(phase)) * gap
            bones += 6 * np.sqrt(np.maximum(1 - (wave / thick) ** 2, 0)) * (np.abs(scene.x) < 0.93 * width)
    return np.asarray(np.minimum(bones, body), np.float32)


def _expose(attenuation: Pixels, rng: np.random.Generator) -> Pixels:
    film = np.asarray(ndimage.gaussian_filter(attenuation, rng.uniform(0, 1.0)), np.float32)
    if rng.random() < 0.4:
        film = -np.exp(-film * rng.uniform(0.3, 1.0))
    if rng.random() < 0.5:  # Processed films lift detail over the broad shadows.
        film = film + rng.uniform(0.3, 1.5) * (film - ndimage.gaussian_filter(film, rng.uniform(3, 8)))
    low, high = np.percentile(film, (0.5, 99.5))
    film = np.clip((film - low) / (high - low), 0, 1) ** rng.uniform(0.7, 1.4)
    film = film + rng.standard_normal(film.shape) * rng.uniform(0, 0.02)
    return np.asarray(np.clip(film, 0, 1), np.float32)
