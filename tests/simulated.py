"""Tracks of a simulated scene, with the truth they were made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.geometry.view import View

CAMERA = Camera(368.0, 368.0, 479.5, 269.5, 960, 540)


@dataclass(frozen=True)
class Simulated:
    """A head that moves, a background at rest, and an object that is lifted and put down."""

    times: np.ndarray
    path: RigidTransform  # T_world_camera
    motion: RigidTransform  # displacements of the object
    start: int  # first frame that moves
    points: np.ndarray  # (N, 3) of the object before it moves
    background: np.ndarray  # (M, 3)
    view: View  # of the object
    background_view: View
    depth: np.ndarray  # (T, N) true depth of the object's points


def simulate(
    seed: int = 0,
    *,
    steps: int = 60,
    count: int = 30,
    noise: float = 0.5,
    outliers: float = 0.0,
    sway: float = 0.06,
    dropout: float = 0.0,
) -> Simulated:
    """`outliers`: share of tracks that slide away at random; `dropout`: of observations missing."""
    rng = np.random.default_rng(seed)
    times = np.arange(steps) / 20
    start = steps // 2
    phase = rng.uniform(0, 2 * np.pi, 3)
    wave = np.sin(2 * np.pi * 0.4 * times[:, None] + phase) - np.sin(phase)
    path = RigidTransform.from_components(sway * wave, Rotation.from_rotvec(0.08 * wave[:, ::-1]))
    progress = np.clip((np.arange(steps) - start + 1) / (steps / 3), 0, 1)
    smooth = progress**3 * (10 - 15 * progress + 6 * progress**2)
    direction = np.array([0.15, -0.1, 0.08])
    centre = np.array([0.05, 0.1, 0.55])
    turn = Rotation.from_rotvec(smooth[:, None] * np.array([0.2, 0.5, 0.3]))
    motion = RigidTransform.from_components(
        centre + smooth[:, None] * direction - turn.apply(centre), turn
    )
    points = centre + rng.uniform(-0.05, 0.05, (count, 3))
    background = rng.uniform([-0.5, -0.3, 0.6], [0.5, 0.3, 1.2], (120, 3))

    def seen(world: np.ndarray) -> View:
        local = np.stack([path[t].inv().apply(world[t]) for t in range(steps)])
        xy = CAMERA.project(local) + rng.normal(0, noise, (*local.shape[:2], 2))
        visible = CAMERA.contains(xy, 2) & (rng.random(local.shape[:2]) >= dropout)
        return View(CAMERA, path, times, np.where(visible[..., None], xy, np.nan), visible)

    moved = np.stack([motion[t].apply(points) for t in range(steps)])
    view = seen(moved)
    lost = rng.random(count) < outliers
    view.xy[:, lost] += np.cumsum(rng.normal(0, 4, (steps, lost.sum(), 2)), 0)
    depth = np.stack([path[t].inv().apply(moved[t])[:, 2] for t in range(steps)])
    still = seen(np.repeat(background[None], steps, 0))
    return Simulated(times, path, motion, start, points, background, view, still, depth)
