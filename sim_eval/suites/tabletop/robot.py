"""The robot: a parallel-jaw gripper with a wrist, moved by steps of its pose.

Frame of the gripper, whose pose is its state: the origin lies between the fingers, 8 mm from their
tips; z points out along the fingers, x is the direction in which they close.

A free body follows a mocap body through a stiff but soft-ended weld: contact pushes it off its
target rather than through what it touches. Gravity does not act on it. The two fingers are driven
by a servo each, at most 15 N, and are coupled as by a gear. What they hold, friction holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.suites.tabletop.poses import (
    Pose,
    inverse,
    quat_of,
    quat_of_columns,
    times,
    turn_of,
)

Floats = NDArray[np.float64]

TRAVEL = 0.04
"""Of each finger, metres: fully open the gripper takes what is 8 cm wide."""
SQUEEZE = 0.01
"""How far past each other closed fingers are told to go, metres: that presses on thin things."""
MAX_MOVE, MAX_TURN, MAX_GRIP = 0.05, 0.35, 0.5
"""Most that one action does: metres, radians, share of the opening. More is cut off."""
LEASH, LEASH_TURN = 0.03, 0.25
"""Metres and radians by which the target may run ahead of the gripper, beyond a longest step."""
LOWER = np.array([-0.32, -0.36, 0.010])
UPPER = np.array([0.36, 0.36, 0.45])
"""Bounds of the gripper's target, metres; at the lowest, the tips are 2 mm above the table."""
TIMESTEP, SUBSTEPS, PIECES = 0.002, 50, 5
"""Seconds of a physics step, physics steps of an action, parts its path is led along in."""

_SHARES = np.arange(1, PIECES + 1)[:, None] / PIECES

_PAD = 'class="pad" material="rubber"'
_METAL = 'class="robot" material="metal"'
_DARK = 'class="robot" material="dark"'

DEFAULTS = """
<default class="robot"><geom contype="2" conaffinity="1" group="1" mass="0.02"/></default>
<default class="pad"><geom contype="2" conaffinity="1" group="1" mass="0.02" condim="6"
  friction="1.5 0.02 0.0005" priority="1" solref="0.006 1" solimp="0.95 0.99 0.0005"/></default>
"""


def _finger(name: str, side: int) -> str:
    return f"""
<body name="{name}" gravcomp="1">
  <joint name="{name}" type="slide" axis="{side} 0 0" range="0 {TRAVEL}" damping="2"
    armature="0.05"/>
  <geom name="{name}" type="box" pos="{side * 0.005} 0 -0.012" size="0.005 0.010 0.020" {_PAD}/>
  <geom type="box" pos="{side * 0.007} 0 -0.052" size="0.006 0.008 0.022" {_METAL}/>
  <geom type="box" pos="{side * 0.004} 0 -0.076" size="0.012 0.014 0.006" {_DARK}/>
</body>"""


BODY = f"""
<body name="target" mocap="true"/>
<body name="gripper" gravcomp="1">
  <freejoint name="gripper"/>
  <geom type="box" pos="0 0 -0.098" size="0.058 0.020 0.016" {_DARK}/>
  <geom type="box" pos="0 0 -0.120" size="0.036 0.024 0.012" {_METAL}/>
  <geom type="cylinder" pos="0 0 -0.148" size="0.024 0.018" {_DARK}/>
  <geom type="cylinder" pos="0 0 -0.176" size="0.030 0.012" {_METAL}/>
  <geom type="capsule" fromto="0 0 -0.19 0 0 -0.34" size="0.026" {_DARK}/>
  <camera name="left_wrist_0_rgb" pos="0 0.075 -0.115" xyaxes="1 0 0 0 -0.927 -0.375" fovy="75"/>
  {_finger("finger_left", 1)}
  {_finger("finger_right", -1)}
</body>"""

CONSTRAINTS = f"""
<equality>
  <weld body1="target" body2="gripper" relpose="0 0 0 1 0 0 0" solref="0.02 1"
    solimp="0.95 0.99 0.001"/>
  <joint joint1="finger_left" joint2="finger_right" polycoef="0 1 0 0 0" solref="0.006 1"/>
</equality>
<actuator>
  <position joint="finger_left" kp="1500" kv="40" forcerange="-15 15"
    ctrlrange="-{SQUEEZE} {TRAVEL}"/>
  <position joint="finger_right" kp="1500" kv="40" forcerange="-15 15"
    ctrlrange="-{SQUEEZE} {TRAVEL}"/>
</actuator>"""


