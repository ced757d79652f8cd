"""Films of a hand that carries a thing over a table, seen from a head that moves.

The head's path is made up, after those recorded in EgoDex, of which a clip of this length covers 3
to 7 cm at 2.5 to 6 cm/s, and turns at 5 to 12 degrees/s with peaks of 11 to 43. Nine tenths of
those made here lie within 2 to 8 cm, 3 to 8 cm/s, 5 to 13 degrees/s, and peaks of 10 to 30.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.geometry_tracks import HANDS, OBJECT, STILL, Film
from ego_ops.camera import Camera
from ego_ops.synthetic import arm, grasp, hand, layout, motion, sample_scene, things
from ego_ops.synthetic.layout import TABLE
from ego_ops.synthetic.mjcf import FOCAL
from ego_ops.synthetic.render import Studio, expose
from ego_ops.synthetic.scene import EYES, Scene

Floats = NDArray[np.float64]
_SIZES = {
    "box": (0.105, 0.15, 0.055), "can": (0.08, 0.125, 0.0), "bottle": (0.072, 0.20, 0.0),
    "book": (0.125, 0.175, 0.034), "mug": (0.092, 0.112, 0.0), "bowl": (0.13, 0.07, 0.0),
}  # fmt: skip
_GRIPS = {"bottle": -0.035}


def make_film(seed: int, frames: int, fps: float, rng: np.random.Generator) -> tuple[Film, Scene]:
    """The film of a seed, `frames` long, and the scene that it shows.

    Every fourth thing moves from the first frame to the last; the others rest for a short part.

    Raises:
        UserError: there is nothing to render with.
    """
    scene, begins = _scene(seed, rng, frames / fps)
    return _filmed(scene, _camera(rng), begins + np.arange(frames) / fps, rng), scene


def _scene(seed: int, rng: np.random.Generator, duration: float) -> tuple[Scene, float]:
    """A scene of the demo with a thing, a motion and a head of its own, and when to begin."""
    base = sample_scene(seed, seed)
    kind = str(rng.choice(list(_SIZES)))
    size = np.array(_SIZES[kind]) * rng.uniform(0.75, 1.25)
    thing = things.MAKERS[kind](rng, kind, (size[0], size[1], size[2]))
    moving = seed % 4 == 3
    begins = base.contact + (0.15 * duration if moving else -rng.uniform(0.06, 0.2) * duration)
    ends = base.contact + duration * (1.4 if moving else rng.uniform(0.62, 0.78))
    sign = 1.0 if base.recipe.hand == "right" else -1.0
    first, last = (
        np.array([sign * x, z]) + rng.uniform(-0.03, 0.03, 2)
        for x, z in (base.recipe.start, base.recipe.goal)
    )
    yaw = sign * (22.0 + rng.uniform(-5, 5))
    path = motion.carry(
        layout.standing(thing, first, yaw),
        layout.standing(thing, last, yaw + rng.uniform(-40, 130) * sign),
        rng.uniform(0.05, 0.16), np.radians(rng.normal(0, [24, 10, 28])),
        base.contact + 0.03, ends - 0.03,
    )  # fmt: skip
    x, z = (first + last) / 2
    middle = np.array([x, TABLE + 0.08, z])
    camera = _head(rng, path, middle, begins, begins + duration)
    arms = dict(base.arms)
    side = base.recipe.hand
    above = max(0.056 - thing.height / 2, _GRIPS.get(kind, 0.0))
    held = grasp.side_grasp(thing, np.radians(8), np.radians(8), above, side)
    low = hand.as_pose(
        EYES + np.array([sign * 0.24, -0.31, -0.02]), [-0.35 * sign, -0.1, -1.0],
        [0.6 * sign, 1.0, 0.0],
    )  # fmt: skip
    arms[side] = arm.reaching(side, held, path, low, base.contact, ends)
    changed = replace(
        base, thing=thing, object=path, camera=camera, arms=arms, release=ends, frames=1
    )
    return changed, begins


def _head(
    rng: np.random.Generator, thing: motion.Path, middle: Floats, begin: float, end: float
) -> motion.Path:
    """A head that sways, follows the thing in part, and turns aside once in half of the clips."""
    speed = np.clip(0.040 * np.exp(rng.normal(0, 0.45)), 0.01, 0.10)
    turning = np.radians(np.clip(3.5 * np.exp(rng.normal(0, 0.5)), 1, 15))
    sway = _wander(rng, np.array([1.0, 0.5, 0.8]), speed, begin, end)
    nod = _wander(rng, np.array([0.7, 1.0, 0.4]), turning, begin, end)
    follows, eyes = rng.uniform(0.0, 0.4), EYES + rng.uniform(-0.03, 0.03, 3)
    glance = np.radians(rng.uniform(3, 11) * rng.integers(0, 2)) * _aside(rng)
    when, takes = rng.uniform(begin, end - 0.4), rng.uniform(0.35, 0.7)

    def path(times: Floats) -> RigidTransform:
        target = middle + follows * (thing(times).translation - middle)
        at = eyes + sway(times)
        aside = motion.ramp(times, when, when + takes)[:, None] * glance
        turned = motion.look_at(at, target) * Rotation.from_rotvec(nod(times) + aside)
        return RigidTransform.from_components(at, turned)

    return path


def _aside(rng: np.random.Generator) -> Floats:
    """A unit axis in the picture's plane, mostly upright: heads turn aside rather than nod."""
    angle = rng.normal(np.pi / 2, 0.5) + np.pi * rng.integers(0, 2)
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def _wander(
    rng: np.random.Generator, axes: Floats, speed: float, begin: float, end: float
) -> Callable[[Floats], Floats]:
    """A sum of slow waves in three axes of the given relative sizes, and of that mean speed."""
    rate, phase = rng.uniform(0.1, 0.9, (4, 3)), rng.uniform(0, 2 * np.pi, (4, 3))

    def waves(times: Floats) -> Floats:
        angle = 2 * np.pi * rate * np.asarray(times)[:, None, None] + phase
        return np.asarray((np.sin(angle) / rate * axes).sum(axis=1))

    times = np.linspace(begin, end, 200)
    length = np.linalg.norm(np.diff(waves(times), axis=0), axis=1).sum()
    size = speed * (end - begin) / length
    return lambda times: size * waves(times)


def _camera(rng: np.random.Generator) -> Camera:
    """A field of view between EgoDex's (105 degrees) and 79 degrees."""
    width, height = 640, int(rng.choice([360, 480]))
    focal = FOCAL * width * rng.uniform(1.0, 1.6)
    return Camera(focal, focal, width / 2 - 0.5, height / 2 - 0.5, width, height)


def _filmed(scene: Scene, camera: Camera, times: Floats, rng: np.random.Generator) -> Film:
    with Studio(scene, (camera.width, camera.height), camera.fx) as studio:
        shots = list(studio.shots(times, depth=True))
    joints = [
        pose.as_matrix() for side in scene.arms for pose in scene.joints(times, side).values()
    ]
    still = np.tile(np.eye(4), (len(times), 1, 1))
    return Film(
        camera=camera,
        times=times - times[0],
        world_camera=scene.camera(times).as_matrix(),
        bodies=np.stack([still, scene.object(times).as_matrix(), *joints]),
        images=np.stack([expose(shot.image, rng) for shot in shots]),
        depth=np.stack([shot.depth for shot in shots if shot.depth is not None]),
        groups=np.stack(
            [np.select([s.mask, s.hands], [OBJECT, HANDS], STILL) for s in shots]
        ).astype(np.uint8),
    )
