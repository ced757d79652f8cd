"""The camera's own motion from tracks over the whole picture and their depth."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.observed import TrackedPoints
from ego_ops.geometry.registration import LEAST, Registered, register
from ego_ops.geometry.smooth_motion import refine
from ego_ops.geometry.view import Array, Index, Mask, View

LONGEST_GAP = 1.0
"""Seconds for which the camera's pose may be bridged over."""
NEAR = (8.0, 2.5)
"""Pixels up to which an observation agrees with the path, from round to round."""
STEADY = 0.9
"""Share of its frames in which a track must agree; the others are on moving things."""
MOST, EACH = 200, 30
"""Tracks that take part in the adjustment, and of each frame, as far as it has as many."""
PLACE_SD = 0.05
"""Metres by which depth may misplace a point."""


def registered(camera: Camera, tracks: TrackedPoints, times: Array) -> Registered:
    """The background as one rigid thing that moves in front of an unmoving camera.

    Raises:
        Rejection: for more than a second no frame has enough points (`lost_background`).
    """
    found = register(camera, tracks, times)
    if found is None:
        raise Rejection("lost_background", f"no frame shows {LEAST} background tracks with depth")
    gap = float(np.diff(np.concatenate((times[:1], times[found.known], times[-1:]))).max())
    if gap > LONGEST_GAP:
        raise Rejection(
            "lost_background",
            f"for {gap:.1f} s no {LEAST} background points agree on a camera pose",
        )
    return found


def estimate_path(camera: Camera, tracks: TrackedPoints, times: Array) -> RigidTransform:
    """T poses T_first_camera: the world is the camera frame of the first frame.

    Frames are posed one after another (`registration`), and then all poses and points are adjusted
    together, without the tracks that do not stand still or whose depth is wrong.

    Args:
        times: (T,) seconds.

    Raises:
        Rejection: for more than a second no frame has enough points, or too few stand still
            (`lost_background`).
    """
    begun = registered(camera, tracks, times)
    start = begun.poses[0]
    points = start.apply(begun.points)
    motion = begun.poses * start.inv()
    view = View(camera, RigidTransform.identity(len(times)), times, tracks.xy, tracks.visible)
    first = np.arange(view.steps) == 0
    for near in NEAR:
        agree = view.from_object(motion).error(points) < near
        steady = np.flatnonzero(agree.any(0) & (agree.sum(0) >= STEADY * view.visible.sum(0)))
        if len(steady) < LEAST:
            raise Rejection("lost_background", f"{len(steady)} tracks stand still, {LEAST} must")
        some = _enough(agree, steady)
        known = view.where(agree).select(some)
        motion, points[some] = refine(known, motion, points[some], first, place_sd=PLACE_SD)
    return motion.inv()


def _enough(agree: Mask, steady: Index) -> Index:
    """Those of the steady tracks that agree longest, and in each frame as many as it may have."""
    order = steady[np.argsort(-agree[:, steady].sum(0), kind="stable")]
    kept = set(order[:MOST].tolist())
    for now in agree:
        kept.update(order[now[order]][:EACH].tolist())
    return np.array(sorted(kept))
