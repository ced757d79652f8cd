"""A camera and an IMU on one head, simulated: what they would measure, with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.recording import Imu
from tests.simulated import CAMERA

Path = Callable[[np.ndarray], RigidTransform]
UP = np.array([0.0, -9.0, -3.9])  # specific force at rest: the camera looks down a little
UP *= 9.81 / np.linalg.norm(UP)


@dataclass(frozen=True)
class Worn:
    """Four seconds of one head."""

    times: np.ndarray
    path: RigidTransform  # T_first_camera
    points: np.ndarray  # (N, 3) in the first camera's frame; meaningless for moving tracks
    still: np.ndarray  # (N,) tracks of the still world
    xy: np.ndarray
    visible: np.ndarray
    imu: Imu
    turn: Rotation  # sensor axes to camera axes
    lever: np.ndarray
    gravity: np.ndarray  # in the first camera's frame


def swaying(seed: int, amplitude: float = 0.06, turning: float = 0.1) -> Path:
    """A head that sways by `amplitude` metres and `turning` radians about every axis."""
    rng = np.random.default_rng([seed, 1])
    rate, phase = rng.uniform(0.3, 0.5, 6), rng.uniform(0, 2 * np.pi, 6)

    def path(times: np.ndarray) -> RigidTransform:
        wave = np.sin(2 * np.pi * rate * np.asarray(times)[:, None] + phase)
        return RigidTransform.from_components(
            amplitude * wave[:, :3], Rotation.from_rotvec(turning * wave[:, 3:])
        )

    return path


def worn(
    path: Path,
    seed: int = 0,
    *,
    up: np.ndarray = UP,
    seconds: float = 4.0,
    flat: bool = False,
    pixels: float = 0.4,
    accel_noise: float = 0.02,
    gyro_noise: float = 0.002,
    bias: float = 1.0,
    offset: float = 0.02,
) -> Worn:
    """`up`: specific force at rest in the world of `path`; `flat`: all points on one plane;
    `bias`: factor on 0.1 m/s2 and 0.01 rad/s."""
    rng = np.random.default_rng([seed, 2])
    times = np.arange(round(20 * seconds)) / 20
    true = path(times)
    points = rng.uniform([-0.8, -0.45, 0.5], [0.8, 0.45, 1.6], (150, 3))
    if flat:
        points[:, 2] = 0.9 - 0.4 * points[:, 1]
    xy, visible, still = _tracks(true, true[len(times) // 2].apply(points), times, pixels, rng)
    turn = Rotation.random(rng=rng)
    lever = 0.03 * _direction(rng)
    imu = _imu(path, times, up, turn, lever)
    count = len(imu.times)
    imu = Imu(
        imu.times + offset,
        imu.gyro + bias * 0.01 * _direction(rng) + rng.normal(0, gyro_noise, (count, 3)),
        imu.accel + bias * 0.1 * _direction(rng) + rng.normal(0, accel_noise, (count, 3)),
    )
    local = (true[0].inv() * true[len(times) // 2]).apply(points)
    first = true[0].inv()
    return Worn(
        times, first * true, local, still, xy, visible, imu, turn, lever,
        -first.rotation.apply(up),
    )  # fmt: skip


def _tracks(
    path: RigidTransform,
    world: np.ndarray,
    times: np.ndarray,
    noise: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tenth of the tracks drifts at random, another moves together from the middle on; most end
    before the clip does."""
    count, middle = len(world), len(times) // 2
    local = np.stack([pose.inv().apply(world) for pose in path])
    xy = CAMERA.project(local) + rng.normal(0, noise, (len(times), count, 2))
    tenth = count // 10
    xy[:, :tenth] += np.cumsum(rng.normal(0, 3, (len(times), tenth, 2)), 0)
    progress = np.clip(times - times[middle], 0, 1)[:, None, None]
    xy[:, tenth : 2 * tenth] += progress * rng.normal(0, 60, 2)
    lasts = rng.integers(len(times) // 3, 2 * len(times), count)
    visible = CAMERA.contains(xy, 2) & (np.arange(len(times))[:, None] < lasts)
    return np.where(visible[..., None], xy, np.nan), visible, np.arange(count) >= 2 * tenth


def _imu(path: Path, clip: np.ndarray, up: np.ndarray, turn: Rotation, lever: np.ndarray) -> Imu:
    times, h = np.arange(clip[0] - 0.5, clip[-1] + 0.5, 1 / 200), 1e-3

    def place(at: np.ndarray) -> np.ndarray:
        return path(at).apply(lever)

    axes = path(times).rotation
    acceleration = (place(times + h) - 2 * place(times) + place(times - h)) / h**2
    turning = (path(times - h).rotation.inv() * path(times + h).rotation).as_rotvec() / (2 * h)
    accel = (axes * turn).inv().apply(acceleration + up)
    return Imu(times, turn.inv().apply(turning), accel)


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
