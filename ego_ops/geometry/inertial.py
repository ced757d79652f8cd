"""The metric scale of a camera's path, from an accelerometer and a gyroscope on the same head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import RigidTransform, Rotation, Slerp

from ego_ops.errors import Rejection
from ego_ops.geometry.bundle import moved
from ego_ops.geometry.relative_path import RelativePath
from ego_ops.geometry.view import Array, huber_weight
from ego_ops.recording import Imu

GRAVITY = 9.81
LARGEST_OFFSET = 0.15
"""Seconds that the sensor's clock may be off at the most."""
WORST = 0.10
"""Standard deviation of the scale, as a share, up to which it is believed."""


@dataclass(frozen=True)
class SensorModel:
    """What is expected of a sensor on a head camera; each a standard deviation."""

    accel: float = 0.003
    """m/s2 per root Hz, white; raised to what the clip shows."""
    gyro: float = 0.0003
    """rad/s per root Hz, white; likewise."""
    accel_bias: float = 0.2
    """m/s2, each axis."""
    gyro_bias: float = 0.05
    """rad/s, each axis."""
    lever: float = 0.02
    """Metres from the camera to the sensor, each axis."""
    gravity: float = 0.03
    """m/s2 by which measured gravity may differ in length: its place on earth, the sensor's gain."""
    offset: float = 0.1
    """Seconds of the clock."""
    alike: float = 2.0
    """Factor on the noise of tracks, which err alike in neighbouring frames."""


@dataclass(frozen=True)
class MetricPath:
    """A camera's path in metres, and what was found of the sensor on the way."""

    path: RigidTransform
    """T poses T_first_camera, metres."""
    scale: float
    """Metres per unit of the relative path."""
    scale_sd: float
    """Standard deviation of the scale, as a share of it."""
    gravity: Array
    """(3,) m/s2 in the first camera's frame; it points down."""
    accel_bias: Array
    """(3,) m/s2, in the sensor's axes."""
    gyro_bias: Array
    """(3,) rad/s, in the sensor's axes."""
    sensor: RigidTransform
    """T_camera_sensor, metres."""
    offset: float
    """Seconds by which the sensor's clock is ahead: what it stamps t + offset belongs to the frame
    at t."""


_LOG_SCALE = 0
_GRAVITY, _ACCEL_BIAS, _GYRO_BIAS = slice(1, 4), slice(4, 7), slice(7, 10)
_TURN, _LEVER, _OFFSET = slice(10, 13), slice(13, 16), 16
_SENSOR = [*range(4, 10), 16]
"""Globals that change what the sensor is read to say."""
_GLOBALS = 17


def metric_path(
    relative: RelativePath, times: Array, imu: Imu, model: SensorModel = SensorModel()
) -> MetricPath:
    """Scale a path by what the accelerometer felt along it.

    Start: the sensor's axes, gyroscope bias and clock from the camera's turning (Kabsch), then
    scale, velocity, gravity and accelerometer bias by linear least squares, as in Martinelli 2014
    and VINS-Mono's start (Qin, Li and Shen 2018). Then all of these, the lever arm and every pose
    together, with readings integrated from frame to frame (Forster et al. 2017) and the tracks
    entering through the information of the relative path.

    Args:
        relative: path up to scale.
        times: (T,) seconds of its poses on the video's clock.

    Raises:
        Rejection: `no_metric_scale`, with how uncertain the scale is, and why.
    """
    _check_cover(imu, times)
    readings = _Readings(imu, times)
    turn, gyro_bias, offset = _aligned(relative.path.rotation, times, readings)
    first = _linear(relative.path, times, readings, turn, offset, model)
    first[_GYRO_BIAS], first[_OFFSET] = gyro_bias, offset
    fit = _Fit(relative, times, readings, turn, model)
    state, values, sd = fit.solve(first)
    if not sd < WORST:
        sway = np.exp(values[_LOG_SCALE]) * np.ptp(relative.path.translation, axis=0).max()
        raise Rejection(
            "no_metric_scale",
            f"the IMU gives the scale to {100 * min(sd, 9.99):.0f} % only, {100 * WORST:.0f} % are "
            f"needed; the head moved by about {100 * sway:.0f} cm in {np.ptp(times):.1f} s",
        )
    scale = float(np.exp(values[_LOG_SCALE]))
    path = moved(relative.path, state[:, :6])
    path = path[0].inv() * path
    return MetricPath(
        RigidTransform.from_components(scale * path.translation, path.rotation),
        scale,
        sd,
        values[_GRAVITY],
        values[_ACCEL_BIAS],
        values[_GYRO_BIAS],
        RigidTransform.from_components(
            values[_LEVER], Rotation.from_rotvec(values[_TURN]) * turn
        ),
        float(values[_OFFSET]),
    )


