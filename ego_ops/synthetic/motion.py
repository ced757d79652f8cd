"""Smooth motion as functions of time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform, Rotation

Floats = NDArray[np.float64]
Path = Callable[[Floats], RigidTransform]
"""(N,) seconds to N rigid motions."""


def minimum_jerk(u: ArrayLike) -> Floats:
    """Progress from 0 to 1 while u runs from 0 to 1, at rest (and without jerk) at both ends."""
    s = np.clip(np.asarray(u, float), 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2)


def ramp(t: ArrayLike, start: float, end: float) -> Floats:
    """Minimum-jerk progress from 0 at `start` to 1 at `end` (seconds)."""
    return minimum_jerk((np.asarray(t, float) - start) / (end - start))


def blend(a: RigidTransform, b: RigidTransform, weight: Floats) -> RigidTransform:
    """N motions between `a` (weight 0) and `b` (weight 1): straight, turning about one axis."""
    turn = (a.rotation.inv() * b.rotation).as_rotvec()
    rotation = a.rotation * Rotation.from_rotvec(weight[:, None] * turn)
    shift = a.translation + weight[:, None] * (b.translation - a.translation)
    return RigidTransform.from_components(shift, rotation)


def repeat(pose: RigidTransform, count: int) -> RigidTransform:
    """One motion as a stack of `count`."""
    return RigidTransform.from_matrix(np.tile(pose.as_matrix(), (count, 1, 1)))


def carry(
    start: RigidTransform, goal: RigidTransform, lift: float, tilt: ArrayLike, t0: float, t1: float
) -> Path:
    """Lift, carry, tilt on the way and back, and put down; at rest before `t0` and after `t1`.

    Args:
        start, goal: single poses T_world_object.
        lift: metres.
        tilt: rotation vector (3,) in the world frame, the greatest tilt on the way.
    """
    largest = np.asarray(tilt, float)

    def path(times: Floats) -> RigidTransform:
        u = (times - t0) / (t1 - t0)
        pose = blend(start, goal, minimum_jerk((u - 0.12) / 0.76))
        height = lift * (minimum_jerk(u / 0.42) - minimum_jerk((u - 0.58) / 0.42))
        leaning = minimum_jerk((u - 0.15) / 0.35) - minimum_jerk((u - 0.55) / 0.33)
        lean = Rotation.from_rotvec(leaning[:, None] * largest)
        up = height[:, None] * np.array([0.0, 1.0, 0.0])
        return RigidTransform.from_components(pose.translation + up, lean * pose.rotation)

    return path


def look_at(position: Floats, target: Floats) -> Rotation:
    """Orientations (OpenCV axes) of level cameras at `position` (N, 3) that look at `target`."""
    forward = target - position
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    return Rotation.from_matrix(np.stack([right, down, forward], axis=2))


def head(
    rng: np.random.Generator, base: ArrayLike, target: ArrayLike, before: float, travel: float
) -> Path:
    """A person's head that is never still, looking about at `target`: T_world_camera.

    Args:
        base: (3,) mean position, metres.
        target: (3,) point looked at, metres.
        before, travel: within the first `before` seconds the head gets `travel` metres away from
            where it started.
    """
    rate = rng.uniform([[0.17, 0.35, 0.75]] * 6, [[0.24, 0.5, 1.0]] * 6)
    phase = rng.uniform(0, 2 * np.pi, (6, 3))
    # Most of the sway is sideways, and fastest before the contact.
    phase[0, 0] = rng.choice([0.0, np.pi]) + rng.uniform(-0.4, 0.4) - np.pi * rate[0, 0] * before
    size = np.array([1.0, 0.45, 0.5, 1.2, 1.0, 0.8])[:, None] * np.array([1.0, 0.22, 0.08])

    def sway(times: Floats) -> Floats:
        wave = np.sin(2 * np.pi * rate * times[:, None, None] + phase)
        return np.asarray((size * wave).sum(axis=2))

    early = sway(np.linspace(0, before, 60))[:, :3]
    scale = travel / np.linalg.norm(early - early[0], axis=1).max()

    def path(times: Floats) -> RigidTransform:
        wave = sway(times)
        position = np.asarray(base, float) + scale * wave[:, :3]
        # Eyes wander by a few centimetres about the target.
        gaze = look_at(position, np.asarray(target, float) + 0.02 * wave[:, 3:])
        nod = Rotation.from_rotvec(np.radians(0.8) * wave[:, 3:])
        return RigidTransform.from_components(position, gaze * nod)

    return path
