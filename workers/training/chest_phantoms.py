"""Synthetic chest CT slabs with known nodules, for training only.

Drawn by other rules than the phantoms of the rehearsal, and more varied: many nodules in a slab, on the pleura, on
vessels, solid and not, with the noise of many scanners.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.volume import Volume

FloatArray = NDArray[np.float32]
Vector = NDArray[np.float64]
FOV_MM = (230.0, 310.0)  # rows, columns
EDGE_MM = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """One synthetic nodule.

    Attributes
    ----------
    center_mm
        (z, y, x), mm, in the phantom's own axes.
    radius_mm
        Mean radius, mm.
    """

    center_mm: Vector
    radius_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A Volume with the indices and radii of its nodules.

    Attributes
    ----------
    index
        (n, 3) float64, native indices of the nodule centres.
    radius_mm
        (n,) float64.
    """

    volume: Volume
    index: NDArray[np.float64]
    radius_mm: NDArray[np.float64]


class _Scene:
    """A slab under the brush: voxels, their places in mm, and chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        in_plane = rng.uniform(0.72, 0.98)
        self.spacing = np.array([rng.choice([0.8, 1.0, 1.25, 1.5, 2.0, 2.5]), in_plane, in_plane])
        extent = np.array([rng.uniform(70, 100), *FOV_MM])
        shape = np.ceil(extent / self.spacing).astype(int)
        z0 = rng.uniform(-95, 30)
        origin = np.array([z0, -FOV_MM[0] / 2, -FOV_MM[1] / 2])
        self.origin = origin
        z, y, x = ((origin[a] + np.arange(shape[a]) * self.spacing[a]).astype(np.float32) for a in range(3))
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]
        self.hu = np.full(tuple(shape), -1000.0, dtype=np.float32)
        self.airy = np.zeros(tuple(shape), dtype=bool)

    def box(self, low: Vector, high: Vector) -> tuple[slice, slice, slice] | None:
        start = np.maximum(0, np.floor((low - self.origin) / self.spacing)).astype(int)
        stop = np.minimum(self.hu.shape, np.ceil((high - self.origin) / self.spacing) + 1)
        if (start >= stop).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return z, y, x

    def smooth_noise(self, shape: tuple[int, ...], sigma_mm: float) -> FloatArray:
        field = self.rng.standard_normal(shape).astype(np.float32)
        field = ndimage.gaussian_filter(field, sigma_mm / self.spacing, mode="wrap", truncate=2.5)
        return field / np.float32(field.std() + 1e-6)


def draw_phantom(rng: np.random.Generator, *, nodules: int) -> Phantom:
    """Return one slab with about `nodules` nodules; those that find no room are left out."""
    scene = _Scene(rng)
    _draw_body(scene)
    _draw_lungs(scene)
    _draw_skeleton(scene)
    _draw_bumps(scene)
    segments = list(_grow_vessels(rng))
    _draw_vessels(scene, segments)
    _draw_airways(scene)
    _draw_streaks(scene)
    placed = _draw_nodules(scene, segments, nodules)
    _acquire(scene)
    affine = np.eye(4)
    affine[:3, 0] = [0, 0, scene.spacing[0]]
    affine[:3, 1] = [0, scene.spacing[1], 0]
    affine[:3, 2] = [scene.spacing[2], 0, 0]
    affine[:3, 3] = scene.origin[::-1]
    spacing = tuple(float(s) for s in scene.spacing)
    volume = Volume(
        voxels=scene.hu,
        affine=affine,
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        frame_of_reference_uid="2.25.1",
        datasets=(),
    )
    centers = np.array([n.center_mm for n in placed]).reshape(-1, 3)
    return Phantom(
        volume=volume,
        index=(centers - scene.origin) / scene.spacing,
        radius_mm=np.array([n.radius_mm for n in placed]),
    )


def _ellipse(u: FloatArray, v: FloatArray, a: float, b: float) -> FloatArray:
    level: FloatArray = np.hypot(u / np.float32(a), v / np.float32(b))
    return level


def _draw_body(scene: _Scene) -> None:
    rng = scene.rng
    level = _ellipse(scene.x, scene.y, 142, 106) + 0 * scene.z
    scene.hu[level < 1] = -100
    scene.hu[level < rng.uniform(0.88, 0.96)] = rng.uniform(25, 65)


def _draw_lungs(scene: _Scene) -> None:
    rng = scene.rng
    wobble = 0.035 * scene.smooth_noise(scene.hu.shape, 16.0)
    lungs = np.zeros_like(scene.airy)
    for side in (-1, 1):
        reach_z = np.float32(rng.uniform(100, 130))
        center_x, center_y = side * rng.uniform(62, 70), rng.uniform(-6, 6)
        wide, deep = rng.uniform(50, 60), rng.uniform(74, 86)
        flat = _ellipse(scene.x - np.float32(center_x), scene.y - np.float32(center_y), wide, deep)
        lungs |= flat**2 + (scene.z / reach_z) ** 4 + wobble < 1
    # A wall of at least 10 mm: a lung that opens to the outside air is no lung.
    lungs &= _ellipse(scene.x, scene.y, 130, 94) + 0 * scene.z < 1
    lungs &= np.abs(scene.x) > 16 + 7 * np.cos(scene.y / 21) + 0 * scene.z
    tilt = np.float32(rng.uniform(-0.2, 0.2))
    heart = _ellipse(scene.x - 18 - tilt * scene.z, scene.y + np.float32(36), 50, 38) + wobble < 1
    heart = heart & (scene.z < rng.uniform(-30, 40))
    dome = (scene.x - 70 * np.sign(scene.x)) ** 2 + scene.y**2 < (58**2) * (1 - ((scene.z + 125) / 75) ** 2)
    scene.airy = lungs & ~heart & ~dome
    texture = scene.smooth_noise(scene.hu.shape, rng.uniform(1.2, 3.5)) * rng.uniform(3, 28)
    level = rng.uniform(-905, -800) + rng.uniform(0, 0.5) * scene.y
    scene.hu = np.where(scene.airy, level.astype(np.float32) + texture, scene.hu).astype(np.float32)


def _draw_skeleton(scene: _Scene) -> None:
    rng, body = scene.rng, ~scene.airy & (scene.hu > -300)
    spine = _ellipse(scene.x, scene.y - np.float32(66), 20, 16) + 0 * scene.z < 1
    scene.hu[spine & body] = rng.uniform(150, 350)
    pitch, slope = rng.uniform(22, 30), rng.uniform(0.2, 0.5)
    ring = _ellipse(scene.x, scene.y, 126, 92)
    band = np.abs(np.mod(scene.z + slope * scene.y, np.float32(pitch)) - pitch / 2)
    ribs = ((ring - 1) * 105 / 4.0) ** 2 + (band / 6.0) ** 2 < 1
    # Ribs push the pleura inwards: the bump beside a rib is a classic false nodule.
    scene.hu[ribs] = rng.uniform(200, 500)
    scene.airy &= ~ribs


def _draw_bumps(scene: _Scene) -> None:
    """Draw what pushes the lung's surface in with a broad base: cartilage, rib ends, osteophytes, great vessels."""
    rng = scene.rng
    coarse = scene.airy[::2, ::3, ::3]
    rim = np.argwhere(coarse & ~ndimage.binary_erosion(coarse)) * np.array([2, 3, 3])
    for _ in range(int(rng.integers(15, 40))):
        place = scene.origin + rim[rng.integers(len(rim))] * scene.spacing
        axes = rng.uniform((4, 4, 4), (12, 13, 13))
        turn = rng.uniform(0, np.pi)
        box = scene.box(place - 15, place + 15)
        if box is None:
            continue
        w = (scene.z[box[0]] - np.float32(place[0])) / axes[0]
        v = scene.y[:, box[1]] - np.float32(place[1])
        u = scene.x[:, :, box[2]] - np.float32(place[2])
        along = (u * np.cos(turn) + v * np.sin(turn)) / axes[1]
        across = (v * np.cos(turn) - u * np.sin(turn)) / (0.5 * axes[2])
        bump = (w**2 + along**2 + across**2 < 1) & scene.airy[box]
        scene.hu[box][bump] = rng.choice([rng.uniform(-110, 60), rng.uniform(60, 400)])
        scene.airy[box] &= ~bump


