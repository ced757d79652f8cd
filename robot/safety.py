"""What stands between any program and an arm: every command is held to the limits.

A target within the limits is passed on as it is, to the bit. Another is replaced by a command on
the way to it that breaks none: place, step, speed, acceleration and jerk, all at once; and from
every command on, the arm could come to rest without breaking one. That holds for a constant time
between commands. Where it changes from one command to the next, the arm still is never out of the
workspace or a joint's range, never faster, and no step is longer than allowed: these come first.
Acceleration and jerk may then be higher, about as much as the time has changed.

What no program means (a number that is none, a target far from where the arm is) is an error: the
caller stops the arm, by `Safety.brake` or by having the robot hold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ego_ops.errors import UserError
from robot.impossible import Impossible, check_unit, inside, near, numbers, seconds
from robot.limits import Limits, Numbers
from robot.motion import NAMES, Motions
from robot.robot import Kind
from robot.turns import between, turned
from robot.ways import Room

Floats = NDArray[np.float64]

POSE = 8
_ANYWHERE = [math.inf] * 3


class Checked(NamedTuple):
    """A command that may be given."""

    target: Floats
    clipped: tuple[str, ...]
    """What the target asked for would have broken, e.g. `translation speed`, `joint 3 range`,
    `translation braking` (the arm could not have stopped in time); empty if it is passed on."""


class Safety:
    """Holds the commands of one arm to its limits. `reset` comes before anything else.

    A speed is the difference of two commands over the time between them, an acceleration that of
    two speeds over the later one's time, a jerk likewise. Those of a rotation are of rotation
    vectors in the base frame. What is checked is commands: what the arm does with them is its own.
    """

    def __init__(self, limits: Limits, kind: Kind):
        self._limits, self._kind = limits, kind

    def reset(self, position: ArrayLike, velocity: ArrayLike = 0.0) -> None:
        """Begin where the arm is.

        Args:
            position: as a command, see `robot.robot`.
            velocity: of what it does now: of a pose (6,) translation [m/s] and rotation about the
                base's axes [rad/s]; of joints (J,) [rad/s].

        Raises:
            Impossible: it is no position, or outside of what the limits allow.
            UserError: the limits are for another number of joints.
        """
        start = numbers("position", position, POSE if self._kind == "pose" else np.size(position))
        moving = np.asarray(velocity, np.float64)
        size = POSE - 2 if self._kind == "pose" else len(start)
        if moving.shape not in ((), (size,)) or not np.isfinite(moving).all():
            raise Impossible(f"velocity: {moving.tolist()}, must be {size} finite numbers")
        arm = _Pose if self._kind == "pose" else _Joints
        self._arm: _Pose | _Joints = arm(self._limits, start, np.broadcast_to(moving, (size,)))

    def check(self, target: ArrayLike, dt: float) -> Checked:
        """What to command, `dt` seconds after the last command, for a target.

        Raises:
            Impossible: see the class; nothing has changed then.
        """
        wanted = numbers("target", target, len(self._arm.position))
        command, clipped = self._arm.check(wanted, seconds(dt))
        self._arm.position = command
        return Checked(command.copy(), tuple(clipped))

    def brake(self, dt: float) -> Floats:
        """What to command, `dt` seconds after the last command, to come to rest soon."""
        self._arm.position = self._arm.brake(seconds(dt))
        return self.position

    @property
    def position(self) -> Floats:
        """The last command."""
        return self._arm.position.copy()

    @property
    def resting(self) -> bool:
        """Whether the last two commands were the same, but for a pose's opening."""
        return self._arm.motions.resting


