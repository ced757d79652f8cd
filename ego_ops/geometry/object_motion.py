"""The motion of one rigid thing, seen by a camera whose path is known.

Motion is a displacement D_t that maps where a point of the object lay before it was touched to
where it is at frame t, both in the world: identity while the object is still. Seen from the
object, it is the camera that moves, along D_t^-1 T_world_camera, past points that stand still, so
triangulation serves for the object as it does for the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera, PosePath
from ego_ops.errors import Rejection
from ego_ops.geometry.smooth_motion import deviations, refine
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Index, Mask, View, rms

LEAST = 4
"""Points that must agree before a frame's pose is believed."""
PLACE_SD = 0.1
"""Metres by which a point's first place may be wrong; the tracks decide."""
AGREE = 3.0
"""Pixels of reprojection error up to which an observation agrees with a pose."""


@dataclass(frozen=True)
class ObjectMotion:
    """T displacements of an object with N points."""

    motion: RigidTransform
    """T displacements D_t."""
    points: Array
    """(N, 3) where the points lay before the object was touched, in the world; NaN if unknown."""
    inliers: Mask
    """(T, N) observations that agree with the motion to 3 pixels."""
    start: int
    """The first frame in which the object is not known to be still."""
    position_sd: Array
    """(T,) standard deviation of the object's position, metres, along its worst direction."""
    rotation_sd: Array
    """(T,) of its orientation, radians, about its worst axis."""

    @property
    def observed(self) -> Mask:
        """(T,) frames with points enough to hold the pose; the others are bridged over."""
        return self.inliers.sum(1) >= LEAST

    @property
    def middle(self) -> Array:
        """(3,) the object's place before it was touched: the median of its points."""
        return np.nanmedian(self.points, axis=0)


def pnp(
    camera: Camera, points: Array, seen: Array, threshold: float = AGREE
) -> tuple[RigidTransform, Mask] | None:
    """Pose from 3D-2D matches, by RANSAC (SQPnP) and then least squares on the inliers.

    Args:
        points: (N, 3) in frame a.
        seen: (N, 2) pixels.
        threshold: reprojection error of an inlier, pixels.

    Returns:
        T_camera_a and which (N,) are inliers; None where fewer than four agree.
    """
    if len(points) < LEAST:
        return None
    points, seen = np.ascontiguousarray(points, float), np.ascontiguousarray(seen, float)
    matrix = camera.matrix
    try:
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points, seen, matrix, None, reprojectionError=threshold, iterationsCount=300,
            confidence=0.999, flags=cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
        if not found or inliers is None or len(inliers) < LEAST:
            return None
        chosen = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(points[chosen], seen[chosen], matrix, None, turn, shift)
    except cv2.error:  # a degenerate set, for example collinear points
        return None
    if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    mask = np.zeros(len(points), bool)
    mask[chosen] = True
    pose = RigidTransform.from_components(shift[:, 0], Rotation.from_rotvec(turn[:, 0]))
    return pose, mask


def displacements_by_pnp(
    view: View, points: Array, least: int = LEAST + 1
) -> dict[int, tuple[RigidTransform, Mask]]:
    """D_t and its inliers (N,) for each frame in which at least `least` tracks agree on one."""
    found = {}
    for t in range(view.steps):
        who = np.flatnonzero(view.visible[t])
        result = pnp(view.camera, points[who], view.xy[t, who])
        if result is None or result[1].sum() < max(least, 0.4 * len(who)):
            continue
        mask = np.zeros(view.count, bool)
        mask[who[result[1]]] = True
        found[t] = (view.path[t] * result[0], mask)
    return found


def at_all_frames(known: dict[int, RigidTransform], times: Array) -> RigidTransform:
    """Poses at all `times` (T,) from those at the frames of `known`, held beyond its ends."""
    frames = sorted(known)
    poses = RigidTransform.concatenate([known[frame] for frame in frames])
    return PosePath(times[frames], poses).held(times)


def follow(
    view: View, points: Array, start: int, least: int = LEAST + 1
) -> dict[int, tuple[RigidTransform, Mask]]:
    """D_t and its inliers (N,), each frame from the one before, where `least` tracks agree.

    A thing of few points, or of points in a line, has several poses that look much alike. The one
    that continues the motion is believed, unless RANSAC finds one that far more tracks agree with
    and that a hand could have reached in the time.
    """
    found = {}
    last, since = RigidTransform.identity(), max(0, start - 1)
    resting = view.error(points) < AGREE
    world_to_camera = view.path.inv()
    for t in range(view.steps):
        who = np.flatnonzero(view.visible[t])
        places, seen = points[who], view.xy[t, who]
        pose, agree = last, resting[t, who]
        if t >= start and len(who) >= least:
            local, agree = _continued(view.camera, world_to_camera[t] * last, places, seen)
            pose = view.path[t] * local
            other = pnp(view.camera, places, seen)
            if other is not None and other[1].sum() > 1.5 * agree.sum() + 1:
                jump = view.path[t] * other[0]
                if _reachable(last, jump, places.mean(0), view.times[t] - view.times[since]):
                    pose, agree = jump, other[1]
        if t >= start and agree.sum() < max(least, 0.4 * len(who)):
            continue
        mask = np.zeros(view.count, bool)
        mask[who[agree]] = True
        found[t] = (pose, mask)
        if t >= start:
            last, since = pose, t
    return found


