"""Readings of an accelerometer and a gyroscope, integrated from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ego_ops.errors import AnnotationError, Rejection
from ego_ops.geometry.view import Array
from ego_ops.recording import Imu

GRAVITY = 9.81
"""m/s2."""
LARGEST_OFFSET = 0.15
"""Seconds that the sensor's clock may be off at the most."""
LONGEST_GAP = 0.05
"""Seconds between readings that can be bridged."""


@dataclass(frozen=True)
class SensorModel:
    """What is expected of a sensor on a head camera; each a standard deviation."""

    accel: float = 0.003
    """m/s2 per root Hz, white: the least, raised to what the readings show."""
    gyro: float = 0.0003
    """rad/s per root Hz, white: the least, likewise."""
    accel_bias: float = 0.2
    """m/s2, each axis."""
    gyro_bias: float = 0.05
    """rad/s, each axis."""
    lever: float = 0.02
    """Metres from the camera to the sensor, each axis."""
    gravity: float = 0.03
    """m/s2 by which gravity may measure other than 9.81: the place on earth, the sensor's gain."""
    offset: float = 0.1
    """Seconds of the clock."""
    alike: float = 3.0
    """Factor on the noise of tracks, which err alike in neighbouring frames."""


@dataclass(frozen=True)
class Constants:
    """What does not change during a clip, of the path and of the sensor."""

    scale: float
    """Metres per unit of the path."""
    gravity: Array
    """(3,) m/s2 in the path's frame; it points down."""
    accel_bias: Array
    """(3,) m/s2, in the sensor's axes."""
    gyro_bias: Array
    """(3,) rad/s, in the sensor's axes."""
    turn: Rotation
    """Sensor axes to camera axes."""
    lever: Array
    """(3,) metres, the sensor's place in the camera frame."""
    offset: float
    """Seconds by which the sensor's clock is ahead: what it stamps t + offset belongs to the frame
    at t."""

    def stepped(self, step: Array) -> Constants:
        """After a step (17,) in log scale, gravity, biases (accelerometer, gyroscope), rotation
        vector, lever and offset."""
        return Constants(
            self.scale * float(np.exp(step[0])),
            self.gravity + step[1:4],
            self.accel_bias + step[4:7],
            self.gyro_bias + step[7:10],
            Rotation.from_rotvec(step[10:13]) * self.turn,
            self.lever + step[13:16],
            self.offset + float(step[16]),
        )


Moves = tuple[Rotation, Array, Array]
"""Rotation, velocity and shift of n stretches, in the sensor's axes at the start of each."""


