"""The camera's own motion from tracks of the still background and their depth."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import at_all_frames, pnp
from ego_ops.geometry.smooth_motion import refine
from ego_ops.geometry.view import Array, Mask, View

LEAST = 8
"""Points that must agree on a camera pose."""


def estimate_path(
    camera: Camera, xy: Array, visible: Mask, depth: Array, times: Array
) -> RigidTransform:
    """T poses T_first_camera: the world is the camera frame of the first frame.

    Points get their place in the world in the first frame that knows their depth, and each frame
    is posed against all of them by PnP, not against its neighbour, so that errors do not add up;
    then all poses are smoothed together. Moving things are outliers to the background.

    Args:
        xy, visible: (T, N, 2) and (T, N) tracks over the whole picture.
        depth: (T, N) metres along the optical axis, NaN where unknown.
        times: (T,) seconds.

    Raises:
        Rejection: for more than a second no frame has enough points (`lost_background`).
    """
    # The camera seen from the world is the world seen from the camera: the still background is
    # one rigid thing that moves in front of an unmoving camera.
    resting = RigidTransform.identity(len(times))
    view = View(camera, resting, times, xy, visible)
    points, poses, agreeing = _chained(view, depth)
    gap = np.diff(times[sorted({*poses, len(times) - 1})], prepend=times[0]).max()
    if gap > 1.0:
        raise Rejection(
            "lost_background",
            f"for {gap:.1f} s no {LEAST} background points agree on a camera pose",
        )
    placed = np.isfinite(points[:, 0])
    still = np.arange(view.steps) == 0
    known = view.where(agreeing).select(placed)
    motion, _ = refine(known, at_all_frames(poses, times), points[placed], still)
    return motion.inv()


def _chained(view: View, depth: Array) -> tuple[Array, dict[int, RigidTransform], Mask]:
    """Points (N, 3), poses T_camera_first by frame, and which observations (T, N) agree."""
    points = np.full((view.count, 3), np.nan)
    poses = {0: RigidTransform.identity()}
    agreeing = np.zeros_like(view.visible)
    for t in range(view.steps):
        if t:
            who = np.flatnonzero(view.visible[t] & np.isfinite(points[:, 0]))
            found = pnp(view.camera, points[who], view.xy[t, who])
            if found is None or found[1].sum() < max(LEAST, 0.3 * len(who)):
                continue
            poses[t] = found[0]
            agreeing[t, who[found[1]]] = True
        new = view.visible[t] & np.isnan(points[:, 0]) & np.isfinite(depth[t])
        points[new] = poses[t].inv().apply(view.camera.rays(view.xy[t, new]) * depth[t, new, None])
        agreeing[t, new] = True
    return points, poses, agreeing
