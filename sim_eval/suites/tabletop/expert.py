"""The script that solves the tasks. It looks at the scene as it is and remembers nothing, so it
goes on from wherever it is: it grasps again what was dropped.

Above the thing, down with the fingers across its long side, close, up, over to the goal, down,
open, up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from sim_eval.suites.tabletop import robot
from sim_eval.suites.tabletop.robot import shortened
from sim_eval.suites.tabletop.sight import Sight

Floats = NDArray[np.float64]

MOVE, TURN = 0.03, 0.22
"""Longest steps, metres and radians."""
APPROACH = 0.09
"""From where it grasps up to where it arrives, metres."""
CLEAR = 0.035
"""Between what is carried and the highest point of the goal, metres."""
LOW = 0.0105
"""Lowest that the gripper's origin goes: the tips clear the table."""
_DOWN = Rotation.from_euler("x", np.pi)


def act(sight: Sight) -> Floats:
    """(10,) the next action."""
    wanted, opening = _plan(sight)
    step = sight.gripper.target.inv() * wanted
    move = shortened(step.translation, MOVE)
    turn = Rotation.from_rotvec(shortened(step.rotation.as_rotvec(), TURN)).as_matrix()
    return np.concatenate([move, turn[:, 0], turn[:, 1], [opening]])


def _plan(sight: Sight) -> tuple[RigidTransform, float]:
    """The pose to go to, and the opening."""
    held = sight.held()
    if sight.over() and sight.height() < _release(sight):
        return _leave(sight, held)
    return _carry(sight) if held else _grasp(sight)


def _release(sight: Sight) -> float:
    """Height above lying flat at which a thing is let go, metres."""
    return 0.02 if sight.goal_made.top > 0.05 else 0.005


def _leave(sight: Sight, held: bool) -> tuple[RigidTransform, float]:
    """Open where it is, then go up."""
    here = sight.gripper.pose
    opening = min(1.0, sight.gripper.opening + 0.35)
    if held:
        return sight.gripper.target, opening
    return _upright(here.translation + [0, 0, MOVE], here), opening


def _carry(sight: Sight) -> tuple[RigidTransform, float]:
    """Up, across, and down onto the goal, turned as the goal is where that matters."""
    here, thing, goal = sight.gripper.pose, sight.thing, sight.goal
    gap = (goal.translation - thing.translation) * [1, 1, 0]
    carried = sight.goal_made.top - sight.goal_made.surface + CLEAR
    up = carried - sight.height()
    turn = _turn(thing.rotation, goal.rotation, sight.goal_made.folds)
    tolerance = 0.006 if up < 0.02 else 0.012
    if np.linalg.norm(gap) < tolerance and abs(turn) < 0.12:
        move = gap + [0, 0, -min(sight.height() + 0.004, 0.025)]
    elif up > 0.02:
        move, turn = np.array([0, 0, up]), 0.0
    else:
        move = gap + [0, 0, up]
    pose = _upright(here.translation + move, here)
    # It turns about the gripper, from which the thing's middle may lie off.
    turned = Rotation.from_euler("z", turn) * pose.rotation
    return RigidTransform.from_components(pose.translation, turned), 0.0


def _grasp(sight: Sight) -> tuple[RigidTransform, float]:
    """Above the thing, down around it, and close."""
    here, thing = sight.gripper.pose, sight.thing
    place = thing.translation.copy()
    place[2] = max(place[2], LOW)
    across = _across(thing.rotation)
    turn = _turn(here.rotation, across, sight.thing_made.folds)
    level = _upright(here.translation, here)
    turned = Rotation.from_euler("z", turn) * level.rotation
    gap, up = place - here.translation, here.translation[2] - place[2]
    tilt = (here.rotation.inv() * level.rotation).magnitude()
    off, low = np.linalg.norm(gap[:2]), up < 0.03
    aligned = off < (0.012 if low else 0.006) and abs(turn) + tilt < (0.2 if low else 0.08)
    if aligned and up < 0.005:
        return RigidTransform.from_components(place, turned), 0.0
    if aligned and sight.gripper.opening > 0.9:
        return RigidTransform.from_components(place, turned), 1.0
    above = place + [0, 0, APPROACH]
    if not aligned and up < APPROACH - 0.03 and off < 0.12:
        above[:2] = here.translation[:2]  # straight up, not through the thing
    return RigidTransform.from_components(above, turned), 1.0


def _across(rotation: Rotation) -> Rotation:
    """The gripper pointing down and closing across a thing's long side, as it lies."""
    axes = rotation.as_matrix()
    along = axes[:, 0] if abs(axes[2, 0]) < 0.8 else axes[:, 1]
    return Rotation.from_euler("z", np.arctan2(along[1], along[0]) + np.pi / 2) * _DOWN


def _turn(of: Rotation, to: Rotation, folds: int) -> float:
    """Smallest turn about the vertical that takes the x axis of one to that of the other, where
    `folds` of them in a full turn are as good; 0 if all are."""
    if not folds:
        return 0.0
    (a, b), (c, d) = of.as_matrix()[:2, 0], to.as_matrix()[:2, 0]
    angle, part = np.arctan2(d, c) - np.arctan2(b, a), 2 * np.pi / folds
    return float((angle + part / 2) % part - part / 2)


def _upright(place: Floats, like: RigidTransform) -> RigidTransform:
    """A pose that points down, with the heading of another, within the robot's bounds."""
    x = like.rotation.as_matrix()[:2, 0]
    heading = Rotation.from_euler("z", np.arctan2(x[1], x[0]))
    return RigidTransform.from_components(np.clip(place, robot.LOWER, robot.UPPER), heading * _DOWN)
