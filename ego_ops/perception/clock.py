"""The constant offset between a recording's clock and its video.

Headsets stamp poses and frames on different paths. On EgoDex the poses are some 10 ms ahead, a
third of a frame, which costs more than a pixel while the head turns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar

from ego_ops.errors import Rejection
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import rms
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks

LARGEST = 0.05
"""Seconds that the offset may be at the most."""


def estimate_offset(scene: Scene, tracks: Tracks) -> float:
    """Seconds to add to the video's times to read the recorded camera path.

    The offset is the one under which points that stand still reproject best: the lower quartile,
    over tracks, of each one's RMS error after triangulation. What moves or is tracked badly has
    errors above it, whatever the offset.

    Args:
        scene: with a recorded path.
        tracks: of the whole picture, over a stretch of time in which the camera moves.
    """
    path = scene.recording.path
    if path is None:
        raise Rejection("no_camera_path", "no camera path is recorded: nothing to align")
    enough = tracks.visible.sum(0) >= max(6, 0.3 * len(tracks.visible))
    tracks = tracks.select(np.flatnonzero(enough)[:300])
    if tracks.count < 20:
        return 0.0

    def error(offset: float) -> float:
        poses = path.at(replace(scene, offset=offset).clock)
        return float(np.percentile(rms(triangulate(scene.view(tracks, poses), 2).residual), 25))

    grid = np.linspace(-LARGEST, LARGEST, 11)
    best = grid[int(np.argmin([error(offset) for offset in grid]))]
    width = grid[1] - grid[0]
    found = minimize_scalar(
        error, bounds=(best - width, best + width), method="bounded", options={"xatol": 5e-4}
    )
    # A camera that hardly turns says nothing about time: keep the recording's own clock.
    return float(found.x) if error(0.0) - found.fun > 0.03 else 0.0
