"""What stands between any program and an arm: every command is held to the limits.

A target within the limits is passed on as it is, to the bit. Another is replaced by a command on
the way to it that breaks none: place, step, speed, acceleration and jerk, all at once; and from
every command on, the arm could come to rest without breaking one. That holds for a constant time
between commands. Where it changes from one command to the next, what it may come to is in this
order: never out of the workspace or a joint's range, never faster and no longer a step than
allowed; acceleration and jerk may be higher for as long as a stop takes.

What no program means (a number that is none, a target far from where the arm is) is an error: the
caller stops the arm, by `Safety.brake` or by having the robot hold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ego_ops.errors import UserError
from robot.limits import Limits, Rates
from robot.motion import Motion, Room
from robot.robot import Kind

Floats = NDArray[np.float64]

POSE = 8
_UNIT = 1e-2
"""How far from 1 a quaternion's length may be."""
_DT = (1e-4, 0.5)
"""Seconds that may lie between two commands; a longer time is taken for the longest."""


class Impossible(UserError):
    """A target that no program means: what it is, its value, the limit. The arm is to stop."""


class Checked(NamedTuple):
    """A command that may be given."""

    target: Floats
    clipped: tuple[str, ...]
    """What the target asked for would have broken, e.g. `workspace`, `translation speed`,
    `joint 3 braking`; empty if it is passed on as it is."""


class Safety:
    """Holds the commands of one arm to its limits. `reset` comes before anything else.

    A speed is the difference of two commands over the time between them, an acceleration that of
    two speeds over the later one's time, a jerk likewise. Those of a rotation are of rotation
    vectors in the base frame. What is checked is commands: what the arm does with them is its own.
    """

    def __init__(self, limits: Limits, kind: Kind):
        self._limits, self._kind = limits, kind

    def reset(self, position: Floats, velocity: float | Floats = 0.0) -> None:
        """Begin where the arm is.

        Args:
            position: as a command, see `robot.robot`.
            velocity: of what it does now: of a pose (7,) translation [m/s], rotation about the
                base's axes [rad/s], opening [1/s]; of joints (J,) [rad/s].

        Raises:
            Impossible: it is no position, or outside of what the limits allow.
        """
        if self._kind == "pose":
            self._pose = _Pose(self._limits)
            size, moving = POSE, POSE - 1
        else:
            size = moving = np.size(position)
            self._joints = _Joints(self._limits, size)
        start = _numbers("position", position, size)
        speed = np.broadcast_to(_numbers("velocity", velocity, None), (moving,)).copy()
        (self._pose if self._kind == "pose" else self._joints).reset(start, speed)

    def check(self, target: Floats, dt: float) -> Checked:
        """What to command, `dt` seconds after the last command, for a target.

        Raises:
            Impossible: see the class; nothing has changed then.
        """
        arm = self._pose if self._kind == "pose" else self._joints
        return arm.check(_numbers("target", target, len(arm.position)), _seconds(dt))

    def brake(self, dt: float) -> Floats:
        """What to command, `dt` seconds after the last command, to come to rest soon."""
        arm = self._pose if self._kind == "pose" else self._joints
        return arm.brake(_seconds(dt))

    @property
    def position(self) -> Floats:
        """The last command."""
        return (self._pose if self._kind == "pose" else self._joints).position.copy()

    @property
    def resting(self) -> bool:
        """Whether the last two commands were the same, but for the gripper's opening."""
        return (self._pose if self._kind == "pose" else self._joints).resting


