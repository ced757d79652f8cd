"""The things of the tabletop's tasks at a person's scale: what is put, and where it is put.

An object's frame has y up, its origin halfway between base and top, above the place where a hand
takes it; what is long lies along x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ego_ops.synthetic import meshes, tabletop_looks
from ego_ops.synthetic.lofts import loft
from ego_ops.synthetic.meshes import Mesh
from ego_ops.synthetic.things import Distance, Thing, box_distance, turned_distance

Floats = NDArray[np.float64]
CUBE = 0.07
"""Edge of a toy block, metres."""
_SKIN, _LEAF = (0.0, 0.0, 0.745, 1.0), (0.755, 0.0, 1.0, 1.0)
"""Parts of the texture of a vegetable."""


def _lying(mesh: Mesh) -> Mesh:
    """A mesh that is z up, y up."""
    turn = Rotation.from_euler("x", -90, degrees=True)
    return replace(mesh, vertices=turn.apply(mesh.vertices), normals=turn.apply(mesh.normals))


def _body(middle: ArrayLike, width: ArrayLike, height: ArrayLike, dip: ArrayLike = 0.0) -> Mesh:
    """`loft` with y up: `middle` (N, 3), half axes across (z) and up (y), metres."""
    return _lying(loft(np.asarray(middle) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
                       width, height, dip))  # fmt: skip


def _rod_distance(middle: Floats, radius: Floats) -> Distance:
    """Distance, nearly, from a round body about a middle line (N, 3) of slowly changing radius."""
    step = np.diff(middle, axis=0)
    square = (step**2).sum(axis=1)

    def distance(points: Floats) -> Floats:
        to = points[:, None] - middle[:-1]
        along = np.clip((to * step).sum(axis=2) / square, 0, 1)
        apart = np.linalg.norm(to - along[..., None] * step, axis=2)
        return np.asarray((apart - radius[:-1] - along * np.diff(radius)).min(axis=1))

    return distance


def _moved_distance(distance: Distance, offset: ArrayLike) -> Distance:
    return lambda points: distance(points - np.asarray(offset))


def _either(*parts: Distance) -> Distance:
    return lambda points: np.min([part(points) for part in parts], axis=0)


def mirrored(thing: Thing) -> Thing:
    """A thing as a mirror across x shows it."""
    flip = np.array([-1.0, 1.0, 1.0])
    mesh = thing.mesh
    seen = Mesh(mesh.vertices * flip, mesh.normals * flip, mesh.uv, mesh.faces[:, ::-1])
    return replace(thing, mesh=seen, distance=lambda points: thing.distance(points * flip))


def spoon(rng: np.random.Generator) -> Thing:
    """A wooden spoon of 24 cm that lies on its bowl (at -x), its handle rising."""
    x = np.concatenate([np.linspace(-0.115, 0.05, 16), np.linspace(0.056, 0.125, 18)])
    bowl = np.clip((x - 0.05) / 0.075, 0, 1)
    oval = np.sqrt(np.clip(1 - ((bowl - 0.52) / 0.5) ** 2, 0, 1)) * (bowl > 0.03)
    handle = np.interp(x, [-0.115, -0.11, -0.09, 0.05, 0.125], [0.005, 0.0085, 0.009, 0.007, 0.004])
    width = np.maximum(handle, 0.028 * oval)
    height = np.maximum(np.interp(x, [-0.115, 0.05, 0.07, 0.125], [0, 0, 0.009, 0.005]), 0)
    height = np.where(x < 0.053, handle, np.maximum(height, 0.006))
    up = np.interp(x, [-0.115, 0.05, 0.075, 0.125], [0.040, 0.0175, 0.009, 0.009])
    tall = 0.049
    middle = np.stack([x, up - tall / 2, 0 * x], axis=1)
    mesh = _body(middle, width, height, 0.011 * oval**2)
    image = tabletop_looks.timber(
        rng, tabletop_looks.tint(rng, (0.07, 0.10), (0.4, 0.6), (0.7, 0.92))
    )
    held = x < 0.056
    distance = _either(
        _rod_distance(middle[held], handle[held]),
        _moved_distance(box_distance(np.array([0.07, 0.018, 0.05])), [0.089, 0.009 - tall / 2, 0]),
    )
    return mirrored(Thing("spoon", mesh, image, distance, tall, 0.128, 0.24, 0.056, 0.1))


def carrot(rng: np.random.Generator) -> Thing:
    """A carrot of 17 cm with a tuft of green."""
    x = np.linspace(-0.075, 0.095, 34)
    s = (x - x[0]) / (x[-1] - x[0])
    radius = np.interp(s, [0, 0.03, 0.1, 0.5, 0.9, 1], [0.010, 0.019, 0.023, 0.0195, 0.010, 0.002])
    radius = radius * rng.uniform(0.95, 1.05) + 0.0005 * np.sin(61 * s) + 0.0004 * np.sin(97 * s)
    middle = np.stack([x, 0 * x, 0 * x], axis=1)
    parts = [_body(middle, radius, radius).in_cell(*_SKIN)]
    for side, rise, long in ((0, 0.010, 0.05), (0.014, 0.016, 0.045), (-0.013, 0.015, 0.047),
                             (0.007, -0.004, 0.04), (-0.009, -0.006, 0.042)):  # fmt: skip
        t = np.linspace(1, 0, 9)
        stem = np.stack([-0.07 - long * t, rise * t, side * t], axis=1)
        thick = 0.0022 + 0.0035 * np.sin(np.pi * t) * t
        parts.append(_body(stem, thick, 0.7 * thick).in_cell(*_LEAF))
    base = tabletop_looks.tint(rng, (0.055, 0.075), (0.82, 0.93), (0.9, 1.0))
    leaf = tabletop_looks.tint(rng, (0.28, 0.34), (0.6, 0.75), (0.4, 0.55))
    image = tabletop_looks.vegetable(rng, base, leaf, 55, 12)
    distance = _rod_distance(middle, radius)
    tall = 2 * float(radius.max())
    return Thing("carrot", meshes.merge(parts), image, distance, tall, 0.122, 0.17, tall)


def eggplant(rng: np.random.Generator) -> Thing:
    """An eggplant of 17 cm with its green calyx and stalk."""
    x = np.linspace(-0.075, 0.075, 36)
    s = (x - x[0]) / 0.15
    radius = np.interp(s, [0, 0.3, 0.55, 0.8, 1], [0.0335, 0.034, 0.030, 0.025, 0.021])
    radius = radius * np.sqrt(np.clip(1 - ((0.28 - s) / 0.285) ** 2, 0.01, 1) ** (s < 0.28))
    radius[-1] = 0.012
    radius *= rng.uniform(0.95, 1.05)
    middle = np.stack([x, 0 * x, 0 * x], axis=1)
    cap_x = np.linspace(0.055, 0.082, 9)
    cap = np.interp(
        cap_x, [0.055, 0.06, 0.07, 0.075, 0.082], [0.0262, 0.0268, 0.0235, 0.016, 0.006]
    )
    calyx = _body(np.stack([cap_x, 0 * cap_x, 0 * cap_x], axis=1), cap, cap)
    t = np.linspace(0, 1, 8)
    stalk = _body(np.stack([0.079 + 0.02 * t, 0.010 * t**2, 0 * t], axis=1),
                  0.006 - 0.001 * t, 0.006 - 0.001 * t)  # fmt: skip
    parts = [_body(middle, radius, radius).in_cell(*_SKIN)]
    parts += [part.in_cell(*_LEAF) for part in (calyx, stalk)]
    base = tabletop_looks.tint(rng, (0.75, 0.80), (0.5, 0.65), (0.38, 0.5))
    leaf = tabletop_looks.tint(rng, (0.26, 0.33), (0.5, 0.7), (0.4, 0.55))
    image = tabletop_looks.vegetable(rng, base, leaf, 14, 45)
    distance = _rod_distance(middle, radius)
    tall = 2 * float(radius.max())
    return Thing("eggplant", meshes.merge(parts), image, distance, tall, 0.10, 0.17, tall, 0.4)


def _cube(rng: np.random.Generator, name: str, hue: tuple[float, float], value: float) -> Thing:
    sides = np.full(3, CUBE)
    base = tabletop_looks.tint(rng, hue, (0.7, 0.9), (value - 0.1, value + 0.1))
    image = tabletop_looks.toy_block(rng, base)
    mesh = meshes.box(sides, atlas=True)
    return Thing(name, mesh, image, box_distance(sides), CUBE, 0.71 * CUBE, CUBE, CUBE)


def green_cube(rng: np.random.Generator) -> Thing:
    """The toy block to be put on the other."""
    return _cube(rng, "green cube", (0.32, 0.38), 0.66)


def yellow_cube(rng: np.random.Generator) -> Thing:
    """The toy block below."""
    return _cube(rng, "yellow cube", (0.13, 0.155), 0.9)


def towel(rng: np.random.Generator) -> Thing:
    """A folded towel of 26 x 20 cm."""
    sides = np.array([0.26, 0.012, 0.20]) * rng.uniform([0.92, 1, 0.92], [1.08, 1, 1.08])
    image = tabletop_looks.terry(
        rng, tabletop_looks.tint(rng, (0.45, 0.54), (0.45, 0.7), (0.5, 0.75))
    )
    mesh, reach = meshes.box(sides, atlas=True), float(np.hypot(sides[0], sides[2]) / 2)
    return Thing("towel", mesh, image, box_distance(sides), sides[1], reach, sides[0], sides[2], 0)


def plate(rng: np.random.Generator) -> Thing:
    """A plate of 24 cm with a raised rim."""
    profile = np.array([
        (0.0005, 0.0), (0.070, 0.0), (0.076, 0.003), (0.100, 0.010), (0.118, 0.018),
        (0.120, 0.020), (0.117, 0.021), (0.098, 0.014), (0.076, 0.009), (0.0005, 0.008),
    ])  # fmt: skip
    profile[:, 0] *= rng.uniform(0.94, 1.04)
    tall = 0.021
    base = tabletop_looks.tint(rng, (0.09, 0.14), (0.06, 0.2), (0.88, 0.98))
    mesh = meshes.lathe(profile).moved([0, -tall / 2, 0])
    distance = turned_distance(profile, tall / 2)
    wide = 2 * float(profile[:, 0].max())
    return Thing(
        "plate", mesh, tabletop_looks.china(rng, base), distance, tall, wide / 2, wide, wide, 0.4
    )


def basket(rng: np.random.Generator) -> Thing:
    """An open wicker basket of 28 x 21 cm, 6 cm high."""
    (x, z), tall, wall = np.array([0.14, 0.105]) * rng.uniform(0.95, 1.05, 2), 0.06, 0.008
    low = -tall / 2
    boxes = [([2 * x, 0.008, 2 * z], [0, low + 0.004, 0])]
    for sign in (-1, 1):
        boxes.append(([wall, tall, 2 * z], [sign * (x - wall / 2), 0, 0]))
        boxes.append(([2 * x, tall, wall], [0, 0, sign * (z - wall / 2)]))
    parts = [meshes.box(size, atlas=False).moved(at) for size, at in boxes]
    distance = _either(*(_moved_distance(box_distance(np.array(s)), at) for s, at in boxes))
    base = tabletop_looks.tint(rng, (0.08, 0.11), (0.45, 0.65), (0.65, 0.9))
    image = tabletop_looks.wicker(rng, base)
    return Thing(
        "basket", meshes.merge(parts), image, distance, tall, float(np.hypot(x, z)), 2 * x, 2 * z, 0
    )


MAKERS: dict[str, Callable[[np.random.Generator], Thing]] = {
    maker.__name__: maker
    for maker in (spoon, carrot, eggplant, green_cube, yellow_cube, towel, plate, basket)
}
SURFACE = {"towel": 0.012, "plate": 0.008, "yellow_cube": CUBE, "basket": 0.008}
"""Height above the table, metres, of what things are put on."""
