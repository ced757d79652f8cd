"""What perception hands to the joint estimate, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.geometry.view import Array, Index, Mask, View


@dataclass(frozen=True)
class TrackedPoints:
    """N points followed through T frames, with the depth that was measured where they are seen."""

    xy: Array
    """(T, N, 2) pixels; anything where not visible."""
    visible: Mask
    """(T, N)."""
    depth: Array
    """(T, N) metres along the optical axis, as measured or predicted; NaN where there is none."""

    @property
    def count(self) -> int:
        return self.visible.shape[1]

    def select(self, which: Mask | Index) -> TrackedPoints:
        """The tracks chosen by a mask or by indices (n,)."""
        return TrackedPoints(self.xy[:, which], self.visible[:, which], self.depth[:, which])

    def frames(self, which: Index) -> TrackedPoints:
        """The same tracks in some of the frames (n,)."""
        return TrackedPoints(self.xy[which], self.visible[which], self.depth[which])


@dataclass(frozen=True)
class Observed:
    """One clip: T frames of one camera that see a still background and one moving rigid thing."""

    camera: Camera
    """Pinhole of the pixels that all tracks are given in."""
    times: Array
    """(T,) seconds, increasing."""
    object: TrackedPoints
    """Tracks on the manipulated object, outliers among them."""
    background: TrackedPoints
    """Tracks on everything else, most of them on what stands still."""
    path: RigidTransform | None = None
    """T recorded poses T_world_camera in metres; None where none were recorded."""
    clouds: Sequence[Array] | None = None
    """T clouds (k_t, 3) of the object's visible surface, in each frame's camera frame, metres as
    measured; k_t may be 0. They are asked only where the tracks are too few."""

    def view(self, tracks: TrackedPoints, path: RigidTransform) -> View:
        """Tracks of this clip as seen along a path of T poses T_world_camera."""
        return View(self.camera, path, self.times, tracks.xy, tracks.visible)


@dataclass(frozen=True)
class Estimate:
    """The trajectory of the object, and how far it can be trusted.

    Lengths are metres as far as the recorded path or else the depth is metric.
    """

    object: RigidTransform
    """T poses T_first_object. The object's frame sits in the middle of its points and has the
    axes of the first camera in the first frame."""
    camera: RigidTransform
    """T poses T_first_camera."""
    points: Array
    """(N, 3) the object's points in its own frame; NaN where they could not be placed."""
    background: Array
    """(M, 3) the background's points in the first camera frame; NaN likewise."""
    depth_scale: Array
    """(T,) factor that takes each frame's measured depth to the lengths of this estimate."""
    inliers: Mask
    """(T, N) observations of the object that agree with its motion."""
    background_inliers: Mask
    """(T, M) the same of the background."""
    reprojection: Array
    """(T, N) reprojection errors of the object's tracks, pixels; NaN where not visible."""
    position_sd: Array
    """(T,) standard deviation of the object's position along its worst direction, metres, at
    the estimate's own scale."""
    rotation_sd: Array
    """(T,) of its rotation about its worst axis, radians."""
    confidence: Array
    """(T,) 0 to 1: how far each pose can be trusted; see `ego_ops.geometry.confidence`."""
    observed: Mask
    """(T,) frames with points enough to hold the object's pose; the others are bridged over."""
    flags: frozenset[str]
    """What is wrong with the clip as a whole: names of `ego_ops.geometry.confidence.FLAGS`."""

    @property
    def trusted(self) -> bool:
        """Whether nothing says that the trajectory should not be."""
        return not self.flags & {"uncertain", "ambiguous"}

    @property
    def scale(self) -> float:
        """Factor from measured depth to the estimate's lengths: the median over frames."""
        return float(np.median(self.depth_scale))
