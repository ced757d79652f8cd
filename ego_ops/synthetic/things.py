"""Things that lie on a table: mesh, texture and signed distance of each.

An object's frame has its origin in the middle of the object (of its body, for a mug), y up and
the printed side towards +z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ego_ops.synthetic import meshes, textures
from ego_ops.synthetic.meshes import Mesh
from ego_ops.synthetic.textures import Image

Floats = NDArray[np.float64]
Distance = Callable[[Floats], Floats]
"""(N, 3) points in the object's frame to (N,) metres outside (positive) or inside its surface."""


@dataclass(frozen=True)
class Thing:
    """One object: how it looks and how far a point is from it."""

    name: str
    mesh: Mesh
    texture: Image
    distance: Distance
    height: float
    """Metres from its base to its top, the origin halfway."""
    reach: float
    """Radius of its footprint on the table, metres."""
    width: float
    """Metres along its x axis, without a handle."""
    depth: float
    """Metres along its z axis."""
    gloss: float = 0.15


def box_distance(size: Floats) -> Distance:
    half = size / 2

    def distance(points: Floats) -> Floats:
        q = np.abs(points) - half
        outside = np.linalg.norm(np.maximum(q, 0), axis=1)
        return np.asarray(outside + np.minimum(q.max(axis=1), 0))

    return distance


def turned_distance(profile: Floats, middle: float) -> Distance:
    """Distance from a solid of revolution; `profile` (P, 2) as `meshes.lathe` takes it.

    Args:
        middle: height in the profile where the object's origin lies.
    """
    start, step = profile[:-1], np.diff(profile, axis=0)

    def distance(points: Floats) -> Floats:
        flat = np.stack([np.hypot(points[:, 0], points[:, 2]), points[:, 1] + middle], axis=1)
        to = flat[:, None] - start
        along = np.clip((to * step).sum(axis=2) / (step**2).sum(axis=1), 0, 1)
        apart = np.linalg.norm(to - along[..., None] * step, axis=2).min(axis=1)
        # Inside, a ray away from the axis leaves the solid once more than it enters it.
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = to[..., 1] / step[:, 1]
            further = start[:, 0] + crossing * step[:, 0] > flat[:, None, 0]
        crossed = ((crossing >= 0) & (crossing < 1) & further).sum(axis=1)
        return np.asarray(np.where(crossed % 2, -apart, apart))

    return distance


def _printed_sides(rng: np.random.Generator, size: Floats, title: str) -> Image:
    x, y, z = size
    hue, scale = rng.random(), 560 / size.max()
    shapes = {"front": (x, y), "right": (z, y), "top": (x, z), "back": (x, y), "left": (z, y)}
    cells = []
    for side in meshes.BOX_SIDES:
        width, height = (max(80, round(n * scale)) for n in shapes.get(side, (x, z)))
        cells.append(textures.label(rng, height, width, hue, title))
    return textures.atlas(cells, 1000, 1200)