def step_of(action: Floats) -> tuple[Pose, float]:
    """An action (10,) as a motion of the gripper in its own frame, and the opening it asks for.

    The rotation's two columns are made orthonormal (Gram-Schmidt); where they span no plane,
    nothing is turned. Motions beyond `MAX_MOVE` and `MAX_TURN` are cut to that length.
    """
    turn = shortened(turn_of(_rotation(action[3:9])), MAX_TURN)
    step = Pose(shortened(action[:3], MAX_MOVE), quat_of(turn))
    return step, float(min(max(action[9], 0.0), 1.0))


def _rotation(columns: Floats) -> Floats:
    """(4,) the rotation whose matrix has nearly these first two columns (6,)."""
    x = _unit(columns[:3])
    y = _unit(columns[3:] - (columns[3:] @ x) * x)
    if not (x.any() and y.any()):
        return np.array([1.0, 0, 0, 0])
    return quat_of_columns(x, y)


def _unit(vector: Floats) -> Floats:
    """The vector at length 1, or zeros if it is next to none."""
    length = math.sqrt(vector @ vector)
    return vector / length if length > 1e-6 else np.zeros(3)


def shortened(vector: Floats, most: float) -> Floats:
    """The vector, cut to a length of `most`."""
    length = math.sqrt(vector @ vector)
    return vector * (most / length) if length > most else vector


class Gripper:
    """The gripper of one model and its state: what moves it and what is known of it."""

    def __init__(self, model: Any, data: Any):
        self._data = data
        joint = model.joint("gripper")
        self._pose = slice(joint.qposadr[0], joint.qposadr[0] + 7)
        names = ("finger_left", "finger_right")
        self._fingers = [int(model.joint(name).qposadr[0]) for name in names]

    @property
    def pose(self) -> Pose:
        """T_world_gripper."""
        numbers = self._data.qpos[self._pose].copy()
        return Pose(numbers[:3], numbers[3:])

    @property
    def target(self) -> Pose:
        """T_world_gripper that it is led to."""
        return Pose(self._data.mocap_pos[0].copy(), self._data.mocap_quat[0].copy())

    @property
    def opening(self) -> float:
        """From 0, closed, to 1."""
        share = float(self._data.qpos[self._fingers].mean()) / TRAVEL
        return min(max(share, 0.0), 1.0)

    @property
    def grip(self) -> float:
        """Opening that the fingers are told to have."""
        return float((self._data.ctrl[0] + SQUEEZE) / (TRAVEL + SQUEEZE))

    def place(self, pose: Pose) -> None:
        """Put it there at rest, open."""
        self._data.qpos[self._pose] = np.concatenate(pose)
        self._data.mocap_pos[0], self._data.mocap_quat[0] = pose
        self._data.qpos[self._fingers] = TRAVEL
        self._data.ctrl[:] = TRAVEL

    def path(self, action: Floats) -> Iterator[tuple[Pose, float]]:
        """Where an action leads the target and the fingers' control, in `PIECES` even parts."""
        step, opening = step_of(action)
        begin, grip = self.target, self.grip
        end = self._leashed(begin @ step)
        places = begin.place + _SHARES * (end.place - begin.place)
        near = end.quat if begin.quat @ end.quat >= 0 else -end.quat
        quats = begin.quat + _SHARES * (near - begin.quat)
        change = min(max(opening - grip, -MAX_GRIP), MAX_GRIP)
        for part in range(PIECES):
            length = math.sqrt(quats[part] @ quats[part])
            share = (part + 1) / PIECES
            control = (grip + share * change) * (TRAVEL + SQUEEZE) - SQUEEZE
            yield Pose(places[part], quats[part] / length), control

    def _leashed(self, wanted: Pose) -> Pose:
        """The target, near where the gripper is and within bounds."""
        here = self.pose
        ahead = shortened(wanted.place - here.place, MAX_MOVE + LEASH)
        turn = turn_of(times(inverse(here.quat), wanted.quat))
        turned = times(here.quat, quat_of(shortened(turn, MAX_TURN + LEASH_TURN)))
        return Pose(np.clip(here.place + ahead, LOWER, UPPER), turned)
