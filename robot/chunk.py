"""Chunks of actions as targets in time.

What the H actions of a chunk are (`robot.protocol.Offer.actions`):

    pose_step    (H, 9 or 10) steps of the gripper, each in its own frame as the step begins:
                 translation [m], the first two columns of the rotation, the opening after it:
                 T_base_gripper(k + 1) = T_base_gripper(k) S(k); without an opening it stays
    object_step  the same steps of a thing that is held: see `robot.grasp`
    joints       (H, J) positions [rad] after each action, as the robot's commands are

Actions begin where the robot was as it was observed, and take 1 / fps seconds each: action k is
done from k / fps to (k + 1) / fps after the observation.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot.grasp import STEP, gripper_steps, transforms
from robot.robot import Kind
from robot.turns import between, turned

Floats = NDArray[np.float64]
Actions = Literal["pose_step", "object_step", "joints"]

ACTIONS: tuple[str, ...] = get_args(Actions)
_POSE = 8


def targets(
    actions: ArrayLike, what: str, position: Floats, grasp: RigidTransform | None = None
) -> Floats:
    """(H + 1, n) commands: the position that a chunk begins from, then where each action leads.

    Args:
        actions: see the module.
        what: of `ACTIONS`.
        position: of the robot at the observation, as a command (`robot.robot`).
        grasp: T_gripper_object, for `object_step`.

    Raises:
        UserError: the actions are not that, or are none for this robot.
    """
    given = np.array(actions, np.float64)
    if given.ndim != 2 or not len(given) or not np.isfinite(given).all():
        raise UserError(f"actions of shape {given.shape}: must be (H, n), H > 0, all finite")
    if what == "joints":
        if given.shape[1] != len(position):
            raise UserError(f"actions of {given.shape[1]} joints: the robot has {len(position)}")
        return np.concatenate([position[None], given])
    if what not in ACTIONS:
        raise UserError(f"actions are {what!r}: must be one of {', '.join(ACTIONS)}")
    if len(position) != _POSE or given.shape[1] not in (STEP, STEP + 1):
        raise UserError(
            f"actions of {given.shape[1]} numbers for a robot commanded by {len(position)}:"
            f" {what} is {STEP} or {STEP + 1} numbers, for poses of {_POSE}"
        )
    if what == "object_step":
        if grasp is None:
            raise UserError("steps of an object need the grasp, T_gripper_object: give it")
        given = gripper_steps(given, grasp)
    return _poses(given, position)


def _poses(steps: Floats, position: Floats) -> Floats:
    pose = RigidTransform.from_components(position[:3], Rotation.from_quat(position[3:7]))
    found = np.tile(position, (len(steps) + 1, 1))
    for row, step in zip(found[1:], transforms(steps), strict=True):
        pose = pose * step
        row[:3], row[3:7] = pose.translation, pose.rotation.as_quat()
    if steps.shape[1] > STEP:
        found[1:, 7] = steps[:, STEP]
    return found


class Chunk:
    """What a robot is to do from an observation on.

    Args:
        id: of the request that it answers.
        begin: when the observation was made, `time.monotonic()`.
        fps: actions a second.
        actions: (H, A), as the policy gave them.
        commands: (H + 1, n), of `targets`.
        latency: seconds from the observation to the answer.
    """

    def __init__(
        self,
        id: int,
        begin: float,
        fps: float,
        actions: NDArray[np.floating],
        commands: Floats,
        kind: Kind,
        latency: float = 0.0,
    ):
        self.id, self.begin, self.fps, self.latency = id, begin, fps, latency
        self.actions, self._commands, self._kind = actions, commands, kind

    @property
    def end(self) -> float:
        """When the last action is done."""
        return self.begin + len(self.actions) / self.fps

    def at(self, time: float) -> Floats:
        """The command for a time: linear between those of actions, rotations along the shortest
        way at a constant rate; before the beginning and after the end as there."""
        place = min(max((time - self.begin) * self.fps, 0.0), float(len(self.actions)))
        before = min(int(place), len(self.actions) - 1)
        a, b = self._commands[before], self._commands[before + 1]
        return moved(self._kind, a, place - before, difference(self._kind, a, b))

    def left(self, time: float) -> NDArray[np.floating]:
        """(P, A) actions from the one that is due at a time, the nearest beginning counting."""
        return self.actions[max(0, math.floor((time - self.begin) * self.fps + 0.5)) :]


def difference(kind: Kind, a: Floats, b: Floats) -> Floats:
    """What leads from command a to b: of joints (J,) their differences; of a pose (7,) translation
    and rotation vector in the base frame, and the opening's difference."""
    if kind == "joints":
        return np.asarray(b - a)
    turn = between(a[3:7].tolist(), b[3:7].tolist())
    return np.concatenate([b[:3] - a[:3], turn, b[7:] - a[7:]])


def moved(kind: Kind, a: Floats, share: float, by: Floats) -> Floats:
    """A command, so much of a `difference` further."""
    if kind == "joints":
        return np.asarray(a + share * by)
    turn = turned(a[3:7].tolist(), (share * by[3:6]).tolist())
    return np.concatenate([a[:3] + share * by[:3], turn, a[7:] + share * by[6:]])
