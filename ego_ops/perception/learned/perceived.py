"""What perception with weights hands to geometry: tracks with depth, and small JPEGs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.extraction import Asked
from ego_ops.geometry.observed import Observed, TrackedPoints
from ego_ops.perception.decoded import Decoded
from ego_ops.perception.learned.points import Measured


@dataclass(frozen=True)
class Packed:
    """Tracked points in half the bytes, on their way between processes."""

    xy: NDArray[np.float32]
    """(T, N, 2) pixels, to 1/10,000 of one."""
    visible: NDArray[np.bool_]
    """(T, N)."""
    depth: NDArray[np.float32]
    """(T, N) metres; NaN where there is none."""

    @staticmethod
    def of(points: TrackedPoints) -> Packed:
        return Packed(points.xy.astype(np.float32), points.visible, points.depth.astype(np.float32))

    @property
    def points(self) -> TrackedPoints:
        return TrackedPoints(self.xy.astype(float), self.visible, self.depth.astype(float))


@dataclass(frozen=True)
class LearnedPerceived:
    """One clip, perceived: a few hundred kilobytes."""

    asked: Asked
    scaled: Camera
    """Of the pixels of the tracks."""
    times: NDArray[np.float64]
    """(T,) seconds from the start of the video."""
    object: Packed
    """N tracks."""
    background: Packed
    """M tracks."""
    path: RigidTransform | None
    """T recorded poses T_world_camera; None where none were recorded."""
    clouds: list[NDArray[np.float32]]
    """T clouds (k, 3) of the object, camera frame, metres as predicted."""
    clock_offset: float
    """Seconds by which the recorded poses lead the video."""
    seconds: Mapping[str, float]
    """What each stage took, on whatever it ran: `decode`, `detect`, `segment`, `track`, `depth`."""

    @staticmethod
    def of(
        decoded: Decoded,
        interval: tuple[float, float],
        found: Measured,
        path: RigidTransform | None,
        seconds: Mapping[str, float],
    ) -> LearnedPerceived:
        """The steps within the interval (seconds from the start of the video), with the tracks of
        all frames.

        Raises:
            Rejection: fewer than two steps lie in it (`too_short`).
        """
        scene = decoded.scene
        return LearnedPerceived(
            asked=decoded.asked(interval),
            scaled=scene.camera,
            times=scene.times,
            object=Packed.of(found.object),
            background=Packed.of(found.background),
            path=path,
            clouds=found.clouds,
            clock_offset=scene.offset,
            seconds=seconds,
        )

    @property
    def observed(self) -> Observed:
        """As the joint estimate takes it."""
        return Observed(
            self.scaled,
            self.times,
            self.object.points,
            self.background.points,
            self.path,
            [cloud.astype(float) for cloud in self.clouds] if self.clouds else None,
        )