def _grow_vessels(rng: np.random.Generator) -> Iterator[tuple[Vector, Vector, float, float]]:
    """Yield the pieces of two vascular trees a lung: start, end (z, y, x), radius at each, mm."""
    for side in (-1, 1):
        for root in range(rng.integers(22, 34)):
            radius = rng.uniform(1.6, 4.5)
            start = np.array([rng.uniform(-95, 75), rng.uniform(-22, 26), side * rng.uniform(24, 40)])
            heading = np.array([rng.normal(0, 0.6), rng.normal(0, 0.9), side * rng.uniform(0.3, 1.2)])
            yield from _grow_branch(rng, start, heading, radius, depth=root % 2)


def _grow_branch(
    rng: np.random.Generator, start: Vector, heading: Vector, radius: float, *, depth: int
) -> Iterator[tuple[Vector, Vector, float, float]]:
    heading = heading / np.linalg.norm(heading)
    for _ in range(rng.integers(2, 5)):
        thinner = radius * rng.uniform(0.86, 0.98)
        end = start + heading * rng.uniform(4, 8)
        yield start, end, radius, thinner
        start, radius = end, thinner
        heading = heading + rng.normal(0, 0.22, 3)
        heading = heading / np.linalg.norm(heading)
    if depth < 8 and radius > 0.45:
        for _ in range(2 + int(rng.random() < 0.25)):
            bent = heading + rng.normal(0, 0.6, 3)
            share = rng.uniform(0.6, 0.92)
            yield from _grow_branch(rng, start, bent, radius * share, depth=depth + 1)


