"""What a camera's inertial sensors read while a head moves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.synthetic.take import Take

Floats = NDArray[np.float64]
RATE = 201.0
"""Readings a second, as of GoPro cameras."""
GRAVITY = 9.81
GYRO_NOISE, ACCEL_NOISE = 0.004, 0.04
"""Standard deviation of a reading: rad/s, m/s^2."""
GYRO_BIAS, ACCEL_BIAS = 0.012, 0.08
"""Standard deviation of a recording's constant error: rad/s, m/s^2."""
T_CAMERA_IMU = RigidTransform.from_components(
    [0.021, -0.034, -0.012],
    Rotation.from_matrix([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    * Rotation.from_euler("xyz", [1.4, -0.9, 0.6], degrees=True),
)
"""The chip lies beside the lens, with axes of its own."""
_STEP = 1e-3
_COLUMNS = (
    "component_idx", "component_timestamp_ms", "canonical_timestamp_ms", "gyro_x", "gyro_y",
    "gyro_z", "accl_x", "accl_y", "accl_z",
)  # fmt: skip


def readings(take: Take) -> tuple[Floats, Floats, Floats]:
    """Video times (N,) seconds, angular velocity (N, 3) rad/s, specific force (N, 3) m/s^2, both in
    the sensor's axes, with noise and a constant error."""
    times = np.arange(int(take.duration * RATE)) / RATE
    before, now, after = (
        take.camera(take.scene_times(times) + step) * T_CAMERA_IMU for step in (-_STEP, 0.0, _STEP)
    )
    gyro = (before.rotation.inv() * after.rotation).as_rotvec() / (2 * _STEP)
    moved = after.translation - 2 * now.translation + before.translation
    accel = now.rotation.inv().apply(moved / _STEP**2 + [0.0, 0.0, GRAVITY])
    rng = np.random.default_rng([*take.scene.seed, 6])
    gyro = gyro + rng.normal(0, GYRO_BIAS, 3) + rng.normal(0, GYRO_NOISE, gyro.shape)
    accel = accel + rng.normal(0, ACCEL_BIAS, 3) + rng.normal(0, ACCEL_NOISE, accel.shape)
    return times, gyro, accel


def write_ego4d(path: Path, take: Take) -> None:
    """The readings as Ego4D publishes them: `imu/{video_uid}.csv`."""
    times, gyro, accel = readings(take)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for t, w, a in zip((times * 1e3).tolist(), gyro.tolist(), accel.tolist(), strict=True):
            writer.writerow([0, t, t, *w, *a])
