"""Poses of one rigid thing from its tracks and their depth, frame after frame.

Each frame is posed against points that were placed by the depth of the frame they were first seen
in, not against its neighbour, so that errors do not add up. The still background is such a thing
too: it moves in front of an unmoving camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera, PosePath
from ego_ops.geometry.normal import Seen, nearer
from ego_ops.geometry.object_motion import pnp
from ego_ops.geometry.observed import TrackedPoints
from ego_ops.geometry.residuals import NOISE, jacobian, predicted, weights
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Mask, View, rms

Pose = tuple[Array, Array]
"""Rotation matrix (3, 3) and translation (3,) of T_camera_thing."""
LEAST = 5
"""Points that must agree before a frame's pose is believed."""
AGREE = 4.0
"""Pixels of reprojection error up to which an observation agrees with a pose."""
EVERY, LOOKS = 5, 16
"""After so many more frames the points are placed anew, from at most so many frames."""
RAYS, FIRM = 5, 0.02
"""A point without depth is placed by so many rays that meet to within so many metres a pixel."""
MOST = 120
"""Points that a frame is posed by, at most."""
_WIDTHS = (30.0, 10.0, 4.0, 3.0)
"""Deviations at which the robust loss lets go, from round to round."""


@dataclass(frozen=True)
class Registered:
    """A thing's poses and points, good to begin an adjustment with."""

    poses: RigidTransform
    """T poses T_camera_thing; the thing's frame is the camera's in the `first` frame."""
    points: Array
    """(N, 3) in the thing's frame; NaN where no frame gave a place."""
    known: Mask
    """(T,) frames with a pose of their own; those between them are interpolated."""
    first: int


def register(
    camera: Camera, tracks: TrackedPoints, times: Array, share: float = 0.3
) -> Registered | None:
    """Follow a thing from the first frame that shows enough of it to both ends of the clip.

    Args:
        times: (T,) seconds.
        share: of the points seen in a frame, how many must agree on its pose.

    Returns:
        None where no frame shows `LEAST` points with depth.
    """
    ready = (tracks.visible & np.isfinite(tracks.depth)).sum(1)
    if ready.max(initial=0) < LEAST:
        return None
    # The earliest frame that shows nearly as much as any: what comes later is placed from there.
    first = int(np.argmax(ready >= max(LEAST, 0.6 * ready.max())))
    points = np.full((tracks.count, 3), np.nan)
    poses: dict[int, Pose] = {first: (np.eye(3), np.zeros(3))}
    _place(camera, tracks, points, first, poses[first])
    seen = Seen.of(tracks.xy, tracks.visible, tracks.depth)
    for order in (range(first + 1, len(times)), range(first - 1, -1, -1)):
        last = first
        for t in order:
            found = _posed(camera, tracks, points, t, poses[last], share)
            if found is not None:
                poses[t] = found
                last = t
                _place(camera, tracks, points, t, found)
                if len(poses) % EVERY == 0:
                    points = _improved(camera, tracks, seen, points, poses)
    known = np.isin(np.arange(len(times)), list(poses))
    return Registered(_filled(poses, times), points, known, first)


def _improved(
    camera: Camera, tracks: TrackedPoints, seen: Seen, points: Array, poses: dict[int, Pose]
) -> Array:
    """The points as up to `LOOKS` of the frames that are posed see them, together."""
    frames = np.sort(list(poses))
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, LOOKS).astype(int))]
    placed = np.flatnonzero(np.isfinite(points[:, 0]))
    turn, shift = np.stack([poses[t][0] for t in frames]), np.stack([poses[t][1] for t in frames])
    known = seen.tracks(placed).frames(frames)
    points = points.copy()
    points[placed] = nearer(
        camera, known, (turn, shift), points[placed], np.zeros(len(frames)), NOISE
    )
    path = RigidTransform.from_components(shift, Rotation.from_matrix(turn)).inv()
    return triangulated(camera, tracks.frames(frames), path, points)


def triangulated(
    camera: Camera, tracks: TrackedPoints, path: RigidTransform, points: Array
) -> Array:
    """The points (N, 3), those without a place put where their rays meet, if they do so firmly.

    Args:
        path: T poses T_thing_camera.
    """
    missing = np.flatnonzero(np.isnan(points[:, 0]) & (tracks.visible.sum(0) >= RAYS))
    if not len(missing):
        return points
    some = tracks.select(missing)
    fit = triangulate(View(camera, path, np.arange(len(path), dtype=float), some.xy, some.visible))
    firm = (rms(fit.residual) < AGREE / 2) & (fit.spread < FIRM)
    points = points.copy()
    points[missing[firm]] = fit.points[firm]
    return points