class _Pose:
    """A gripper's pose and opening."""

    def __init__(self, limits: Limits, start: Floats, velocity: Floats):
        space, self._limits = limits.workspace, limits
        self._low, self._high = np.array(space.floor), np.array(space.high)
        inside(start[:3], self._low, self._high, ["x", "y", "z"], "m")
        inside(start[7:], limits.gripper.low, limits.gripper.high, ["opening"], "")
        check_unit(start[3:7])
        rates = [limits.translation, limits.rotation]
        three = [[one.speed, one.acceleration, one.jerk] for one in rates]
        self.motions = Motions(np.array([one.step for one in rates]), np.array(three).T, 3)
        self.motions.reset(velocity.reshape(2, 3))
        self.position = start

    def check(self, target: Floats, dt: float) -> tuple[Floats, list[str]]:
        here, grip = self.position, self._limits.gripper
        check_unit(target[3:7])
        turn = between(here[3:7].tolist(), target[3:7].tolist())
        wish = np.array([target[:3] - here[:3], turn])
        near("translation", wish[0], self._limits.translation.beyond, "m")
        near("rotation", wish[1], self._limits.rotation.beyond, "rad")
        whole, opening = grip.high - grip.low, float(target[7])
        if not grip.low - whole <= opening <= grip.high + whole:
            inside(target[7:], grip.low - whole, grip.high + whole, ["opening"], "")
        done, broken = self.motions.advance(wish, self._room, dt)
        command, clipped = target.copy(), []
        if broken.any():
            clipped = [
                f"{what} {name}"
                for what, each in zip(("translation", "rotation"), broken.T, strict=True)
                for name, one in zip(NAMES, each, strict=True)
                if one
            ]
            self._lead(command, done, np.any(broken, axis=0))
        command[7], names = self._grip(opening, dt)
        return command, clipped + names

    def brake(self, dt: float) -> Floats:
        command = self.position.copy()
        self._lead(command, self.motions.brake(self._room, dt), np.ones(2, bool))
        return command

    def _lead(self, command: Floats, done: Floats, which: NDArray[np.bool_]) -> None:
        """Put into a command the displacements of translation, rotation or both."""
        if which[0]:
            command[:3] = np.clip(self.position[:3] + done[0], self._low, self._high)
        if which[1]:
            command[3:7] = turned(self.position[3:7].tolist(), done[1].tolist())

    @property
    def _room(self) -> Room:
        here = self.position[:3]
        low = np.array([self._low - here, _ANYWHERE])
        low[1] *= -1
        return Room(low, np.array([self._high - here, _ANYWHERE]))

    def _grip(self, wanted: float, dt: float) -> tuple[float, list[str]]:
        limits, before = self._limits.gripper, float(self.position[7])
        within = min(max(wanted, limits.low), limits.high)
        most = limits.speed * dt
        opening = min(max(within, before - most), before + most)
        names = ["gripper range"] if within != wanted else []
        return opening, names + (["gripper speed"] if opening != within else [])


class _Joints:
    """Joints' positions, the gripper's among them."""

    def __init__(self, limits: Limits, start: Floats, velocity: Floats):
        each = {
            name: _spread(name, value, len(start)) for name, value in vars(limits.joints).items()
        }
        self._low, self._high = each["low"], each["high"]
        self._names = [f"joint {number}" for number in range(len(start))]
        self._beyond = each["beyond"]
        inside(start, self._low, self._high, self._names, "rad")
        rates = [each[name] for name in ("speed", "acceleration", "jerk")]
        self.motions = Motions(each["step"], np.array(rates), 1)
        self.motions.reset(velocity[:, None])
        self.position = start

    def check(self, target: Floats, dt: float) -> tuple[Floats, list[str]]:
        wish = target - self.position
        far = np.abs(wish) > self._beyond
        if far.any():
            at = int(far.argmax())
            near(self._names[at], wish[at : at + 1], self._beyond[at], "rad")
        done, broken = self.motions.advance(wish[:, None], self._room, dt)
        if not broken.any():
            return target.copy(), []
        moved = np.clip(self.position + done[:, 0], self._low, self._high)
        names = [f"{self._names[at]} {NAMES[which]}" for at, which in np.argwhere(broken.T)]
        return np.where(broken.any(0), moved, target), names

    def brake(self, dt: float) -> Floats:
        done = self.motions.brake(self._room, dt)[:, 0]
        return np.clip(self.position + done, self._low, self._high)

    @property
    def _room(self) -> Room:
        here = self.position
        return Room((self._low - here)[:, None], (self._high - here)[:, None])


def _spread(name: str, value: Numbers, size: int) -> Floats:
    if isinstance(value, tuple) and len(value) != size:
        raise UserError(
            f"limits: joints.{name} has {len(value)} numbers, the arm has {size} joints"
        )
    return np.broadcast_to(np.asarray(value, np.float64), (size,))
