"""Analytic clips with known truth for the joint estimate: points, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.geometry.observed import Observed, TrackedPoints

CAMERA = Camera(500.0, 500.0, 319.5, 239.5, 640, 480)


@dataclass(frozen=True)
class Truth:
    """A clip and what is true of it, in the first camera frame."""

    observed: Observed
    motion: RigidTransform
    """T displacements of the object since the first frame."""
    camera: RigidTransform
    """T poses T_first_camera."""
    points: np.ndarray
    """(N, 3) of the object in the first frame."""


def tracked_scene(
    seed: int = 0, steps: int = 50, count: int = 80, still: int = 120, shape: str = "ball",
    pixel: float = 0.5, scale: float = 1.0, flicker: float = 0.0, moving_from: int = 8,
) -> Truth:  # fmt: skip
    """A thing of `shape` that is carried and turned while the head sways; no occlusion."""
    rng = np.random.default_rng(seed)
    times = np.arange(steps) / 20
    middle = np.array([0.05, 0.08, 0.55])
    points = middle + _shape(rng, shape, count)
    camera = _path(rng, times, 0.06, 0.12, 0.5)
    ease = np.clip((np.arange(steps) - moving_from) / max(1, steps - moving_from), 0, 1)
    ease = ease**2 * (3 - 2 * ease)
    axis = rng.standard_normal(3)
    turn = Rotation.from_rotvec(ease[:, None] * axis / np.linalg.norm(axis) * 1.2)
    goal = rng.uniform(-0.15, 0.15, 3)
    place = middle + ease[:, None] * goal + np.sin(np.pi * ease)[:, None] * [0, -0.1, 0]
    motion = RigidTransform.from_components(place - turn.apply(middle), turn)
    background = np.column_stack(
        (rng.uniform(-0.8, 0.8, still), rng.uniform(-0.5, 0.5, still), rng.uniform(0.6, 1.6, still))
    )
    factor = scale * np.exp(flicker * rng.standard_normal(steps))
    thing = _seen(rng, camera.inv() * motion, points, pixel, factor)
    rest = _seen(rng, camera.inv(), background, pixel, factor)
    return Truth(Observed(CAMERA, times, thing, rest), motion, camera, points)


def _path(rng, times, shift, turn, slow) -> RigidTransform:
    phase = rng.uniform(0, 2 * np.pi, (6, 2))
    rate = 2 * np.pi * np.array([slow, 1.7 * slow])
    wave = np.stack([np.sin(times[:, None] * rate + p).sum(-1) for p in phase], -1)
    wave -= wave[0]
    return RigidTransform.from_components(
        wave[:, :3] * shift / 2, Rotation.from_rotvec(wave[:, 3:] * turn / 2)
    )


def _shape(rng, shape: str, count: int) -> np.ndarray:
    if shape == "box":
        return _box(rng, count)[0]
    if shape == "plane":
        return np.column_stack((rng.uniform(-0.06, 0.06, (count, 2)), np.zeros(count)))
    if shape == "line":
        return np.column_stack((rng.uniform(-0.06, 0.06, count), np.zeros((count, 2))))
    ball = rng.standard_normal((count, 3))
    return 0.05 * ball / np.linalg.norm(ball, axis=1, keepdims=True)


def _seen(rng, poses: RigidTransform, points, pixel, factor) -> TrackedPoints:
    local = np.stack([pose.apply(points) for pose in poses])
    xy = CAMERA.project(local)
    visible = np.isfinite(xy).all(-1) & CAMERA.contains(np.nan_to_num(xy, nan=-1.0))
    xy = xy + pixel * rng.standard_normal(xy.shape)
    depth = local[..., 2] / factor[:, None] * np.exp(0.005 * rng.standard_normal(xy.shape[:2]))
    return TrackedPoints(
        np.where(visible[..., None], xy, np.nan), visible, np.where(visible, depth, np.nan)
    )


def _box(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) on a box of 7 x 16 x 11 cm, and the normals there."""
    half = np.array([0.035, 0.08, 0.055])
    axis, side = rng.integers(0, 3, count), rng.choice([-1.0, 1.0], count)
    points = rng.uniform(-half, half, (count, 3))
    points[np.arange(count), axis] = side * half[axis]
    normals = np.zeros((count, 3))
    normals[np.arange(count), axis] = side
    askew = Rotation.from_rotvec([0.6, 0.7, 0.2])  # so that the camera sees three of its sides
    return askew.apply(points), askew.apply(normals)


def box_clouds(truth: Truth, seed: int = 0, noise: float = 0.004) -> list[np.ndarray]:
    """T clouds of the visible sides of the box that a scene of shape `box` shows."""
    rng = np.random.default_rng(seed)
    points, normals = _box(rng, 900)
    points = points + np.array([0.05, 0.08, 0.55])
    clouds = []
    for pose in truth.camera.inv() * truth.motion:
        local = pose.apply(points)
        facing = (pose.rotation.apply(normals) * local).sum(-1) < 0
        clouds.append(local[facing] * np.exp(noise * rng.standard_normal((facing.sum(), 1))))
    return clouds