class _Pose:
    """A gripper's pose and opening."""

    def __init__(self, limits: Limits):
        space = limits.workspace
        self._low, self._high = np.array(space.floor), np.array(space.high)
        self._limits = limits
        self._place, self._turn = _motion(limits.translation), _motion(limits.rotation)

    @property
    def resting(self) -> bool:
        return self._place.resting and self._turn.resting

    def reset(self, position: Floats, velocity: Floats) -> None:
        rotation, grip = _rotation(position), self._limits.gripper
        _inside("position", position[:3], self._low, self._high, "xyz", "m")
        self._opening(position[7], grip.low, grip.high)
        self.position, self._rotation = position.copy(), rotation
        self._place.reset(velocity[:3])
        self._turn.reset(velocity[3:6])

    def check(self, target: Floats, dt: float) -> Checked:
        rotation, grip = _rotation(target), self._limits.gripper
        step = target[:3] - self.position[:3]
        turn = (rotation * self._rotation.inv()).as_rotvec()
        _near("target", step, self._limits.translation.beyond, "m")
        _near("target", turn, self._limits.rotation.beyond, "rad")
        whole = grip.high - grip.low
        self._opening(target[7], grip.low - whole, grip.high + whole)
        command, clipped = target.copy(), []
        done, broken = self._place.advance(step, self._room, dt)
        if broken:
            command[:3] = self._clamped(self.position[:3] + done)
            clipped += ["workspace" if name == "range" else f"translation {name}"
                        for name in broken]  # fmt: skip
        done, broken = self._turn.advance(turn, None, dt)
        if broken:
            rotation = Rotation.from_rotvec(done) * self._rotation
            command[3:7] = _alike(rotation.as_quat(), self.position[3:7])
            clipped += [f"rotation {name}" for name in broken]
        command[7], names = self._grip(target[7], dt)
        self.position, self._rotation = command, rotation
        return Checked(command.copy(), (*clipped, *names))

    def brake(self, dt: float) -> Floats:
        command = self.position.copy()
        command[:3] = self._clamped(command[:3] + self._place.brake(self._room, dt))
        self._rotation = Rotation.from_rotvec(self._turn.brake(None, dt)) * self._rotation
        command[3:7] = _alike(self._rotation.as_quat(), command[3:7])
        self.position = command
        return command.copy()

    @property
    def _room(self) -> Room:
        return Room(self._low - self.position[:3], self._high - self.position[:3])

    def _clamped(self, place: Floats) -> Floats:
        """But for rounding it is inside."""
        return np.minimum(np.maximum(place, self._low), self._high)

    def _grip(self, wanted: float, dt: float) -> tuple[float, tuple[str, ...]]:
        limits, before = self._limits.gripper, self.position[7]
        inside = min(max(wanted, limits.low), limits.high)
        most = limits.speed * dt
        opening = min(max(inside, before - most), before + most)
        names = []
        if inside != wanted:
            names.append("gripper range")
        if opening != inside:
            names.append("gripper speed")
        return float(opening), tuple(names)

    @staticmethod
    def _opening(value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise Impossible(f"gripper: opening {value:.4g}, must be from {low:g} to {high:g}")


class _Joints:
    """Joints' positions, the gripper's among them."""

    def __init__(self, limits: Limits, size: int):
        joints = limits.joints
        numbers = {name: _spread(f"joints.{name}", value, size)
                   for name, value in vars(joints).items()}  # fmt: skip
        self._low, self._high = numbers["low"], numbers["high"]
        self._beyond = numbers["beyond"]
        rates = np.stack([numbers[name] for name in ("speed", "acceleration", "jerk")])
        self._motion = Motion(size, numbers["step"], rates, together=False)

    @property
    def resting(self) -> bool:
        return self._motion.resting

    def reset(self, position: Floats, velocity: Floats) -> None:
        names = [f"joint {number}" for number in range(len(position))]
        _inside("position", position, self._low, self._high, names, "rad")
        self.position = position.copy()
        self._motion.reset(velocity)

    def check(self, target: Floats, dt: float) -> Checked:
        step = target - self.position
        far = np.abs(step) > self._beyond
        if far.any():
            at = int(far.argmax())
            raise Impossible(
                f"joint {at}: target {target[at]:.4g} rad is {abs(step[at]):.4g} from the last "
                f"command, must be at most {self._beyond[at]:g}"
            )
        done, broken = self._motion.advance(step, self._room, dt)
        command = target.copy()
        if broken:
            command = np.minimum(np.maximum(self.position + done, self._low), self._high)
        self.position = command
        return Checked(command.copy(), tuple(f"joint {name}" for name in broken))

    def brake(self, dt: float) -> Floats:
        moved = self.position + self._motion.brake(self._room, dt)
        self.position = np.minimum(np.maximum(moved, self._low), self._high)
        return self.position.copy()

    @property
    def _room(self) -> Room:
        return Room(self._low - self.position, self._high - self.position)


def _motion(rates: Rates) -> Motion:
    three = np.array([rates.speed, rates.acceleration, rates.jerk])
    return Motion(3, rates.step, three, together=True)


def _spread(name: str, value: float | tuple[float, ...], size: int) -> Floats:
    if isinstance(value, tuple) and len(value) != size:
        raise UserError(f"limits: {name} has {len(value)} numbers, the arm has {size} joints")
    return np.broadcast_to(np.asarray(value, np.float64), (size,))


def _numbers(what: str, values: ArrayLike, size: int | None) -> Floats:
    array = np.asarray(values, np.float64)
    if size is not None and array.shape != (size,):
        raise Impossible(f"{what}: {array.shape} numbers, must be ({size},)")
    if not np.isfinite(array).all():
        raise Impossible(f"{what}: {array.tolist()}, must be finite")
    return array


def _seconds(dt: float) -> float:
    if not dt >= _DT[0]:
        raise ValueError(f"dt {dt}: must be seconds, at least {_DT[0]}")
    return min(dt, _DT[1])


def _rotation(pose: Floats) -> Rotation:
    length = math.sqrt(pose[3:7] @ pose[3:7])
    if abs(length - 1) > _UNIT:
        raise Impossible(
            f"rotation: quaternion {pose[3:7].tolist()} of length {length:.4g}, must be 1"
        )
    return Rotation.from_quat(pose[3:7])


def _near(what: str, step: Floats, beyond: float, unit: str) -> None:
    length = math.sqrt(step @ step)
    if length > beyond:
        raise Impossible(
            f"{what}: {length:.4g} {unit} from the last command, must be at most {beyond:g}"
        )


def _inside(
    what: str, values: Floats, low: Floats, high: Floats, names: str | list[str], unit: str
) -> None:
    for name, value, least, most in zip(names, values, low, high, strict=True):
        if not least <= value <= most:
            raise Impossible(
                f"{what}: {name} {value:.4g} {unit}, must be from {least:g} to {most:g}"
            )


def _alike(quaternion: Floats, other: Floats) -> Floats:
    """Of the two quaternions of a rotation the one nearer to another."""
    return quaternion if quaternion @ other >= 0 else -quaternion