def _check_cover(imu: Imu, times: Array) -> None:
    first, last = times[0] - LARGEST_OFFSET, times[-1] + LARGEST_OFFSET
    inside = imu.times[(imu.times >= first) & (imu.times <= last)]
    edges = np.concatenate(([times[0]], np.clip(inside, times[0], times[-1]), [times[-1]]))
    if len(inside) < 2 or np.diff(edges).max() > 0.05:
        raise Rejection(
            "no_metric_scale",
            f"the IMU has a gap of {np.diff(edges).max():.2f} s between {times[0]:.2f} and "
            f"{times[-1]:.2f} s of the video",
        )


class _Readings:
    """What a sensor measured between the frames, for any clock offset and biases."""

    def __init__(self, imu: Imu, times: Array):
        near = (imu.times > times[0] - 0.5) & (imu.times < times[-1] + 0.5)
        self.stamps = imu.times[near]
        gap = np.diff(self.stamps)[:, None]
        self.turned, self.felt = (
            np.concatenate((np.zeros((1, 3)), np.cumsum((x[1:] + x[:-1]) / 2 * gap, 0)))
            for x in (imu.gyro[near], imu.accel[near])
        )
        self.gap = np.diff(times)
        parts = int(np.clip(np.ceil(self.gap.max() / np.median(gap)), 2, 20))
        self.edges = times[:-1, None] + self.gap[:, None] * np.arange(parts + 1) / parts

    def sums(self, which: Array, offset: float) -> Array:
        """(T - 1, parts, 3) integrals of a reading over equal parts of the gaps."""
        at = (self.edges + offset).ravel()
        total = np.stack([np.interp(at, self.stamps, column) for column in which.T], -1)
        return np.asarray(np.diff(total.reshape(*self.edges.shape, 3), axis=1))

    def between(
        self, gyro_bias: Array, accel_bias: Array, offset: float
    ) -> tuple[Rotation, Array, Array]:
        """Rotation, velocity and shift (T - 1) from frame to frame in the axes of the sensor at
        the earlier one, gravity not taken out."""
        part = self.gap[:, None] / (self.edges.shape[1] - 1)
        turns = self.sums(self.turned, offset) - gyro_bias * part[..., None]
        pushes = self.sums(self.felt, offset) - accel_bias * part[..., None]
        rotation = Rotation.identity(len(self.gap))
        velocity, shift = np.zeros((2, len(self.gap), 3))
        for j in range(turns.shape[1]):
            half = rotation * Rotation.from_rotvec(turns[:, j] / 2)
            push = half.apply(pushes[:, j])
            shift = shift + (velocity + push / 2) * part
            velocity = velocity + push
            rotation = rotation * Rotation.from_rotvec(turns[:, j])
        return rotation, velocity, shift


def _aligned(
    rotation: Rotation, times: Array, readings: _Readings
) -> tuple[Rotation, Array, float]:
    """Rotation of sensor axes to camera axes, gyroscope bias, and the clock's offset."""
    seen = (rotation[:-1].inv() * rotation[1:]).as_rotvec() / readings.gap[:, None]

    def fit(offset: float) -> tuple[float, Rotation, Array]:
        felt = readings.sums(readings.turned, offset).sum(1) / readings.gap[:, None]
        weight = np.ones(len(seen))
        for _ in range(4):
            share = weight / weight.sum()
            middle, other = share @ felt, share @ seen
            turn, _ = Rotation.align_vectors(seen - other, felt - middle, weight)
            bias = middle - turn.inv().apply(other)
            error = np.linalg.norm(seen - turn.apply(felt - bias), axis=-1)
            weight = huber_weight(error, 1.5 * float(np.median(error)) + 1e-9)
        return float(np.minimum(error, 3 * np.median(error)).mean()), turn, bias

    grid = np.linspace(-LARGEST_OFFSET, LARGEST_OFFSET, 31)
    best = grid[int(np.argmin([fit(offset)[0] for offset in grid]))]
    width = grid[1] - grid[0]
    found = minimize_scalar(
        lambda x: fit(x)[0], bounds=(best - width, best + width), method="bounded",
        options={"xatol": 2e-4},
    )  # fmt: skip
    error, turn, bias = fit(found.x)
    turning = float(np.linalg.norm(seen - np.median(seen, 0), axis=-1).mean())
    if error > 0.5 * turning:
        raise Rejection(
            "no_metric_scale",
            f"the gyroscope does not follow the camera's turning: {error:.3f} rad/s apart while "
            f"the camera turns at {turning:.3f} rad/s",
        )
    return turn, bias, float(found.x)


