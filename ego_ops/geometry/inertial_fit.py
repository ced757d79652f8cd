"""Least squares over a camera's path and an IMU together, the tracks summed up beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.bundle import moved
from ego_ops.geometry.imu import GRAVITY, Constants, Moves, Readings, SensorModel
from ego_ops.geometry.relative_path import RelativePath
from ego_ops.geometry.view import Array

_CONSTANTS = 17
"""Numbers in a step of `Constants`."""
_READ = [*range(4, 10), 16]
"""Those of them that change what the readings say: both biases, and the clock."""
_EPS = 1e-6
"""Step of the numeric derivatives."""


@dataclass(frozen=True)
class Fitted:
    """The path and the constants that explain tracks and readings best."""

    path: RigidTransform
    """T poses, in the units of the relative path."""
    constants: Constants
    scale_sd: float
    """Standard deviation of the scale, as a share of it."""


@dataclass(frozen=True)
class _State:
    poses: Array
    """(T, 6) steps that `bundle.moved` takes from the relative path."""
    velocity: Array
    """(T, 3) of the sensor, m/s in the path's frame."""
    constants: Constants


class InertialFit:
    """A batch over all frames of a clip (tightly coupled, as in Mur-Artal and Tardos 2017).

    Points are gone from it: the information of the relative path says what the tracks have to say
    about every pose, so that a round costs one dense system of 9 T + 17 unknowns.
    """

    def __init__(self, relative: RelativePath, readings: Readings, model: SensorModel):
        self._path, self._readings = relative.path, readings
        self._model = replace(
            model,
            gyro=max(model.gyro, readings.gyro_noise),
            accel=max(model.accel, readings.accel_noise),
        )
        # The scale is one of the constants: the poses' own steps must not change it too.
        along = np.zeros((len(relative.path), 6))
        along[:, 3:] = relative.path.translation / np.linalg.norm(relative.path.translation)
        self._seen = relative.information / model.alike**2 + 1e10 * np.outer(along, along)

    def solve(self, start: Constants, times: Array, iterations: int = 10) -> Fitted:
        """Gauss-Newton from first constants; `times` (T,) are those of the frames, seconds."""
        place = start.scale * self._path.translation
        state = _State(np.zeros((len(times), 6)), np.gradient(place, times, axis=0), start)
        for _ in range(iterations):
            normal, right, _ = self._normal(state)
            step = np.asarray(np.linalg.solve(normal, right), float)
            change = float(step[-_CONSTANTS])
            step *= min(1.0, 0.7 / max(abs(change), 1e-9))  # at most a factor of two in scale
            frames = step[:-_CONSTANTS].reshape(-1, 9)
            state = _State(
                state.poses + frames[:, :6],
                state.velocity + frames[:, 6:],
                state.constants.stepped(step[-_CONSTANTS:]),
            )
            if abs(change) < 1e-4:
                break
        normal, _, cost = self._normal(state)
        one = np.zeros(len(normal))
        one[-_CONSTANTS] = 1
        variance = float(np.linalg.solve(normal, one)[-_CONSTANTS])
        # Where the model does not explain the clip, its own uncertainty is too small.
        misfit = max(1.0, cost / (6 * len(times) - 21))
        sd = float(np.sqrt(variance * misfit)) if variance > 0 and np.isfinite(cost) else np.inf
        return Fitted(moved(self._path, state.poses), state.constants, sd)

    def _normal(self, state: _State) -> tuple[Array, Array, float]:
        """Normal equations and cost. Unknowns: nine a frame (pose, velocity), then constants."""
        constants = state.constants
        frames = np.concatenate((state.poses, state.velocity), -1)
        here, there = frames[:-1], frames[1:]
        moves = self._readings.moves(constants)
        error = self._error(here, there, constants, moves)

        def by_constants(step: Array) -> Array:
            other = constants.stepped(step)
            read = self._readings.moves(other) if step[_READ].any() else moves
            return self._error(here, there, other, read)

        sides = (
            _derivative(lambda d: self._error(here + d, there, constants, moves), error, 9),
            _derivative(lambda d: self._error(here, there + d, constants, moves), error, 9),
        )
        shared = _derivative(by_constants, error, _CONSTANTS)
        count, k = len(frames), np.arange(len(frames) - 1)
        full, border = np.zeros((count, 9, count, 9)), np.zeros((count, 9, _CONSTANTS))
        pull = np.zeros((count, 9))
        for a, left in enumerate(sides):
            for b, right in enumerate(sides):
                full[k + a, :, k + b] += left.transpose(0, 2, 1) @ right
            border[k + a] += left.transpose(0, 2, 1) @ shared
            pull[k + a] -= np.einsum("kri,kr->ki", left, error)
        full[:, :6, :, :6] += self._seen.reshape(count, 6, count, 6)
        tracked = (self._seen @ state.poses.ravel()).reshape(count, 6)
        pull[:, :6] -= tracked
        prior, prior_pull = self._prior(constants)
        own = np.einsum("kri,krj->ij", shared, shared) + prior
        own_pull = prior_pull - np.einsum("kri,kr->i", shared, error)
        side = border.reshape(-1, _CONSTANTS)
        normal = np.block([[full.reshape(9 * count, -1), side], [side.T, own]])
        cost = float((error**2).sum() + (tracked * state.poses).sum())
        return normal, np.concatenate((pull.ravel(), own_pull)), cost

    def _error(self, here: Array, there: Array, constants: Constants, moves: Moves) -> Array:
        """(T - 1, 9) rotation, velocity and shift between frames (n, 9) beside the readings', each
        divided by its standard deviation."""
        gap = self._readings.gap[:, None]
        turned, pushed, shifted = moves
        one, two = moved(self._path[:-1], here[:, :6]), moved(self._path[1:], there[:, :6])
        before, after = (
            constants.scale * pose.translation + pose.rotation.apply(constants.lever)
            for pose in (one, two)
        )
        axes = one.rotation * constants.turn
        turn = turned.inv() * axes.inv() * two.rotation * constants.turn
        fall = constants.gravity * gap
        velocity = axes.apply(there[:, 6:] - here[:, 6:] - fall, inverse=True) - pushed
        drift = after - before - here[:, 6:] * gap - fall * gap / 2
        shift = axes.apply(drift, inverse=True) - shifted
        # White noise of the accelerometer, summed once and twice: the shift is half the velocity
        # times the time, and a rest that is independent of it.
        rest = shift - velocity * gap / 2
        size = self._model.accel * np.sqrt(gap)
        return np.concatenate(
            (
                turn.as_rotvec() / (self._model.gyro * np.sqrt(gap)),
                velocity / size,
                rest / (size * gap / np.sqrt(12)),
            ),
            -1,
        )

    def _prior(self, constants: Constants) -> tuple[Array, Array]:
        """(17, 17) and (17,): what is known of a sensor before it is read."""
        model = self._model
        sd = np.full(_CONSTANTS, np.inf)
        sd[4:7], sd[7:10], sd[13:16] = model.accel_bias, model.gyro_bias, model.lever
        sd[16] = model.offset
        now = np.zeros(_CONSTANTS)
        now[4:7], now[7:10], now[13:16] = (
            constants.accel_bias, constants.gyro_bias, constants.lever,
        )  # fmt: skip
        now[16] = constants.offset
        weight = sd**-2.0
        matrix, pull = np.diag(weight), -weight * now
        length = float(np.linalg.norm(constants.gravity))
        down = constants.gravity / length
        matrix[1:4, 1:4] += model.gravity**-2.0 * np.outer(down, down)
        pull[1:4] -= model.gravity**-2.0 * (length - GRAVITY) * down
        # A camera that turns about one axis alone leaves a rotation open; it shall not run away.
        matrix[10:13, 10:13] += np.eye(3)
        return matrix, pull


def _derivative(function: Callable[[Array], Array], now: Array, count: int) -> Array:
    """(..., count) of a function of a step (count,) whose value at zero is `now` (...)."""
    columns = [(function(step) - now) / _EPS for step in _EPS * np.eye(count)]
    return np.stack(columns, -1)