def _draw_vessels(scene: _Scene, segments: list[tuple[Vector, Vector, float, float]]) -> None:
    hu = scene.rng.uniform(0, 70) if scene.rng.random() < 0.6 else scene.rng.uniform(70, 280)
    for start, end, first, last in segments:
        reach = max(first, last) + EDGE_MM
        box = scene.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if box is None:
            continue
        cover = _tube_cover(scene, box, (start, end, first, last)) * scene.airy[box]
        part = scene.hu[box]
        np.maximum(part, part + cover * (np.float32(hu) - part), out=part)


def _tube_cover(
    scene: _Scene, box: tuple[slice, slice, slice], tube: tuple[Vector, Vector, float, float]
) -> FloatArray:
    start, end, first, last = tube
    run = (end - start).astype(np.float32)
    w = scene.z[box[0]] - np.float32(start[0])
    v = scene.y[:, box[1]] - np.float32(start[1])
    u = scene.x[:, :, box[2]] - np.float32(start[2])
    along = np.clip((w * run[0] + v * run[1] + u * run[2]) / np.float32(run @ run), 0, 1)
    gap = np.sqrt((w - along * run[0]) ** 2 + (v - along * run[1]) ** 2 + (u - along * run[2]) ** 2)
    radius = np.float32(first) + np.float32(last - first) * along
    cover: FloatArray = np.clip((radius - gap) / np.float32(EDGE_MM) + np.float32(0.5), 0, 1)
    return cover


def _draw_airways(scene: _Scene) -> None:
    rng = scene.rng
    trachea = _ellipse(scene.x, scene.y - np.float32(15), 10, 8) + 0 * scene.z
    scene.hu[(trachea < 1) & (scene.z > 0)] = -990
    for _ in range(int(rng.integers(6, 14))):
        side = rng.choice([-1, 1])
        start = np.array([rng.uniform(-60, 40), rng.uniform(-15, 20), side * 28.0])
        way = np.array([rng.normal(0, 25), rng.normal(0, 20), side * rng.uniform(15, 35)])
        wide = rng.uniform(1.5, 4.0)
        for grow, hu in ((rng.uniform(0.7, 1.3), 20.0), (0.0, -980.0)):
            reach = wide + grow + EDGE_MM
            end = start + way
            box = scene.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
            if box is None:
                continue
            cover = _tube_cover(scene, box, (start, end, wide + grow, 0.7 * wide + grow))
            part = scene.hu[box]
            part += cover * (np.float32(hu) - part)


def _draw_streaks(scene: _Scene) -> None:
    """Draw fissures, scars and hazy areas: dense, but flat or without an edge."""
    rng = scene.rng
    for _ in range(int(rng.integers(2, 6))):
        normal = rng.normal(0, 1, 3)
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        middle = np.array([rng.uniform(-60, 60), rng.uniform(-50, 50), rng.choice([-65, 65])])
        gap = (scene.z - middle[0]) * normal[0] + (scene.y - middle[1]) * normal[1]
        gap = gap + (scene.x - np.float32(middle[2])) * normal[2]
        gap = gap + 2.5 * np.sin(scene.z / 17 + scene.y / 23)
        long = rng.uniform(12, 90)
        near = (scene.z - middle[0]) ** 2 + (scene.y - middle[1]) ** 2
        near = near + (scene.x - middle[2]) ** 2 < long**2
        thick = rng.uniform(0.4, 1.6)
        hu = rng.uniform(-750, -100)
        cover = np.clip((thick - np.abs(gap)) / EDGE_MM + 0.5, 0, 1) * near * scene.airy
        scene.hu = np.maximum(scene.hu, scene.hu + cover * (np.float32(hu) - scene.hu))
    if rng.random() < 0.3:
        haze = np.clip(scene.smooth_noise(scene.hu.shape, 9.0) - 1.2, 0, 1) * scene.airy
        scene.hu += (haze * rng.uniform(100, 450)).astype(np.float32)
    scene.hu = scene.hu.astype(np.float32)