def box(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A printed carton of `size` (width, height, depth) metres."""
    sides = np.array(size) * rng.uniform(0.95, 1.05, 3)
    x, y, z = sides
    printed = _printed_sides(rng, sides, str(rng.choice(textures.WORDS)))
    texture = textures.finish(printed, rng)
    mesh = meshes.box(sides, atlas=True)
    reach = float(np.hypot(x, z) / 2)
    return Thing(name, mesh, texture, box_distance(sides), y, reach, x, z)


def book(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A hardcover that stands upright, its cover to the front and its spine to the left."""
    thing = box(rng, name, size)
    texture = thing.texture.copy()
    half, third = texture.shape[0] // 2, texture.shape[1] // 3
    for side in ("right", "top", "bottom"):
        row, column = divmod(meshes.BOX_SIDES.index(side), 3)
        cell = texture[row * half : (row + 1) * half, column * third : (column + 1) * third]
        # Leaves lie across the thickness: along u on the right side, along v on the others.
        leaves = cell.swapaxes(0, 1) if side == "right" else cell
        board = len(leaves) // 12
        shade = rng.normal(0, 16, (len(leaves) - 2 * board, 1, 1))
        leaves[board:-board] = np.clip(np.array([226, 216, 192]) + shade, 0, 255)
    return replace(thing, texture=texture)


def _turned(
    rng: np.random.Generator, name: str, profile: list[tuple[float, float]], radius: float,
    printed: tuple[float, float], gloss: float,
) -> Thing:  # fmt: skip
    """A thing turned on a lathe, printed between two heights.

    Args:
        profile: (radius, height) from the middle of the base up, heights from 0.
        radius: of the part that a hand takes, metres.
        printed: lowest and highest height of the label, metres.
    """
    points = np.array(profile)
    top = float(points[:, 1].max())
    mesh = meshes.lathe(points).moved([0, -top / 2, 0])
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    outer = int(np.argmax(points[:, 1])) + 1
    low, high = np.interp(printed, points[:outer, 1], arc[:outer]) / arc[-1]
    rows, columns = 1000, 1200
    hue, title = rng.random(), str(rng.choice(textures.WORDS))
    base = textures.colour(hue + 0.5, rng.uniform(0.0, 0.35), rng.uniform(0.5, 0.85))
    texture = textures.glaze(rng, rows, columns, base)
    first, last = round((1 - high) * rows), round((1 - low) * rows)
    halves = [textures.label(rng, last - first, columns // 2, hue, title) for _ in range(2)]
    # The label's middle, not the joint of its two halves, faces +z (u = 0).
    around = np.roll(np.hstack(halves), columns // 4, axis=1)
    texture[first:last] = textures.finish(around, rng)
    distance = turned_distance(points, top / 2)
    return Thing(name, mesh, texture, distance, top, radius, 2 * radius, 2 * radius, gloss)


def can(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A tin: `size` (diameter, height, unused) metres."""
    r, h = size[0] / 2 * rng.uniform(0.95, 1.05), size[1] * rng.uniform(0.95, 1.05)
    profile = [
        (0.0005, 0.002), (r - 0.004, 0.002), (r - 0.003, 0), (r, 0.003), (r, h - 0.003),
        (r - 0.003, h), (r - 0.004, h - 0.003), (0.0005, h - 0.003),
    ]  # fmt: skip
    return _turned(rng, name, profile, r, (0.008, h - 0.008), 0.4)


def bottle(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A bottle with shoulders and a cap: `size` (diameter, height, unused) metres."""
    r, h = size[0] / 2 * rng.uniform(0.95, 1.05), size[1] * rng.uniform(0.95, 1.05)
    shoulder = [
        (r * (0.42 + 0.58 * np.cos(a)), h * (0.68 + 0.16 * np.sin(a)))
        for a in np.linspace(0, np.pi / 2, 8)
    ]
    profile = [
        (0.0005, 0.0), (r - 0.004, 0.0), (r, 0.004), *shoulder, (r * 0.38, h * 0.88),
        (r * 0.46, h * 0.88), (r * 0.46, h - 0.003), (r * 0.42, h), (0.0005, h),
    ]  # fmt: skip
    return _turned(rng, name, profile, r, (0.01, h * 0.66), 0.3)


def bowl(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """An open bowl: `size` (diameter, height, unused) metres."""
    r, h = size[0] / 2, size[1]
    angles = np.linspace(0, np.pi / 2, 10)
    outer = [(r * (0.45 + 0.55 * np.sin(a)), h * (1 - np.cos(a))) for a in angles]
    inner = [(0.94 * x, 0.006 + 0.94 * y) for x, y in reversed(outer[:-1])]
    return _turned(
        rng, name, [(0.0005, 0.0), *outer, *inner, (0.0005, 0.006)], r, (0.3 * h, 0.9 * h), 0.4
    )


def mug(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A mug with its handle to the left (-x): `size` (diameter, height, unused) metres."""
    r, h = size[0] / 2 * rng.uniform(0.95, 1.05), size[1] * rng.uniform(0.95, 1.05)
    wall = 0.004
    profile = [
        (0.0005, 0.0), (r - 0.003, 0.0), (r, 0.003), (r, h - 0.002), (r - wall / 2, h),
        (r - wall, h - 0.002), (r - wall, 0.008), (0.0005, 0.008),
    ]  # fmt: skip
    body = _turned(rng, name, profile, r, (0.006, h - 0.006), 0.4)
    turn = np.linspace(0.5 * np.pi, 1.5 * np.pi, 16)
    path = np.stack([0.75 * np.cos(turn), np.sin(turn), 0 * turn], axis=1) * 0.31 * h
    handle = meshes.tube(path - [r - 0.002, 0, 0], 0.0055).in_cell(0, 0, 1, 0.03)
    mesh = meshes.merge([body.mesh, handle])
    reach = r + 0.25 * h
    return Thing(name, mesh, body.texture, body.distance, h, reach, 2 * r, 2 * r, 0.4)


def lamp(rng: np.random.Generator, name: str, size: tuple[float, float, float]) -> Thing:
    """A lamp's shade on a rod that goes up: `size` (diameter, height, unused) metres."""
    r, h = size[0] / 2, size[1]
    profile = [
        (0.0005, 0.0), (r - 0.003, 0.0), (r, 0.003), (0.75 * r, 0.05), (0.5 * r, 0.06),
        (0.006, 0.066), (0.006, h), (0.0005, h),
    ]  # fmt: skip
    return _turned(rng, name, profile, r, (0.006, 0.045), 0.3)


MAKERS = {"box": box, "book": book, "can": can, "bottle": bottle, "bowl": bowl, "mug": mug}