def _linear(
    path: RigidTransform,
    times: Array,
    readings: _Readings,
    turn: Rotation,
    offset: float,
    model: SensorModel,
) -> Array:
    """Globals by linear least squares: s p(t) + R(t) l = p0 + v0 t + g t2 / 2 + the integral,
    twice, of R (a - b)."""
    since = times - times[0]
    # Middles of the parts, a fine grid on which rotation is interpolated.
    edges = readings.edges
    middle = ((edges[:, 1:] + edges[:, :-1]) / 2).ravel()
    part = np.diff(edges, axis=1).ravel()
    axes = (Slerp(times, path.rotation)(middle) * turn).as_matrix()
    push = np.einsum("nij,nj->ni", axes, readings.sums(readings.felt, offset).reshape(-1, 3))
    felt = _twice(push, part, len(times))
    biased = _twice((axes * part[:, None, None]).reshape(-1, 9), part, len(times)).reshape(-1, 3, 3)
    count, eye = len(times), np.eye(3)
    rows = np.zeros((count, 3, 16))
    rows[:, :, 0] = path.translation
    rows[:, :, 1:4] = -eye * (since**2 / 2)[:, None, None]
    rows[:, :, 4:7] = biased
    rows[:, :, 7:10] = -eye
    rows[:, :, 10:13] = -eye * since[:, None, None]
    rows[:, :, 13:16] = path.rotation.as_matrix()
    precision = 0.005
    prior = np.zeros(16)
    prior[4:7], prior[13:16] = (precision / model.accel_bias) ** 2, (precision / model.lever) ** 2
    prior[7:13] = 1e-9
    matrix = rows.reshape(-1, 16)
    normal, right = matrix.T @ matrix + np.diag(prior), matrix.T @ felt.ravel()
    found = np.linalg.solve(normal, right)
    for _ in range(5):
        down = found[1:4] / np.linalg.norm(found[1:4])
        weight = (precision / model.gravity) ** 2
        bound = normal.copy()
        bound[1:4, 1:4] += weight * np.outer(down, down)
        pulled = right.copy()
        pulled[1:4] += weight * GRAVITY * down
        found = np.linalg.solve(bound, pulled)
    values = np.zeros(_GLOBALS)
    values[_LOG_SCALE] = np.log(max(found[0], 0.1))
    values[_GRAVITY], values[_ACCEL_BIAS], values[_LEVER] = found[1:4], found[4:7], found[13:16]
    return values


def _twice(push: Array, part: Array, count: int) -> Array:
    """(T, k) double integral at the frames of pushes (n, k) over parts (n,)."""
    velocity = np.cumsum(push, 0)
    shift = np.cumsum((velocity - push / 2) * part[:, None], 0)
    every = len(push) // (count - 1)
    return np.concatenate((np.zeros((1, push.shape[1])), shift[every - 1 :: every]))