def _draw_nodules(scene: _Scene, segments: list[tuple[Vector, Vector, float, float]], wanted: int) -> list[Nodule]:
    places = _nodule_places(scene, segments, 6 * wanted)
    placed: list[Nodule] = []
    for place in places:
        if len(placed) == wanted:
            break
        nodule = Nodule(center_mm=place, radius_mm=float(scene.rng.triangular(2.2, 3.8, 10.0)))
        apart = all(np.linalg.norm(place - n.center_mm) > n.radius_mm + nodule.radius_mm + 6 for n in placed)
        if apart:
            _draw_nodule(scene, nodule)
            placed.append(nodule)
    return placed


def _nodule_places(scene: _Scene, segments: list[tuple[Vector, Vector, float, float]], count: int) -> list[Vector]:
    """Return places in the free lung, on the pleura and beside vessels, in mm."""
    rng = scene.rng
    free = np.argwhere(scene.airy[::2, ::4, ::4]) * np.array([2, 4, 4])
    shell = scene.airy & ~ndimage.binary_erosion(scene.airy, iterations=3)
    rim = np.argwhere(shell[::2, ::4, ::4]) * np.array([2, 4, 4])
    twigs = [s for s in segments if s[2] < 2.0]
    places: list[Vector] = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.2 and twigs:
            start, end, first, _last = twigs[rng.integers(len(twigs))]
            place = start + (end - start) * rng.random() + rng.normal(0, 0.6, 3) * (first + 2)
        else:
            pool = rim if kind < 0.4 else free
            place = scene.origin + pool[rng.integers(len(pool))] * scene.spacing
        index = np.round((place - scene.origin) / scene.spacing).astype(int)
        # Near the ends of the slab half of a nodule would be outside and the rest ambiguous.
        inside = (index >= 0).all() and (index < scene.hu.shape).all()
        if inside and scene.airy[tuple(index)] and index[0] * scene.spacing[0] > 3:
            places.append(place)
    return places


def _draw_nodule(scene: _Scene, nodule: Nodule) -> None:
    rng, radius = scene.rng, nodule.radius_mm
    box = scene.box(nodule.center_mm - 2.2 * radius - 2, nodule.center_mm + 2.2 * radius + 2)
    if box is None:
        return
    w = scene.z[box[0]] - np.float32(nodule.center_mm[0])
    v = scene.y[:, box[1]] - np.float32(nodule.center_mm[1])
    u = scene.x[:, :, box[2]] - np.float32(nodule.center_mm[2])
    turn, _ = np.linalg.qr(rng.normal(0, 1, (3, 3)))
    axes = radius * rng.uniform(0.75, 1.3, 3)
    turned = [(row[0] * w + row[1] * v + row[2] * u) / a for row, a in zip(turn, axes, strict=True)]
    level = np.sqrt(sum(part**2 for part in turned))
    if rng.random() < 0.5:
        rough = scene.smooth_noise(level.shape, max(1.0, radius * 0.35))
        level = level + rough * rng.uniform(0.03, 0.22)
    hu = rng.choice([rng.uniform(-60, 120), rng.uniform(-300, -60), rng.uniform(-620, -350)], p=[0.6, 0.2, 0.2])
    soft = rng.uniform(0.7, 2.0)
    _blend(scene, box, np.clip((1 - level) * radius / soft + 0.5, 0, 1), hu)
    if hu < -250 and rng.random() < 0.6:  # part-solid
        core = rng.uniform(0.35, 0.7)
        _blend(scene, box, np.clip((core - level) * radius / soft + 0.5, 0, 1), rng.uniform(-100, 60))


def _blend(scene: _Scene, box: tuple[slice, slice, slice], cover: NDArray[np.floating], hu: float) -> None:
    part = scene.hu[box]
    mixed = part + cover.astype(np.float32) * (np.float32(hu) - part)
    np.copyto(part, np.maximum(part, mixed), where=scene.airy[box])


def _acquire(scene: _Scene) -> None:
    """Blur as a scanner does and add noise with the grain of a reconstruction kernel."""
    rng = scene.rng
    in_plane = rng.uniform(0.35, 0.85)
    thick = scene.spacing[0] * rng.uniform(0.3, 0.55)
    sigma = np.array([thick, in_plane, in_plane]) / scene.spacing
    scene.hu = ndimage.gaussian_filter(scene.hu, sigma, mode="nearest", truncate=2.5)
    grain = rng.uniform(0.45, 1.1)
    white = rng.standard_normal(scene.hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(white, [0.3, grain, grain], truncate=2.5).astype(np.float32)
    scene.hu = scene.hu + noise * np.float32(rng.uniform(8, 70) / float(noise.std()))
