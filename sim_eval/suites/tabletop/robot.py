"""The robot: a parallel-jaw gripper with a wrist, moved by steps of its pose.

Frame of the gripper, whose pose is its state: the origin lies between the fingers, 8 mm from their
tips; z points out along the fingers, x is the direction in which they close.

A free body follows a mocap body through a stiff but soft-ended weld: contact pushes it off its
target rather than through what it touches. Gravity does not act on it. The two fingers are driven
by a servo each, at most 15 N, and are coupled as by a gear. What they hold, friction holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

Floats = NDArray[np.float64]

TRAVEL = 0.04
"""Of each finger, metres: fully open the gripper takes what is 8 cm wide."""
SQUEEZE = 0.01
"""How far past each other closed fingers are told to go, metres: that presses on thin things."""
MAX_MOVE, MAX_TURN, MAX_GRIP = 0.05, 0.35, 0.5
"""Most that one action does: metres, radians, share of the opening. More is cut off."""
LEASH, LEASH_TURN = 0.03, 0.25
"""Metres and radians by which the target may run ahead of where the gripper is."""
LOWER = np.array([-0.32, -0.36, 0.010])
UPPER = np.array([0.36, 0.36, 0.45])
"""Bounds of the gripper's target, metres; at the lowest, the tips are 2 mm above the table."""
TIMESTEP, SUBSTEPS, PIECES = 0.002, 50, 10
"""Seconds of a physics step, physics steps of an action, parts its path is led along in."""

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
  <camera name="left_wrist_0_rgb" pos="0 0.085 -0.135" xyaxes="1 0 0 0 -0.927 -0.375" fovy="72"/>
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


def step_of(action: Floats) -> tuple[RigidTransform, float]:
    """An action (10,) as a motion of the gripper in its own frame, and the opening it asks for.

    The rotation's two columns are made orthonormal (Gram-Schmidt); where they span no plane,
    nothing is turned. Motions beyond `MAX_MOVE` and `MAX_TURN` are cut to that length.
    """
    move, turn = action[:3], rotation_of(action[3:9]).as_rotvec()
    move = shortened(move, MAX_MOVE)
    turn = shortened(turn, MAX_TURN)
    step = RigidTransform.from_components(move, Rotation.from_rotvec(turn))
    return step, float(np.clip(action[9], 0, 1))


def rotation_of(columns: Floats) -> Rotation:
    """The rotation whose matrix has nearly these first two columns (6,)."""
    first, second = columns[:3], columns[3:]
    length = np.linalg.norm(first)
    if length < 1e-6:
        return Rotation.identity()
    x = first / length
    y = second - (second @ x) * x
    length = np.linalg.norm(y)
    if length < 1e-6:
        return Rotation.identity()
    y /= length
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=1))


def shortened(vector: Floats, most: float) -> Floats:
    """The vector, cut to a length of `most`."""
    length = float(np.linalg.norm(vector))
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
    def pose(self) -> RigidTransform:
        """T_world_gripper."""
        return _rigid(self._data.qpos[self._pose])

    @property
    def target(self) -> RigidTransform:
        """T_world_gripper that it is led to."""
        return _rigid(np.concatenate([self._data.mocap_pos[0], self._data.mocap_quat[0]]))

    @property
    def opening(self) -> float:
        """From 0, closed, to 1."""
        return float(np.clip(self._data.qpos[self._fingers].mean() / TRAVEL, 0, 1))

    @property
    def grip(self) -> float:
        """Opening that the fingers are told to have."""
        return float((self._data.ctrl[0] + SQUEEZE) / (TRAVEL + SQUEEZE))

    def place(self, pose: RigidTransform) -> None:
        """Put it there at rest, open."""
        quat = np.roll(pose.rotation.as_quat(), 1)
        self._data.qpos[self._pose] = np.concatenate([pose.translation, quat])
        self._data.mocap_pos[0], self._data.mocap_quat[0] = pose.translation, quat
        self._data.qpos[self._fingers] = TRAVEL
        self._data.ctrl[:] = TRAVEL

    def paths(self, action: Floats) -> tuple[Floats, Floats, Floats]:
        """What an action leads the target and the fingers along, in `PIECES` parts.

        Returns:
            Positions (PIECES, 3), quaternions (PIECES, 4) scalar-first, control (PIECES,).
        """
        step, opening = step_of(action)
        begin, share = self.target, np.arange(1, PIECES + 1)[:, None] / PIECES
        end = self._leashed(begin * step)
        places = begin.translation + share * (end.translation - begin.translation)
        turn = (begin.rotation.inv() * end.rotation).as_rotvec()
        turned = begin.rotation * Rotation.from_rotvec(share * turn)
        grip = self.grip
        asked = grip + np.clip(opening - grip, -MAX_GRIP, MAX_GRIP)
        grips = grip + share[:, 0] * (asked - grip)
        control = grips * (TRAVEL + SQUEEZE) - SQUEEZE
        return places, np.roll(turned.as_quat(), 1, axis=1), control

    def _leashed(self, wanted: RigidTransform) -> RigidTransform:
        """The target, near where the gripper is and within bounds."""
        here = self.pose
        ahead = shortened(wanted.translation - here.translation, MAX_MOVE + LEASH)
        place = np.clip(here.translation + ahead, LOWER, UPPER)
        turn = (here.rotation.inv() * wanted.rotation).as_rotvec()
        turned = here.rotation * Rotation.from_rotvec(shortened(turn, MAX_TURN + LEASH_TURN))
        return RigidTransform.from_components(place, turned)


def _rigid(pose: Floats) -> RigidTransform:
    return RigidTransform.from_components(pose[:3], Rotation.from_quat(np.roll(pose[3:], -1)))