class Readings:
    """What a sensor measured between T frames, for any clock offset and biases.

    Both readings are summed up once; a stretch of time is a difference of two sums, so that no
    sample is lost or counted twice wherever the frames fall between samples.
    """

    def __init__(self, imu: Imu, times: Array):
        """Take the readings around T frames.

        Args:
            times: (T,) seconds of the frames on the video's clock.

        Raises:
            Rejection: readings are missing in the clip (`no_metric_scale`).
            AnnotationError: the accelerometer does not read about 9.81 m/s2.
        """
        finite = np.isfinite(imu.gyro).all(-1) & np.isfinite(imu.accel).all(-1)
        near = finite & (imu.times > times[0] - 0.5) & (imu.times < times[-1] + 0.5)
        self._stamps, gyro, accel = imu.times[near], imu.gyro[near], imu.accel[near]
        _check_cover(self._stamps, times)
        _check_unit(accel)
        self._turned, self._felt = _summed(gyro, self._stamps), _summed(accel, self._stamps)
        self.gyro_noise, self.accel_noise = (_density(x, self._stamps) for x in (gyro, accel))
        self.gap = np.diff(times)
        """(T - 1,) seconds between frames."""
        parts = int(np.clip(np.ceil(self.gap.max() / np.median(np.diff(self._stamps))), 2, 20))
        self.edges = times[:-1, None] + self.gap[:, None] * np.arange(parts + 1) / parts
        """(T - 1, P + 1) times that cut each gap between frames into equal parts."""

    def turns(self, offset: float) -> Array:
        """(T - 1, P, 3) integral of the gyroscope over each part, radians."""
        return self._between(self._turned, offset)

    def pushes(self, offset: float) -> Array:
        """(T - 1, P, 3) integral of the accelerometer over each part, m/s."""
        return self._between(self._felt, offset)

    def moves(self, constants: Constants) -> Moves:
        """From frame to frame, without gravity and the velocity at the start (preintegration:
        Forster, Carlone, Dellaert and Scaramuzza 2017)."""
        part = self.gap[:, None] / (self.edges.shape[1] - 1)
        turns = self.turns(constants.offset) - constants.gyro_bias * part[..., None]
        pushes = self.pushes(constants.offset) - constants.accel_bias * part[..., None]
        halves = Rotation.from_rotvec(turns.reshape(-1, 3) / 2).as_matrix()
        halves = halves.reshape(*turns.shape, 3)
        axes = np.broadcast_to(np.eye(3), (len(part), 3, 3))
        velocity, shift = np.zeros((2, len(part), 3))
        for j in range(turns.shape[1]):
            axes = axes @ halves[:, j]
            push = np.einsum("kij,kj->ki", axes, pushes[:, j])
            shift = shift + (velocity + push / 2) * part
            velocity = velocity + push
            axes = axes @ halves[:, j]
        return Rotation.from_matrix(axes), velocity, shift

    def _between(self, total: Array, offset: float) -> Array:
        at = (self.edges + offset).ravel()
        found = np.stack([np.interp(at, self._stamps, column) for column in total.T], -1)
        # Where the recording ends with the clip, a clock offset asks for a little more: go on as
        # it ended.
        found += _beyond(at, self._stamps, total)
        return np.asarray(np.diff(found.reshape(*self.edges.shape, 3), axis=1))


def _summed(reading: Array, stamps: Array) -> Array:
    """(N, 3) integral of readings from the first on, by trapezoids."""
    gap = np.diff(stamps)[:, None]
    return np.concatenate((np.zeros((1, 3)), np.cumsum((reading[1:] + reading[:-1]) / 2 * gap, 0)))


def _beyond(at: Array, stamps: Array, total: Array) -> Array:
    """(n, 3) what a sum (N, 3) of readings grows by outside its stamps, at its mean rate over the
    nearest 20 readings."""
    few = min(20, len(stamps) - 1)
    head = (total[few] - total[0]) / (stamps[few] - stamps[0])
    tail = (total[-1] - total[-1 - few]) / (stamps[-1] - stamps[-1 - few])
    return np.asarray(
        np.minimum(at - stamps[0], 0)[:, None] * head
        + np.maximum(at - stamps[-1], 0)[:, None] * tail
    )


def _density(reading: Array, stamps: Array) -> float:
    """Noise per root Hz, from what changes from sample to sample too fast for a head."""
    bend = np.abs(np.diff(reading, 2, axis=0))
    sample = 1.4826 * float(np.median(bend)) / np.sqrt(6) if len(bend) else 0.0
    return sample * float(np.sqrt(np.median(np.diff(stamps))))


def _check_unit(accel: Array) -> None:
    length = float(np.median(np.linalg.norm(accel, axis=-1)))
    if abs(length - GRAVITY) > 0.15 * GRAVITY:
        raise AnnotationError(
            f"the IMU's accelerometer reads {length:.2f}, {GRAVITY} m/s2 are expected of a head "
            "(is the unit g, or is gravity taken out?)"
        )


def _check_cover(stamps: Array, times: Array) -> None:
    inside = stamps[(stamps >= times[0]) & (stamps <= times[-1])]
    gap = float(np.diff(np.concatenate((times[:1], inside, times[-1:]))).max())
    if gap > LONGEST_GAP:
        raise Rejection(
            "no_metric_scale",
            f"the IMU has a gap of {gap:.2f} s between {times[0]:.2f} and {times[-1]:.2f} s of "
            f"the video, {LONGEST_GAP:g} s can be bridged",
        )
