"""What a corpus recorded besides the picture: intrinsics, camera path, hands, depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera, PosePath
from ego_ops.lens import Lens

Array = NDArray[np.float64]


class DepthSource(Protocol):
    """Recorded depth maps of a video."""

    def depth(self, t: float) -> Array:
        """(H, W) metres along the optical axis at `t` seconds, NaN where unknown."""


@dataclass(frozen=True)
class Hand:
    """One hand's recorded joints."""

    side: str
    """`left` or `right`."""
    times: Array
    """(N,) seconds from the start of the video."""
    joints: Array
    """(N, J, 3) positions in the world, metres; NaN where not recorded."""
    tips: tuple[int, ...]
    """Which joints are fingertips, the thumb's first."""

    def at(self, times: Array) -> Array:
        """(T, J, 3) joints at `times` (T,), linear in between; NaN outside the recording."""
        flat = self.joints.reshape(len(self.times), -1)
        columns = [
            np.interp(times, self.times, column, left=np.nan, right=np.nan) for column in flat.T
        ]
        return np.stack(columns, -1).reshape(len(times), *self.joints.shape[1:])


@dataclass(frozen=True)
class Imu:
    """Accelerometer and gyroscope on the camera's head, in axes of their own."""

    times: Array
    """(N,) seconds from the start of the video, increasing."""
    gyro: Array
    """(N, 3) angular velocity, rad/s."""
    accel: Array
    """(N, 3) specific force, m/s^2: at rest it points up and is 9.81 long."""


@dataclass(frozen=True)
class Recording:
    """What is recorded of one clip. The world frame is the corpus's own, in metres."""

    camera: Camera
    """Pinhole of the upright picture at its full size, once `lens` is undone."""
    path: PosePath | None = None
    """T_world_camera; its clock may differ from the video's by a small constant."""
    hands: tuple[Hand, ...] = ()
    """On the same clock as `path`."""
    depth: DepthSource | None = None
    lens: Lens | None = None
    """How the stored picture differs from that of `camera`; None where it does not."""
    imu: Imu | None = None
    landmarks: Array | None = None
    """(N, 3) static points of the world that were measured over the whole recording, metres."""
