"""Clouds of things' visible surfaces with known truth, as a depth camera that moves sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.synthetic import meshes

CAMERA = Camera(400.0, 400.0, 255.5, 191.5, 512, 384)


@dataclass(frozen=True)
class Filmed:
    clouds: list[np.ndarray]
    """T clouds (k, 3) in the camera frame."""
    poses: RigidTransform
    """T true poses T_camera_object."""
    times: np.ndarray


def shape(name: str) -> meshes.Mesh:
    """A thing of everyday size around the origin."""
    if name == "box":
        return meshes.box((0.07, 0.16, 0.11), atlas=False)
    if name == "plane":
        return meshes.box((0.22, 0.16, 0.0002), atlas=False)
    if name == "sphere":
        angle = np.linspace(-np.pi / 2, np.pi / 2, 25)
        profile = 0.05 * np.column_stack((np.cos(angle), np.sin(angle)))
    elif name == "bottle":
        profile = [(0, -0.1), (0.035, -0.1), (0.035, 0.03), (0.012, 0.06), (0.012, 0.1), (0, 0.1)]
    elif name == "bowl":
        profile = [
            (0, -0.03),
            (0.04, -0.03),
            (0.08, 0.03),
            (0.075, 0.03),
            (0.036, -0.025),
            (0, -0.025),
        ]
    else:
        profile = [
            (0, -0.05),
            (0.04, -0.05),
            (0.04, 0.05),
            (0.036, 0.05),
            (0.036, -0.044),
            (0, -0.044),
        ]
    turned = meshes.lathe(profile)
    if name != "mug":
        return turned
    bend = np.linspace(-np.pi / 2, np.pi / 2, 12)
    handle = np.column_stack((0.036 + 0.035 * np.cos(bend), 0.03 * np.sin(bend), 0 * bend))
    return meshes.merge([turned, meshes.tube(handle, 0.006)])


def filmed(
    name: str, seed: int = 0, steps: int = 40, turn: float = 1.5, noise: float = 0.005,
    bias: float = 0.005, distance: float = 0.5,
) -> Filmed:  # fmt: skip
    """A thing that is carried and turned by `turn` radians in `steps` frames at 20 fps.

    Args:
        noise: of depth, each pixel for itself, as a share.
        bias: of depth, smooth over the picture and in time, as a share (root mean square).
    """
    rng = np.random.default_rng(seed)
    times = np.arange(steps) / 20
    ease = np.linspace(0, 1, steps)
    axis = rng.standard_normal(3)
    spin = Rotation.from_rotvec(ease[:, None] * axis / np.linalg.norm(axis) * turn)
    upright = Rotation.from_euler("xy", [np.pi + 0.5, rng.uniform(-0.8, 0.8)])
    phase = rng.uniform(0, 2 * np.pi, 3)
    place = np.array([0, 0, distance]) + 0.08 * np.sin(3 * ease[:, None] + phase)
    poses = RigidTransform.from_components(place, spin * upright)
    surface = shape(name).sample(60_000, rng)
    wave = rng.uniform(0, 2 * np.pi, 4)
    clouds = [
        _seen(poses[t].apply(surface), rng, noise, bias, wave + 2.5 * times[t])
        for t in range(steps)
    ]
    return Filmed(clouds, poses, times)


def _seen(points, rng, noise: float, bias: float, wave) -> np.ndarray:
    """What a depth picture shows of points (n, 3): the nearest one a pixel, with its errors."""
    pixel = np.rint(CAMERA.project(points) / 2).astype(int)
    keys = pixel[:, 0] + 10_000 * pixel[:, 1]
    order = np.lexsort((points[:, 2], keys))
    first = order[np.unique(keys[order], return_index=True)[1]]
    seen = points[first]
    x, y = (CAMERA.project(seen) / [120, 120]).T
    smooth = np.sin(x + wave[0]) * np.cos(y + wave[1]) + np.sin(x + y + wave[2])
    return seen * np.exp(noise * rng.standard_normal(len(seen)) + bias * smooth)[:, None]
