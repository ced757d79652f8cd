"""Scenes of the tabletop's tasks: a person's hand does what the simulated robot is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ego_ops.synthetic import arm, grasp, hand, layout, motion, pinch, tabletop_things
from ego_ops.synthetic.arm import Arm
from ego_ops.synthetic.layout import TABLE, Placed
from ego_ops.synthetic.motion import Path
from ego_ops.synthetic.recipes import Recipe
from ego_ops.synthetic.scene import EYES, FPS, Scene, kept_clear
from ego_ops.synthetic.things import Thing

Floats = NDArray[np.float64]
_REGION = ((-0.20, -0.43), (0.14, -0.26))
"""Metres to the right and ahead (negative) of the head, for a right hand, within which middles of
things lie."""
_YAW = (40.0, 75.0)
"""Degrees by which the hand, and with it the thing, is turned inward from straight ahead."""
_APART = 0.02
"""Metres at least between a thing and its goal at first."""


@dataclass(frozen=True)
class Chore:
    """One task."""

    recipe: Recipe
    """`kind` is a key of `tabletop_things.MAKERS`; places, turns and the hand are drawn for each
    clip."""
    goal: str
    """What it is put on or in, a key of `tabletop_things.MAKERS`."""
    across: float = 0.0
    """Where along the thing the hand takes it, metres."""
    spread: float = 0.02
    """Metres by which the thing may miss the middle of its goal."""
    yaw: float = 25.0
    """Degrees that the thing may be turned against its goal."""


def _recipe(kind: str, noun: str, order: str, lift: float) -> Recipe:
    """`order` is the instruction that the suite `tabletop` gives."""
    folder = order.replace(" ", "_")
    return Recipe(
        folder, folder, kind, noun, (0.0, 0.0, 0.0), ("put",), order[0].upper() + order[1:] + ".",
        lift=lift,
    )  # fmt: skip


CHORES = (
    Chore(_recipe("spoon", "spoon", "put the spoon on the towel", 0.085), "towel", 0.03, 0.03),
    Chore(_recipe("carrot", "carrot", "put the carrot on the plate", 0.085), "plate", 0.02, 0.015),
    Chore(
        _recipe("green_cube", "green cube", "stack the green cube on the yellow cube", 0.08),
        "yellow_cube", 0.018, 0.005, yaw=10.0,
    ),
    Chore(_recipe("eggplant", "eggplant", "put the eggplant in the basket", 0.115), "basket",
          0.025, 0.012, yaw=12.0),
)  # fmt: skip
"""The tasks in turn; wordings and order are those of the suite."""


def sample_tabletop(seed: int, index: int) -> Scene:
    """The scene number `index` of the corpus of `seed`; the same arguments, the same scene."""
    rng = np.random.default_rng([seed, index, 4])
    chore = CHORES[index % len(CHORES)]
    side = "right" if rng.random() < 0.6 else "left"
    recipe = replace(chore.recipe, hand=side, other_hand=bool(rng.random() < 0.4))
    sign = 1.0 if side == "right" else -1.0
    thing = tabletop_things.MAKERS[recipe.kind](rng)
    goal = tabletop_things.MAKERS[chore.goal](rng)
    held = pinch.top_grasp(thing, chore.across)
    if side == "left":
        thing, held = tabletop_things.mirrored(thing), grasp.mirrored(held)
    while not _possible(scene := _draw(rng, chore, recipe, thing, goal, held, sign)):
        pass
    return replace(scene, clutter=(*scene.clutter, *_scattered(scene, rng)))


def _draw(
    rng: np.random.Generator, chore: Chore, recipe: Recipe, thing: Thing, goal: Thing,
    held: grasp.Grasp, sign: float,
) -> Scene:  # fmt: skip
    """A scene without clutter, which may be impossible."""
    contact = rng.uniform(1.3, 1.5)
    release = contact + rng.uniform(1.6, 1.9)
    first, last = rng.uniform(*_REGION, (2, 2)) * [sign, 1]
    # A hand that comes from its own side hides less of what it holds than one from behind.
    yaw, turned = sign * rng.uniform(*_YAW, 2)
    goal_yaw = turned + rng.uniform(-1, 1) * chore.yaw
    below = Placed(goal, layout.standing(goal, last, goal_yaw))
    put = last + rng.uniform(-1, 1, 2) * chore.spread
    surface = TABLE + tabletop_things.SURFACE[chore.goal]
    path = motion.carry(
        layout.standing(thing, first, yaw), layout.standing(thing, put, turned, surface),
        recipe.lift * rng.uniform(0.9, 1.15), np.radians(rng.uniform(-8, 8, 3)),
        contact + 0.03, release - 0.03,
    )  # fmt: skip
    middle = (first + last) / 2
    gaze = np.array([0.7 * middle[0], TABLE + 0.05, 1.08 * middle[1]])
    eyes = EYES + rng.uniform([-0.04, -0.03, -0.02], [0.04, 0.06, 0.03])
    camera = motion.head(rng, eyes, gaze, contact, rng.uniform(0.055, 0.075))
    arms = _arms(rng, recipe, held, path, contact, release)
    frames = int((release + rng.uniform(0.65, 0.8)) * FPS)
    seeds = (int(rng.integers(2**31)), 0)
    return Scene(recipe, seeds, frames, contact, release, thing, (below,), camera, path, arms)


def _arms(
    rng: np.random.Generator, recipe: Recipe, held: grasp.Grasp, path: Path, contact: float,
    release: float,
) -> dict[str, Arm]:  # fmt: skip
    working, other = ("right", "left") if recipe.hand == "right" else ("left", "right")
    sign = 1.0 if working == "right" else -1.0
    low = hand.as_pose(
        EYES + np.array([sign * 0.24, -0.25, -0.02]),
        [-0.35 * sign, -0.25, -1.0],
        [0.2 * sign, 1.0, 0.0],
    )
    arms = {working: arm.reaching(working, held, path, low, contact, release)}
    if recipe.other_hand:
        at = [-sign * rng.uniform(0.29, 0.33), TABLE + 0.028, rng.uniform(-0.20, -0.15)]
        distal, dorsal = [sign * 0.25, -0.05, -1.0], [-0.12 * sign, 1.0, 0.0]
    else:
        at = EYES + np.array([-sign * 0.2, -0.55, 0.2])
        distal, dorsal = [sign * 0.3, -0.1, -1.0], [-0.4 * sign, 1.0, 0.0]
    arms[other] = arm.resting(other, at, distal, dorsal, rng)
    return arms


def _possible(scene: Scene) -> bool:
    """Whether the thing lies apart from its goal at first, and nothing goes through the goal."""
    (below,) = scene.clutter
    into = below.pose.inv()

    def apart(points: Floats) -> float:
        return float(below.thing.distance(into.apply(points.reshape(-1, 3))).min())

    times = scene.times[::3]
    surface = scene.thing.mesh.vertices[::3]
    poses = scene.object(times)
    if apart(poses[0].apply(surface)) < _APART:
        return False
    if min(apart(pose.apply(surface)) for pose in poses) < -0.003:
        return False
    centres, radii = hand.spheres(scene.joints(times, scene.recipe.hand), scene.recipe.hand)
    near = below.thing.distance(into.apply(centres.reshape(-1, 3))).reshape(centres.shape[:2])
    return bool((near - radii).min() > -0.002)


def _scattered(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    count = int(rng.integers(1, 5))
    return layout.scatter(rng, list(scene.clutter), kept_clear(scene), count)


def view(scene: Scene) -> float:
    """Focal length of the camera of a scene in widths of its picture: 70 to 82 degrees wide."""
    return float(np.random.default_rng([*scene.seed, 5]).uniform(0.58, 0.72))