def _continued(
    camera: Camera, last: RigidTransform, points: Array, seen: Array
) -> tuple[RigidTransform, Mask]:
    """The pose of one frame by least squares from the last one, and its inliers (n,).

    Where the last pose explains the frame as well as any, the thing has not moved. Each of three
    rounds drops what misses by more than a shrinking bound, or by far more than most.
    """
    turn, shift = last.rotation.as_rotvec()[:, None], last.translation[:, None].copy()

    def misses() -> Array:
        found, _ = cv2.projectPoints(points, turn, shift, camera.matrix, None)
        return np.linalg.norm(found[:, 0] - seen, axis=-1)

    resting = error = misses()
    for bound in (12.0, 6.0, AGREE):
        near = error < max(bound, 2 * float(np.median(error)))
        if near.sum() < LEAST:
            break
        turn, shift = cv2.solvePnPRefineLM(
            points[near], seen[near], camera.matrix, None, turn, shift
        )
        if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
            return last, resting < AGREE
        error = misses()
    agree = error < AGREE
    if (resting < AGREE).sum() >= 0.9 * agree.sum() and _rms(resting) < _rms(error) + 0.4:
        return last, resting < AGREE
    return RigidTransform.from_components(shift[:, 0], Rotation.from_rotvec(turn[:, 0])), agree


def _rms(error: Array) -> float:
    """Of the errors (n,) of inliers."""
    inliers = error[error < AGREE]
    return float(np.sqrt(np.mean(inliers**2))) if len(inliers) else np.inf


def _reachable(a: RigidTransform, b: RigidTransform, place: Array, seconds: float) -> bool:
    """Whether a hand can take a thing at `place` (3,) from displacement a to b in the time."""
    shift = np.linalg.norm(b.apply(place) - a.apply(place))
    turn = (b.rotation * a.rotation.inv()).magnitude()
    return bool(shift < 0.02 + 3.0 * seconds and turn < 0.1 + 12.0 * seconds)


def solve(view: View, points: Array, start: int, rounds: int = 2) -> ObjectMotion:
    """Motion of an object from tracks on it, some of whose places before the motion are known.

    Each round finds every frame's pose by PnP, smooths all of them together, and then fits every
    point anew, seen from the object, which places those that came into view during the motion.

    Args:
        view: tracks on the object, outliers among them.
        points: (N, 3) places before the motion, in the world; NaN where unknown.
        start: first frame in which the object may have moved.

    Raises:
        Rejection: once it moves, no frame has tracks enough that agree (`lost_track`).
    """
    still = np.arange(view.steps) < start
    points = points.copy()
    for turn in range(rounds):
        placed = np.isfinite(points[:, 0])
        known = view.select(placed)
        found = follow(known, points[placed], start)
        if not any(t >= start for t in found):
            raise Rejection(
                "lost_track", f"once it moves, no frame has {LEAST + 1} tracks that agree on a pose"
            )
        used = np.zeros_like(known.visible)
        for t, (_, mask) in found.items():
            used[t] = mask
        guess = at_all_frames({t: pose for t, (pose, _) in found.items()}, view.times)
        motion, points[placed] = refine(
            known.where(used), guess, points[placed], still, place_sd=PLACE_SD
        )
        if turn < rounds - 1:
            points = _placed_anew(
                view.from_object(motion).where(used.sum(1, keepdims=True) > 0), points
            )
    inliers = view.from_object(motion).error(points) < AGREE
    sure = known.where(inliers[:, placed])
    rotation_sd, position_sd = deviations(sure, motion, points[placed], still, place_sd=PLACE_SD)
    return ObjectMotion(motion, points, inliers, start, position_sd, rotation_sd)


def _placed_anew(view: View, points: Array) -> Array:
    """Points (N, 3) fitted to the object's own view; those that do not fit stay as they are."""
    fit = triangulate(view)
    good = (view.visible.sum(0) >= 5) & (rms(fit.residual) < 2.0) & (fit.spread < 0.02)
    return np.where(good[:, None], fit.points, points)


def world_points(view: View, depth: Array, onset: Index) -> Array:
    """(N, 3) where tracked points lay in the world before they moved; NaN where it is not known.

    Args:
        depth: (T, N) metres along the optical axis, NaN where unknown.
        onset: (N,) the frame in which each begins to move, T for never.
    """
    still = np.arange(view.steps)[:, None] < onset
    local = view.camera.rays(view.xy) * np.where(still, depth, np.nan)[..., None]
    world = np.einsum("tij,tnj->tni", view.path.rotation.as_matrix(), local)
    world += view.path.translation[:, None]
    known = np.isfinite(world).all(-1).any(0)
    points = np.full((view.count, 3), np.nan)
    points[known] = np.nanmedian(world[:, known], axis=0)
    return points


def first_frame(onset: Index) -> int:
    """The frame in which an object begins to move, from its tracks' own onsets (n,).

    The lower quartile: single tracks begin early by mistake, and most are noticed late.
    """
    return int(np.percentile(onset, 25))
