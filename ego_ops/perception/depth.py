"""Depth of tracked points without a network: recorded, or triangulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import Rejection
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import Array, rms
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


@dataclass(frozen=True)
class RecordedDepth:
    """Depth maps of the corpus, read at each track's pixel."""

    def depth(self, scene: Scene, camera_path: RigidTransform | None, tracks: Tracks) -> Array:
        """(T, N) metres; NaN where the map has no value or the point is not visible.

        Raises:
            Rejection: the corpus recorded no depth.
        """
        source = scene.recording.depth
        if source is None:
            raise Rejection("no_metric_scale", "neither a camera path nor depth is recorded")
        depth = np.full(tracks.visible.shape, np.nan)
        for t, time in enumerate(scene.times):
            who = np.flatnonzero(tracks.visible[t])
            image = source.depth(float(time))
            scale = np.array(image.shape[::-1]) / (scene.camera.width, scene.camera.height)
            pixel = np.rint((tracks.xy[t, who] + 0.5) * scale - 0.5).astype(int)
            x = np.clip(pixel[:, 0], 0, image.shape[1] - 1)
            y = np.clip(pixel[:, 1], 0, image.shape[0] - 1)
            depth[t, who] = image[y, x]
        return np.where(depth > 0, depth, np.nan)


@dataclass(frozen=True)
class TriangulatedDepth:
    """Depth of what stands still, from the camera's own motion.

    A track is used up to its first motion: things lie still before they are touched.
    """

    noise: float = 1.0
    """Pixels of one observation, with the recorded camera pose's part in it."""
    alike: float = 3.0
    """Factor on standard deviations, since a track errs alike in neighbouring frames: nine
    observations are worth one."""
    worst: float = 0.15
    """Largest standard deviation of a depth, as a share of it, that still counts as known."""
    back_off: int = 2
    """Frames before the detected motion that are left out, since motion begins slowly."""

    def depth(self, scene: Scene, camera_path: RigidTransform | None, tracks: Tracks) -> Array:
        """(T, N) metres in the frames in which a track was still; NaN elsewhere.

        Raises:
            Rejection: the camera path is not known.
        """
        if camera_path is None:
            raise Rejection("no_metric_scale", "neither depth nor a camera path is recorded")
        view = scene.view(tracks, camera_path)
        moved = first_motion(view)
        last = np.where(moved < view.steps, moved - self.back_off, view.steps)
        still = view.where(np.arange(view.steps)[:, None] < last)
        fit = triangulate(still)
        depth = view.local(fit.points)[..., 2]
        spread = self.alike * self.noise * fit.spread
        known = still.visible & (depth > 0) & (spread < self.worst * depth)
        return np.where(known & (rms(fit.residual) < 2.5 * self.noise), depth, np.nan)
