"""A first reading of an IMU beside a camera's path: axes, clock, scale, gravity and biases.

In the order of VINS-Mono's initialisation (Qin, Li and Shen 2018): the gyroscope against the
camera's turning first, then everything that is linear once rotations are known (Martinelli 2014).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import RigidTransform, Rotation, Slerp

from ego_ops.errors import Rejection
from ego_ops.geometry.imu import GRAVITY, LARGEST_OFFSET, Constants, Readings, SensorModel
from ego_ops.geometry.view import Array, huber_weight

PRECISION = 0.005
"""Metres that a place along the path and the integrated readings may differ by, at the start."""


def first_constants(
    path: RigidTransform, times: Array, readings: Readings, model: SensorModel
) -> Constants:
    """All constants from T poses of a path up to scale.

    Raises:
        Rejection: the gyroscope does not show the camera's turning (`no_metric_scale`).
    """
    turn, gyro_bias, offset = aligned(path.rotation, readings)
    felt, by = _linear_terms(path, times, readings, turn, offset)
    scale, gravity, accel_bias, lever = _linear(felt, by, model)
    return Constants(scale, gravity, accel_bias, gyro_bias, turn, lever, offset)


def aligned(rotation: Rotation, readings: Readings) -> tuple[Rotation, Array, float]:
    """Rotation of sensor axes to camera axes, gyroscope bias (3,), and the clock's offset.

    For each offset on a grid, then between its points, the rotation and the bias that take the
    gyroscope to the camera's turning from frame to frame (Kabsch 1976, with Huber's weights); the
    offset is the one that leaves least.
    """
    seen = (rotation[:-1].inv() * rotation[1:]).as_rotvec() / readings.gap[:, None]

    def fit(offset: float) -> tuple[float, Rotation, Array]:
        felt = readings.turns(offset).sum(1) / readings.gap[:, None]
        weight = np.ones(len(seen))
        for _ in range(3):
            share = weight / weight.sum()
            middle, other = share @ felt, share @ seen
            u, _, v = np.linalg.svd(((seen - other) * weight[:, None]).T @ (felt - middle))
            turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
            error = np.linalg.norm(seen - other - (felt - middle) @ turn.T, axis=-1)
            weight = huber_weight(error, 1.5 * float(np.median(error)) + 1e-9)
        bias = middle - turn.T @ other
        left = float(np.minimum(error, 3 * np.median(error)).mean())
        return left, Rotation.from_matrix(turn), bias

    grid = np.linspace(-LARGEST_OFFSET, LARGEST_OFFSET, 31)
    best = grid[int(np.argmin([fit(offset)[0] for offset in grid]))]
    found = minimize_scalar(
        lambda offset: fit(offset)[0], bounds=(best - 0.01, best + 0.01), method="bounded",
        options={"xatol": 2e-4},
    )  # fmt: skip
    left, turn, bias = fit(found.x)
    turning = float(np.linalg.norm(seen - np.median(seen, 0), axis=-1).mean())
    if left > 0.5 * turning:
        raise Rejection(
            "no_metric_scale",
            f"the gyroscope does not follow the camera's turning, so the IMU's axes are not known: "
            f"{left:.3f} rad/s apart while the camera turns at {turning:.3f} rad/s",
        )
    return turn, bias, float(found.x)


def _linear_terms(
    path: RigidTransform, times: Array, readings: Readings, turn: Rotation, offset: float
) -> tuple[Array, Array]:
    """The specific force integrated twice (T, 3), and its derivatives (T, 3, 16) by scale, gravity,
    accelerometer bias, place and velocity at the start, and lever arm."""
    since, edges = times - times[0], readings.edges
    part = np.diff(edges, axis=1).ravel()
    middle = ((edges[:, 1:] + edges[:, :-1]) / 2).ravel()
    axes = (Slerp(times, path.rotation)(middle) * turn).as_matrix()
    push = np.einsum("nij,nj->ni", axes, readings.pushes(offset).reshape(-1, 3))
    biased = (axes * part[:, None, None]).reshape(-1, 9)
    by = np.zeros((len(times), 3, 16))
    by[:, :, 0] = path.translation
    by[:, :, 1:4] = -np.eye(3) * (since**2 / 2)[:, None, None]
    by[:, :, 4:7] = _twice(biased, part, len(times)).reshape(-1, 3, 3)
    by[:, :, 7:10] = -np.eye(3)
    by[:, :, 10:13] = -np.eye(3) * since[:, None, None]
    by[:, :, 13:16] = path.rotation.as_matrix()
    return _twice(push, part, len(times)), by


def _twice(push: Array, part: Array, count: int) -> Array:
    """(T, k) at the frames: the integral of velocities that grow by pushes (n, k)."""
    velocity = np.cumsum(push, 0)
    shift = np.cumsum((velocity - push / 2) * part[:, None], 0)
    every = len(push) // (count - 1)
    return np.concatenate((np.zeros((1, push.shape[1])), shift[every - 1 :: every]))


def _linear(felt: Array, by: Array, model: SensorModel) -> tuple[float, Array, Array, Array]:
    """Scale, gravity, accelerometer bias and lever arm: s p(t) + R(t) l = p0 + v0 t + g t2 / 2 plus
    the integral, twice, of R (a - b), with the length of g known."""
    matrix = by.reshape(-1, 16)
    prior = np.full(16, 1e-9)
    prior[4:7] = (PRECISION / model.accel_bias) ** 2
    prior[13:16] = (PRECISION / model.lever) ** 2
    normal, right = matrix.T @ matrix + np.diag(prior), matrix.T @ felt.ravel()
    found = np.asarray(np.linalg.solve(normal, right), float)
    weight = (PRECISION / model.gravity) ** 2
    for _ in range(5):  # the length is known along the direction found last
        down = found[1:4] / np.linalg.norm(found[1:4])
        bound, pulled = normal.copy(), right.copy()
        bound[1:4, 1:4] += weight * np.outer(down, down)
        pulled[1:4] += weight * GRAVITY * down
        found = np.asarray(np.linalg.solve(bound, pulled), float)
    return max(float(found[0]), 0.1), found[1:4], found[4:7], found[13:16]
