"""The things that are handled, and those that they are put on or in.

Every thing is z up in its own frame, and its long side, if any, lies along x. What touches is
primitive shapes (group 3, not shown), what is seen is meshes: contacts between primitives are
cheaper and steadier than between meshes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ego_ops.synthetic import meshes
from ego_ops.synthetic.lofts import loft
from ego_ops.synthetic.meshes import Mesh

CUBE = 0.036
"""Edge of a cube, metres."""
_HIDDEN = 'group="3"'
_SEEN = 'contype="0" conaffinity="0" mass="0" group="1"'


class Thing(NamedTuple):
    """What a thing is made of. Lengths in metres."""

    geoms: str
    """MJCF of its geoms, in its frame."""
    meshes: dict[str, Mesh]
    rest: float
    """Height of its origin above what it lies on."""
    reach: float
    """Radius around its origin within which it lies."""
    folds: int = 2
    """How many turns about z in a full one look the same to a gripper or to what is put in it."""
    free: bool = True
    """Whether it can be moved; the towel cannot."""
    surface: float = 0.0
    """Height above the table of what things are put on, if they are."""
    top: float = 0.0
    """Height above the table of its highest point, of things that others are put on."""
    room: tuple[float, float] = (0.0, 0.0)
    """Half sizes along x and y of where the middle of what is put there has to be."""


def _visual(name: str, look: str, extra: str = "") -> str:
    return f'<geom type="mesh" mesh="{name}" material="{look}" {_SEEN} {extra}/>'


def _text(*values: float) -> str:
    return " ".join(f"{value:.5f}" for value in values)


def spoon() -> Thing:
    """A wooden spoon, 17 cm long, its handle 11 mm wide and 9 mm high. The origin is at the place
    to grasp, in the handle near the centre of mass."""
    x = np.concatenate([np.linspace(-0.085, 0.04, 14), np.linspace(0.045, 0.085, 15)])
    bowl = np.clip((x - 0.040) / 0.045, 0, 1)
    oval = np.sqrt(np.clip(1 - ((bowl - 0.52) / 0.50) ** 2, 0, 1)) * (bowl > 0.03)
    width = np.maximum(np.interp(x, [-0.085, -0.05, 0.04], [0.0062, 0.0055, 0.0045]), 0.019 * oval)
    width[0], width[-1] = 0.003, 0.004
    height = np.interp(x, [-0.085, 0.04, 0.055, 0.085], [0.0046, 0.0044, 0.0055, 0.0040])
    height[0] = 0.002
    dip = 0.0075 * oval**2
    middle = np.stack([x, 0 * x, 0 * x], axis=1)
    touching = (
        f'<geom type="box" pos="-0.02 0 0" size="{_text(0.064, 0.0055, 0.0045)}" '
        f'mass="0.022" {_HIDDEN}/>'
        f'<geom type="box" pos="0.064 0 -0.0005" size="{_text(0.018, 0.0165, 0.004)}" '
        f'mass="0.010" {_HIDDEN}/>'
    )
    mesh = {"spoon": loft(middle, width, height, dip)}
    return Thing(touching + _visual("spoon", "spoon"), mesh, rest=0.0045, reach=0.088)


def carrot() -> Thing:
    """A carrot of 12 cm with a tuft of green."""
    x = np.linspace(-0.052, 0.056, 26)
    s = (x - x[0]) / (x[-1] - x[0])
    radius = np.interp(
        s, [0, 0.04, 0.12, 0.5, 0.9, 1], [0.008, 0.0145, 0.017, 0.0138, 0.0075, 0.002]
    )
    radius = radius + 0.0004 * np.sin(41 * s) + 0.0003 * np.sin(67 * s)  # rings
    body = loft(np.stack([x, 0 * x, 0 * x], axis=1), radius, radius)
    touching = "".join(
        f'<geom type="capsule" fromto="{_text(a, 0, 0, b, 0, 0)}" size="{r}" mass="{m}" {_HIDDEN}/>'
        for a, b, r, m in (
            (-0.034, -0.010, 0.0163, 0.020),
            (-0.010, 0.020, 0.0140, 0.018),
            (0.020, 0.046, 0.0100, 0.008),
        )
    )
    tuft = "".join(
        f'<geom type="capsule" fromto="{_text(-0.050, 0, 0, -0.076 - 0.004 * (k % 2), y, z)}" '
        f'size="0.0028" material="leaf" {_SEEN}/>'
        for k, (y, z) in enumerate(
            ((0.0, 0.002), (0.009, 0.006), (-0.008, 0.007), (0.006, -0.004), (-0.007, -0.004))
        )
    )
    return Thing(
        touching + _visual("carrot", "carrot") + tuft, {"carrot": body}, rest=0.0163, reach=0.082
    )


def eggplant() -> Thing:
    """An eggplant of 11 cm: a round bottom, a slimmer neck, a green calyx and its stalk."""
    x = np.linspace(-0.050, 0.050, 30)
    s = (x - x[0]) / 0.1
    radius = np.interp(s, [0, 0.3, 0.55, 0.8, 1], [0.0240, 0.0245, 0.0205, 0.0170, 0.0140])
    radius = radius * np.sqrt(np.clip(1 - ((0.28 - s) / 0.285) ** 2, 0.01, 1) ** (s < 0.28))
    radius[-1] = 0.008
    straight = np.stack([x, 0 * x, 0 * x], axis=1)
    body = loft(straight, radius, radius)
    cap_x = np.linspace(0.036, 0.056, 8)
    cap = np.array([0.0168, 0.0172, 0.0166, 0.0155, 0.0135, 0.0105, 0.007, 0.004])
    calyx = loft(np.stack([cap_x, 0 * cap_x, 0 * cap_x], axis=1), cap, cap)
    touching = (
        f'<geom type="sphere" pos="-0.024 0 0" size="0.0245" mass="0.030" {_HIDDEN}/>'
        f'<geom type="capsule" fromto="-0.015 0 0 0.008 0 0" size="0.0215" mass="0.020" {_HIDDEN}/>'
        f'<geom type="capsule" fromto="0.008 0 0 0.038 0 0" size="0.0165" mass="0.012" {_HIDDEN}/>'
    )
    stalk = (
        f'<geom type="capsule" fromto="0.052 0 0 0.066 0 0.006" size="0.0035" material="leaf" '
        f"{_SEEN}/>"
    )
    seen = _visual("eggplant", "eggplant") + _visual("calyx", "leaf") + stalk
    return Thing(touching + seen, {"eggplant": body, "calyx": calyx}, rest=0.0245, reach=0.072)


def _cube(look: str) -> Thing:
    half = CUBE / 2
    geom = f'<geom type="box" size="{half} {half} {half}" mass="0.04" material="{look}" group="1"/>'
    return Thing(
        geom, {}, rest=half, reach=half * 1.42, folds=4, surface=CUBE, top=CUBE,
        room=(0.45 * CUBE, 0.45 * CUBE),
    )  # fmt: skip


def green_cube() -> Thing:
    """The cube to be put on the other."""
    return _cube("green_cube")


def yellow_cube() -> Thing:
    """The cube below."""
    return _cube("yellow_cube")


def towel() -> Thing:
    """A folded towel of 16 x 16 cm, flat and fast on the table."""
    half, thick = 0.08, 0.003
    hem = "".join(
        f'<geom type="box" pos="{_text(sx * 0.0755, sy * 0.0755, 0.0005)}" '
        f'size="{_text(*size)}" material="hem" {_SEEN}/>'
        for sx, sy, size in (
            (1, 0, (0.0035, half, thick)), (-1, 0, (0.0035, half, thick)),
            (0, 1, (half, 0.0035, thick)), (0, -1, (half, 0.0035, thick)),
        )
    )  # fmt: skip
    geom = f'<geom type="box" size="{half} {half} {thick}" material="towel" group="1"/>'
    return Thing(
        geom + hem, {}, rest=thick, reach=half * 1.42, folds=0, free=False, surface=2 * thick,
        top=2 * thick, room=(0.07, 0.07),
    )  # fmt: skip


def plate() -> Thing:
    """A plate of 19 cm with a raised rim. Its origin is at its foot."""
    profile = [
        (0.0005, 0.0), (0.055, 0.0), (0.060, 0.003), (0.080, 0.009), (0.0945, 0.0155),
        (0.0950, 0.0175), (0.0930, 0.0180), (0.078, 0.0125), (0.060, 0.0075), (0.0005, 0.0065),
    ]  # fmt: skip
    turned = meshes.lathe(np.array(profile))
    upright = Mesh(
        turned.vertices[:, [2, 0, 1]], turned.normals[:, [2, 0, 1]], turned.uv, turned.faces
    )
    rim = 16
    side = 0.078 * np.tan(np.pi / rim)
    touching = (
        f'<geom type="cylinder" pos="0 0 0.00325" size="0.060 0.00325" mass="0.2" {_HIDDEN}/>'
    )
    for angle in np.arange(rim) * 2 * np.pi / rim:
        c, s = np.cos(angle), np.sin(angle)
        touching += (
            f'<geom type="box" pos="{_text(0.0755 * c, 0.0755 * s, 0.0098)}" '
            f'size="{_text(0.0185, side, 0.003)}" euler="{_text(angle, -0.29, 0)}" '
            f'mass="0.01" {_HIDDEN}/>'
        )
    return Thing(
        touching + _visual("plate", "plate"), {"plate": upright}, rest=0.0, reach=0.096, folds=0,
        surface=0.0065, top=0.018, room=(0.06, 0.06),
    )  # fmt: skip


def basket() -> Thing:
    """An open basket of 21 x 16 cm, 6 cm high. Its origin is at its foot."""
    x, y, tall, wall = 0.105, 0.080, 0.060, 0.004
    boxes = (
        ((0, 0, 0.003), (x, y, 0.003), 0.3),
        ((x - wall, 0, tall / 2), (wall, y, tall / 2), 0.06),
        ((wall - x, 0, tall / 2), (wall, y, tall / 2), 0.06),
        ((0, y - wall, tall / 2), (x, wall, tall / 2), 0.06),
        ((0, wall - y, tall / 2), (x, wall, tall / 2), 0.06),
    )
    walls = "".join(
        f'<geom type="box" pos="{_text(*at)}" size="{_text(*size)}" mass="{mass}" '
        'material="basket" group="1"/>'
        for at, size, mass in boxes
    )
    corners = [(x, y), (-x, y), (-x, -y), (x, -y), (x, y)]
    ring = "".join(
        f'<geom type="capsule" fromto="{_text(*a, tall, *b, tall)}" size="0.006" '
        f'material="rim" {_SEEN}/>'
        for a, b in pairwise(corners)
    )
    return Thing(
        walls + ring, {}, rest=0.0, reach=0.132, surface=0.006, top=tall,
        room=(x - 2 * wall, y - 2 * wall),
    )  # fmt: skip


_MAKERS: dict[str, Callable[[], Thing]] = {
    maker.__name__: maker
    for maker in (spoon, carrot, eggplant, green_cube, yellow_cube, towel, plate, basket)
}


@functools.cache
def make(name: str) -> Thing:
    """The thing of that name."""
    return _MAKERS[name]()
