"""One scene: what stands where, and how the head, the hands and the thing taken move.

World frame as ARKit's: y up, the wearer looks towards -z from above the origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.synthetic import arm, grasp, hand, layout, motion, things
from ego_ops.synthetic.arm import Arm
from ego_ops.synthetic.layout import TABLE, Placed
from ego_ops.synthetic.motion import Path
from ego_ops.synthetic.recipes import RECIPES, Recipe
from ego_ops.synthetic.things import Thing

Floats = NDArray[np.float64]
FPS = 30.0
EYES = np.array([0.0, TABLE + 0.40, 0.0])
"""Where the eyes are, about."""
SHOULDER = np.array([0.20, -0.20, 0.13])
"""Right shoulder joint from the eyes."""


@dataclass(frozen=True)
class Scene:
    """Everything that a renderer and an annotation file need, as functions of time."""

    recipe: Recipe
    seed: tuple[int, int]
    """Seed and index; also seeds the look of the room."""
    frames: int
    contact: float
    release: float
    """Seconds; the thing moves between them only."""
    thing: Thing
    clutter: tuple[Placed, ...]
    camera: Path
    """T_world_camera, OpenCV axes."""
    object: Path
    """T_world_object."""
    arms: Mapping[str, Arm]
    """By side, "left" and "right"."""

    @property
    def times(self) -> Floats:
        """(N,) seconds of the frames."""
        return np.arange(self.frames) / FPS

    def trunk(self, times: Floats) -> Floats:
        """(N, 3) the eyes as far as the trunk goes along with them: half of their way."""
        return 0.5 * EYES + 0.5 * self.camera(times).translation

    def joints(self, times: Floats, side: str) -> dict[str, RigidTransform]:
        """Frames of the joints of one arm in the world; see `arm.Arm.joints`."""
        shoulder = self.trunk(times) + SHOULDER * [1 if side == "right" else -1, 1, 1]
        return self.arms[side].joints(times, shoulder)


def sample_scene(seed: int, index: int) -> Scene:
    """The scene number `index` of the demo corpus of `seed`; the same arguments, the same scene."""
    rng = np.random.default_rng([seed, index])
    recipe = RECIPES[index % len(RECIPES)]
    sign = 1.0 if recipe.hand == "right" else -1.0
    thing = things.MAKERS[recipe.kind](rng, recipe.noun, recipe.size)
    contact = rng.uniform(1.5, 1.75)
    release = contact + rng.uniform(1.55, 1.85)
    first, last = (
        np.array([sign * x, z]) + rng.uniform(-0.012, 0.012, 2)
        for x, z in (recipe.start, recipe.goal)
    )
    yaw = sign * (22.0 + rng.uniform(-5, 5))
    turn = sign * recipe.yaw * rng.uniform(0.9, 1.1)
    tilt = np.radians(np.array(recipe.tilt) * [1, sign, sign] * rng.uniform(0.9, 1.1))
    path = motion.carry(
        layout.standing(thing, first, yaw), layout.standing(thing, last, yaw + turn),
        recipe.lift, tilt, contact + 0.03, release - 0.03,
    )  # fmt: skip
    middle = (first + last) / 2
    gaze = np.array([0.6 * middle[0], TABLE + 0.10, 1.12 * middle[1]])
    eyes = EYES + rng.uniform(-0.015, 0.015, 3)
    camera = motion.head(rng, eyes, gaze, contact, rng.uniform(0.055, 0.07))
    arms = _arms(rng, recipe, thing, path, contact, release)
    frames = int((release + rng.uniform(0.75, 0.95)) * FPS)
    bare = Scene(
        recipe, (seed, index), frames, contact, release, thing, (), camera, path, arms
    )  # fmt: skip
    return _furnished(bare, rng, last)


def _arms(
    rng: np.random.Generator, recipe: Recipe, thing: Thing, path: Path, contact: float,
    release: float,
) -> dict[str, Arm]:  # fmt: skip
    working, other = ("right", "left") if recipe.hand == "right" else ("left", "right")
    sign = 1.0 if working == "right" else -1.0
    # The little finger stays above the table.
    above = max(0.056 - thing.height / 2, recipe.grip)
    held = grasp.side_grasp(thing, np.radians(8), np.radians(8), above, working)
    low = hand.as_pose(
        EYES + np.array([sign * 0.24, -0.31, -0.02]),
        [-0.35 * sign, -0.1, -1.0],
        [0.6 * sign, 1.0, 0.0],
    )
    arms = {working: arm.reaching(working, held, path, low, contact, release)}
    if recipe.other_hand:
        at = [-sign * rng.uniform(0.27, 0.30), TABLE + 0.028, rng.uniform(-0.22, -0.18)]
        arms[other] = arm.resting(
            other, at, [sign * 0.25, -0.05, -1.0], [-0.12 * sign, 1.0, 0.0], rng
        )
    else:
        lap = EYES + np.array([-sign * 0.2, -0.55, 0.2])
        arms[other] = arm.resting(
            other, lap, [sign * 0.3, -0.1, -1.0], [-0.4 * sign, 1.0, 0.0], rng
        )
    return arms


def _furnished(bare: Scene, rng: np.random.Generator, goal: Floats) -> Scene:
    recipe = bare.recipe
    sign = 1.0 if recipe.hand == "right" else -1.0
    fixed = []
    if recipe.lamp:
        at = np.array([bare.contact * 0.55 + bare.release * 0.45])
        upper = bare.object(at).translation[0] + [0, 0.22 * bare.thing.height, 0]
        fixed.append(layout.lamp(rng, upper, bare.camera(at).translation[0]))
    if recipe.bowl:
        bowl = things.bowl(rng, "bowl", (0.13, 0.055, 0.0))
        fixed.append(Placed(bowl, layout.standing(bowl, goal - [0.16 * sign, 0.01], 0.0)))
    scattered = layout.scatter(rng, fixed, kept_clear(bare), count=6)
    return Scene(
        recipe, bare.seed, bare.frames, bare.contact, bare.release, bare.thing,
        (*fixed, *scattered), bare.camera, bare.object, bare.arms,
    )  # fmt: skip


def kept_clear(scene: Scene) -> Floats:
    """(K, 4) spheres around all that moves, and along the lines of sight to the thing."""
    times = scene.times[::3]
    thing = scene.object(times).translation
    eyes = scene.camera(times).translation
    size = max(scene.thing.reach, scene.thing.height / 2)
    spheres = [
        np.column_stack([eyes + f * (thing - eyes), np.full(len(times), f * size + 0.01)])
        for f in np.linspace(0.2, 1.0, 17)
    ]
    for side in scene.arms:
        centres, radii = hand.spheres(scene.joints(times, side), side)
        spheres.append(np.dstack([centres, np.tile(radii, (len(times), 1))]).reshape(-1, 4))
    return np.concatenate(spheres)
