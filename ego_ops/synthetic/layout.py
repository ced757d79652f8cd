"""Where things stand on the table: clear of the hands, of the carried thing and of the view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic import things
from ego_ops.synthetic.things import Thing

Floats = NDArray[np.float64]
TABLE = 0.72
"""Height of the table, metres."""
_KINDS = (
    ("box", "tea box", (0.09, 0.12, 0.06)),
    ("can", "tin", (0.075, 0.105, 0.0)),
    ("bottle", "bottle", (0.07, 0.21, 0.0)),
    ("box", "flat box", (0.17, 0.035, 0.12)),
    ("bowl", "bowl", (0.14, 0.06, 0.0)),
    ("book", "book", (0.13, 0.18, 0.03)),
    ("box", "small box", (0.06, 0.045, 0.045)),
    ("mug", "mug", (0.085, 0.095, 0.0)),
    ("box", "notebook", (0.15, 0.012, 0.21)),
)


@dataclass(frozen=True)
class Placed:
    """A thing that stands still."""

    thing: Thing
    pose: RigidTransform
    """T_world_thing."""


def standing(thing: Thing, at: ArrayLike, yaw: float, height: float = TABLE) -> RigidTransform:
    """T_world_thing of a thing that stands at (x, z), turned by `yaw` degrees, on `height`."""
    x, z = np.asarray(at, float)
    turn = Rotation.from_euler("y", yaw, degrees=True)
    return RigidTransform.from_components([x, height + thing.height / 2, z], turn)


def lamp(rng: np.random.Generator, passing: Floats, eyes: Floats) -> Placed:
    """A lamp that hangs between the eyes and the point (3,) where the thing passes, above arms."""
    thing = things.lamp(rng, "lamp", (0.03, 0.5, 0.0))
    foot = eyes + 0.56 * (passing - eyes)
    height = max(foot[1], TABLE + 0.235)
    return Placed(thing, standing(thing, foot[[0, 2]], 0.0, height))


def scatter(
    rng: np.random.Generator, taken: list[Placed], kept_clear: Floats, count: int
) -> list[Placed]:
    """Up to `count` things at random places.

    Args:
        taken: things already standing on the table.
        kept_clear: (K, 4) spheres (x, y, z, radius) that nothing may cut: the paths of the hands
            and of the carried thing, and the lines of sight to it.
    """
    placed: list[Placed] = []
    for kind, name, size in (_KINDS[k] for k in rng.permutation(len(_KINDS))):
        thing = things.MAKERS[kind](rng, name, size)
        for _ in range(60):
            at = rng.uniform([-0.46, -0.75], [0.46, -0.18])
            if _free(thing, at, taken + placed, kept_clear):
                placed.append(Placed(thing, standing(thing, at, rng.uniform(-40, 40))))
                break
        if len(placed) == count:
            break
    return placed


def _free(thing: Thing, at: Floats, others: list[Placed], kept_clear: Floats) -> bool:
    for other in others:
        apart = np.linalg.norm(other.pose.translation[[0, 2]] - at)
        if apart < thing.reach + other.thing.reach + 0.015:
            return False
    low = kept_clear[:, 1] - kept_clear[:, 3] < TABLE + thing.height + 0.01
    apart = np.linalg.norm(kept_clear[:, [0, 2]] - at, axis=1)
    return not (low & (apart < thing.reach + kept_clear[:, 3] + 0.005)).any()