def place(camera: Camera, tracks: TrackedPoints, poses: RigidTransform) -> Array:
    """(N, 3) places in the thing's frame, each by the depth of the frame it was first seen in.

    Args:
        poses: T poses T_camera_thing.
    """
    points = np.full((tracks.count, 3), np.nan)
    turn, shift = poses.rotation.as_matrix(), poses.translation
    for t in range(len(turn)):
        _place(camera, tracks, points, t, (turn[t], shift[t]))
    return points


def resect(
    camera: Camera,
    points: Array,
    seen: Array,
    depth: Array,
    pose: Pose,
    widths: tuple[float, ...] = _WIDTHS,
) -> Pose:
    """Robust least squares (Gauss-Newton) for the pose of one frame, from a pose nearby.

    Args:
        points: (n, 3) in the thing's frame.
        seen: (n, 2) pixels.
        depth: (n,) metres, NaN where unknown.
        pose: rotation matrix and translation of T_camera_thing.
    """
    turn, shift = pose
    target = np.column_stack((seen, np.log(np.where(depth > 0, depth, 1.0))))
    measured, visible = depth > 0, np.ones(len(points), bool)
    for width in widths:
        local = points @ turn.T + shift
        error = target - predicted(camera, local)
        weight = weights(error, visible, measured, NOISE, width)
        by_pose = jacobian(camera, local).reshape(-1, 6)
        weighted = by_pose * weight.reshape(-1, 1)
        normal = weighted.T @ by_pose
        normal.flat[::7] += 1e-3 + 1e-6 * normal.flat[::7]
        step = np.linalg.solve(normal, weighted.T @ error.ravel())
        small = cv2.Rodrigues(step[:3])[0]
        turn, shift = small @ turn, small @ shift + step[3:]
    return turn, shift


def _misses(camera: Camera, points: Array, seen: Array, pose: Pose) -> Array:
    """(n,) reprojection errors in pixels; infinite for points behind the camera."""
    local = points @ pose[0].T + pose[1]
    gap = np.linalg.norm(predicted(camera, local)[:, :2] - seen, axis=-1)
    return np.where(local[:, 2] > 0, gap, np.inf)


def _posed(
    camera: Camera,
    tracks: TrackedPoints,
    points: Array,
    t: int,
    last: Pose,
    share: float,
) -> Pose | None:
    """The pose of frame t from the last one known, or by RANSAC where that leads nowhere."""
    who = np.flatnonzero(tracks.visible[t] & np.isfinite(points[:, 0]))
    if len(who) < LEAST:
        return None
    who = who[:: -(-len(who) // MOST)]
    places, seen = points[who], tracks.xy[t, who]
    enough = max(LEAST, share * len(who))
    pose = resect(camera, places, seen, tracks.depth[t, who], last)
    if (_misses(camera, places, seen, pose) < AGREE).sum() >= max(enough, 0.5 * len(who)):
        return pose
    found = pnp(camera, places, seen, AGREE)
    if found is not None:
        turn = found[0].rotation.as_matrix()
        other = resect(
            camera, places, seen, tracks.depth[t, who], (turn, found[0].translation), (5.0, 3.0)
        )
        agree = [(_misses(camera, places, seen, one) < AGREE).sum() for one in (pose, other)]
        # A jump must be well founded: few points have several poses that look much alike.
        if agree[1] > 1.5 * agree[0] + 1:
            pose = other
    return pose if (_misses(camera, places, seen, pose) < AGREE).sum() >= enough else None


def _place(camera: Camera, tracks: TrackedPoints, points: Array, t: int, pose: Pose) -> None:
    """Give the points first seen with depth in frame t their places, in place."""
    new = np.flatnonzero(tracks.visible[t] & np.isnan(points[:, 0]) & np.isfinite(tracks.depth[t]))
    local = camera.rays(tracks.xy[t, new]) * tracks.depth[t, new, None]
    points[new] = (local - pose[1]) @ pose[0]


def _filled(poses: dict[int, Pose], times: Array) -> RigidTransform:
    """Poses of all frames, those between the known ones interpolated, those beyond them held."""
    frames = sorted(poses)
    turns, shifts = (np.stack(part) for part in zip(*(poses[t] for t in frames), strict=True))
    known = RigidTransform.from_components(shifts, Rotation.from_matrix(turns))
    return PosePath(times[frames], known).held(times)
