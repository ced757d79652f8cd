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
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import UserError
from robot.grasp import STEP, gripper_steps, numbers, transforms
from robot.robot import Kind
from robot.turns import between, turned

Floats = NDArray[np.float64]
Actions = Literal["pose_step", "object_step", "joints"]

ACTIONS: tuple[str, ...] = get_args(Actions)
_POSE = 8
_SLACK = 1e-6


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


def actions_through(
    commands: Floats, what: str, size: int, grasp: RigidTransform | None = None
) -> Floats:
    """(P, size) actions that lead through (P + 1, n) commands, each from one to the next: what
    `targets` makes these commands of.

    Args:
        size: numbers of an action.
        what, grasp: as of `targets`.
    """
    if what == "joints":
        return commands[1:]
    turns = Rotation.from_quat(commands[:, 3:7])
    poses = RigidTransform.from_components(commands[:, :3], turns)
    steps = numbers(poses[:-1].inv() * poses[1:])
    if what == "object_step" and grasp is not None:
        steps = gripper_steps(steps, grasp.inv())
    return np.concatenate([steps, commands[1:, 7:]], axis=1)[:, :size]


class Blend(NamedTuple):
    """What commands are off a chunk as they turn to it: that goes, along a curve that is level at
    both of its ends."""

    off: Floats
    """A `difference`."""
    since: float
    over: float
    """Seconds."""

    def added(self, kind: Kind, said: Floats, time: float) -> Floats:
        """To what the chunk says of a time."""
        share = (time - self.since) / self.over if self.over > 0 else 1.0
        if share >= 1:
            return said
        return moved(kind, said, 1 - share * share * (3 - 2 * share), self.off)


class Chunk:
    """What a robot is to do from an observation on.

    Args:
        id: of the request that it answers.
        seen: when the observation was made, `time.monotonic()`.
        fps: actions a second.
        actions: (H, A), as the policy gave them.
        commands: (H + 1, n), of `targets`.
        latency: seconds from the observation to the answer.
    """

    def __init__(
        self,
        id: int,
        seen: float,
        fps: float,
        actions: NDArray[np.floating],
        commands: Floats,
        kind: Kind,
        latency: float = 0.0,
    ):
        self.id, self.seen, self.fps, self.latency = id, seen, fps, latency
        self.actions, self._commands, self._kind = actions, commands, kind
        self.begin = seen
        """When the first action begins."""
        self.blend: Blend | None = None
        """How the robot turns to it."""

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

    def planned(self, time: float) -> Floats:
        """The command for a time, the blend into this chunk included."""
        said = self.at(time)
        return said if self.blend is None else self.blend.added(self._kind, said, time)

    def left(self, time: float, position: Floats) -> Floats:
        """(P + 1, n) a robot's position at a time, and where it is to be after 1, 2, ..., P times
        an action's from then on, as long as the chunk lasts."""
        count = max(0, math.floor((self.end - time) * self.fps + _SLACK))
        ahead = [self.planned(time + (each + 1) / self.fps) for each in range(count)]
        return np.array([position, *ahead])


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