class _Fit:
    """Poses, velocities and the sensor's constants, together."""

    def __init__(
        self,
        relative: RelativePath,
        times: Array,
        readings: _Readings,
        turn: Rotation,
        model: SensorModel,
    ):
        self.relative, self.times, self.readings = relative, times, readings
        self.turn, self.model = turn, model
        self.steps = len(times)
        along = np.zeros((self.steps, 6))
        along[:, 3:] = relative.path.translation / np.linalg.norm(relative.path.translation)
        # The scale is one of the globals: the poses' own steps must not change it too.
        self.seen = relative.information / model.alike**2
        self.seen = self.seen + 1e10 * np.outer(along, along)

    def solve(self, values: Array, iterations: int = 8) -> tuple[Array, Array, float]:
        state = np.zeros((self.steps, 9))
        place = np.exp(values[_LOG_SCALE]) * self.relative.path.translation
        state[:, 6:] = np.gradient(place, self.times, axis=0)
        for _ in range(iterations):
            normal, right = self._normal(state, values)
            step = np.linalg.solve(normal, right)
            limit = min(1.0, 0.7 / max(abs(step[9 * self.steps]), 1e-9))
            state = state + limit * step[: 9 * self.steps].reshape(-1, 9)
            values = values + limit * step[9 * self.steps :]
            if np.abs(step[9 * self.steps]) < 1e-4:
                break
        normal, _ = self._normal(state, values)
        at = np.zeros(len(normal))
        at[9 * self.steps] = 1
        return state, values, float(np.sqrt(np.linalg.solve(normal, at)[9 * self.steps]))

    def _normal(self, state: Array, values: Array) -> tuple[Array, Array]:
        here, there = self._left_right(state)
        sums = self._sums(values)
        error = self._error(here, there, values, sums)
        by_here = self._difference(lambda d: self._error(here + d, there, values, sums), 9)
        by_there = self._difference(lambda d: self._error(here, there + d, values, sums), 9)

        def shifted(d: Array) -> Array:
            changed = values + d
            return self._error(
                here, there, changed, self._sums(changed) if d[_SENSOR].any() else sums
            )

        by_value = self._difference(shifted, _GLOBALS)
        self.whitened = error
        n, k = self.steps, np.arange(self.steps - 1)
        full = np.zeros((n, 9, n, 9))
        for a, left in ((0, by_here), (1, by_there)):
            for b, right in ((0, by_here), (1, by_there)):
                full[k + a, :, k + b] += np.einsum("kri,krj->kij", left, right)
        full[:, :6, :, :6] += self.seen.reshape(n, 6, n, 6)
        border = np.zeros((n, 9, _GLOBALS))
        pull = np.zeros((n, 9))
        for a, left in ((0, by_here), (1, by_there)):
            border[k + a] += np.einsum("kri,krj->kij", left, by_value)
            pull[k + a] -= np.einsum("kri,kr->ki", left, error)
        pull[:, :6] -= (self.seen @ state[:, :6].ravel()).reshape(n, 6)
        own = np.einsum("kri,krj->ij", by_value, by_value)
        own_pull = -np.einsum("kri,kr->i", by_value, error)
        prior, prior_pull = self._prior(values)
        size = 9 * n
        normal = np.zeros((size + _GLOBALS, size + _GLOBALS))
        normal[:size, :size] = full.reshape(size, size)
        normal[:size, size:] = border.reshape(size, -1)
        normal[size:, :size] = normal[:size, size:].T
        normal[size:, size:] = own + prior
        return normal, np.concatenate((pull.ravel(), own_pull + prior_pull))

    def _left_right(self, state: Array) -> tuple[Array, Array]:
        return state[:-1], state[1:]

    def _sums(self, values: Array) -> tuple[Rotation, Array, Array]:
        return self.readings.between(
            values[_GYRO_BIAS], values[_ACCEL_BIAS], values[_OFFSET]
        )

    def _difference(self, f, count: int) -> Array:  # type: ignore[no-untyped-def]
        eps = 1e-5
        return np.stack([(f(d) - f(-d)) / (2 * eps) for d in eps * np.eye(count)], -1)

    def _error(self, here: Array, there: Array, values: Array, sums) -> Array:  # type: ignore
        """(T - 1, 9) whitened."""
        turned, pushed, shifted = sums
        turn = Rotation.from_rotvec(values[_TURN]) * self.turn
        scale, lever = np.exp(values[_LOG_SCALE]), values[_LEVER]
        path = self.relative.path
        one, two = moved(path[:-1], here[:, :6]), moved(path[1:], there[:, :6])
        p1 = scale * one.translation + one.rotation.apply(lever)
        p2 = scale * two.translation + two.rotation.apply(lever)
        r1, r2 = one.rotation * turn, two.rotation * turn
        gap = self.readings.gap[:, None]
        g = values[_GRAVITY]
        inv = r1.inv()
        rot = (turned.inv() * (inv * r2)).as_rotvec() / (self.model.gyro * np.sqrt(gap))
        vel = inv.apply(there[:, 6:] - here[:, 6:] - g * gap) - pushed
        pos = inv.apply(p2 - p1 - here[:, 6:] * gap - g * gap**2 / 2) - shifted
        # White noise of the accelerometer, integrated once and twice: the shift is half the
        # velocity times the time, and a remainder independent of it.
        rest = pos - vel * gap / 2
        vel = vel / (self.model.accel * np.sqrt(gap))
        rest = rest / (self.model.accel * np.sqrt(gap**3 / 12))
        return np.concatenate((rot, vel, rest), -1)

    def _prior(self, values: Array) -> tuple[Array, Array]:
        weight = np.zeros(_GLOBALS)
        m = self.model
        weight[_ACCEL_BIAS] = m.accel_bias**-2.0
        weight[_GYRO_BIAS] = m.gyro_bias**-2.0
        weight[_LEVER] = m.lever**-2.0
        weight[_OFFSET] = m.offset**-2.0
        weight[_TURN] = 1.0
        matrix, pull = np.diag(weight), -weight * values
        g = values[_GRAVITY]
        size = np.linalg.norm(g)
        down = g / size
        matrix[_GRAVITY, _GRAVITY] += m.gravity**-2.0 * np.outer(down, down)
        pull[_GRAVITY] -= m.gravity**-2.0 * (size - GRAVITY) * down
        return matrix, pull
