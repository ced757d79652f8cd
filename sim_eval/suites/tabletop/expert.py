"""The script that solves the tasks. It looks at the scene as it is and remembers nothing, so it
goes on from wherever it is: it grasps again what was dropped.

Above the thing, down with the fingers across its long side, close, up, over to the goal, down,
open, up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sim_eval.suites.tabletop import robot
from sim_eval.suites.tabletop.poses import Pose, inverse, quat_of, times, turn_of
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
FINGER = robot.TRAVEL + 0.005
"""From the middle of the open gripper to a finger's, metres."""
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])
"""Half a turn about x: the gripper points down and closes along x."""


def act(sight: Sight) -> Floats:
    """(10,) the next action."""
    place, heading, opening = _plan(sight)
    step = sight.gripper.target.inverse() @ _upright(place, heading)
    turned = Pose(np.zeros(3), quat_of(shortened(turn_of(step.quat), TURN))).axes()
    move = shortened(step.place, MOVE)
    return np.concatenate([move, turned[:, 0], turned[:, 1], [opening]])


def _plan(sight: Sight) -> tuple[Floats, float, float]:
    """Where to go, pointing down, with what heading (see `_heading`), and the opening."""
    held = sight.held()
    if sight.over() and sight.height() < _release(sight):
        return _leave(sight, held)
    return _carry(sight) if held else _grasp(sight)


def _release(sight: Sight) -> float:
    """Height above lying flat at which a thing is let go, metres."""
    return 0.02 if sight.goal_made.top > 0.05 else 0.005


def _leave(sight: Sight, held: bool) -> tuple[Floats, float, float]:
    """Open where it is, then go up."""
    here = sight.gripper.pose
    up = 0.0 if held else MOVE
    return here.place + [0, 0, up], _heading(here), min(1.0, sight.gripper.opening + 0.35)


def _carry(sight: Sight) -> tuple[Floats, float, float]:
    """Up, across, and down onto the goal, turned as the goal is where that matters."""
    here, thing, goal = sight.gripper.pose, sight.thing, sight.goal
    gap = (goal.place - thing.place) * [1, 1, 0]
    up = sight.goal_made.top - sight.goal_made.surface + CLEAR - sight.height()
    turn = _turn(_heading(thing), _heading(goal), sight.goal_made.folds)
    tolerance = 0.006 if up < 0.02 else 0.012
    if np.linalg.norm(gap) < tolerance and abs(turn) < 0.12:
        move = gap + [0, 0, -min(sight.height() + 0.004, 0.025)]
    elif up > 0.02:
        move, turn = np.array([0, 0, up]), 0.0
    else:
        move = gap + [0, 0, up]
    return here.place + move, _heading(here) + turn, 0.0


def _grasp(sight: Sight) -> tuple[Floats, float, float]:
    """Above the thing, down around it, and close."""
    here, place = sight.gripper.pose, sight.thing.place
    place[2] = max(place[2], LOW)
    across = _long_side(sight.thing) + math.pi / 2
    if sight.thing_made.folds == 4 and _blocked(sight, across):
        across = _long_side(sight.thing)
    folds = 2 if _blocked(sight, across + math.pi / 2) else sight.thing_made.folds
    turn = _turn(_heading(here), across, folds)
    heading = _heading(here) + turn
    gap, up = place - here.place, here.place[2] - place[2]
    level = _upright(here.place, _heading(here))
    tilt = np.linalg.norm(turn_of(times(inverse(here.quat), level.quat)))
    off, low = np.linalg.norm(gap[:2]), up < 0.03
    aligned = off < (0.012 if low else 0.006) and abs(turn) + tilt < (0.2 if low else 0.08)
    if aligned and up < (0.005 if sight.gripper.opening > 0.9 else 0.012):
        if sight.scraping():  # the fingers stick: up a little
            place[2] = here.place[2] + 0.004
        return place, heading, 0.0
    if aligned and sight.gripper.opening > 0.9:
        return place, heading, 1.0
    above = place + [0, 0, APPROACH]
    if not aligned and up < APPROACH - 0.03 and off < 0.12:
        above[:2] = here.place[:2]  # straight up, not through the thing
    return above, heading, 1.0


def _blocked(sight: Sight, heading: float) -> bool:
    """Whether a finger of the open gripper around the thing would come down on the goal."""
    apart = (sight.goal.place - sight.thing.place)[:2]
    finger = FINGER * np.array([math.cos(heading), math.sin(heading)])
    gap = min(np.linalg.norm(apart - finger), np.linalg.norm(apart + finger))
    return bool(gap < sight.goal_made.reach + 0.01)


def _heading(pose: Pose) -> float:
    """Angle about the vertical of a pose's x axis; of the gripper, the way that it closes."""
    x = pose.axes()[:, 0]
    return math.atan2(x[1], x[0])


def _long_side(thing: Pose) -> float:
    """Angle about the vertical of a thing's x axis or, where that stands up, of its y axis."""
    axes = thing.axes()
    along = axes[:, 0] if abs(axes[2, 0]) < 0.8 else axes[:, 1]
    return math.atan2(along[1], along[0])


def _turn(begin: float, end: float, folds: int) -> float:
    """Smallest turn from one angle to another where `folds` of them in a full turn are as good; 0
    if all are."""
    if not folds:
        return 0.0
    part = 2 * math.pi / folds
    return (end - begin + part / 2) % part - part / 2


def _upright(place: Floats, heading: float) -> Pose:
    """The gripper's pose when it points down and closes along a heading."""
    return Pose(place, times(quat_of(np.array([0, 0, heading])), _DOWN))
