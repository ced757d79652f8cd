"""Scores of a trajectory. They are columns of the shards; what trains is chosen when reading."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.observed import Estimate, Observed
from ego_ops.geometry.trajectory import Trajectory
from ego_ops.quality_motion import (
    in_frame_share,
    is_static,
    longest_gap,
    motion_scores,
    onset,
    spread,
)

SCORES = {
    "object_points": "tracked points on the object whose place is known",
    "inlier_share": "share of the object's observations that agree with its motion to 3 px",
    "reprojection_rmse_px": "root mean square reprojection error of those observations, "
    "pixels of the scaled frames",
    "visible_share": "share of the object's tracks that are seen in a frame, mean over frames",
    "in_frame_share": "share of the object's points in the picture, in the frame that has fewest",
    "forward_backward_px": "median distance from where a track began to where tracking it back "
    "leads, pixels of the scaled frames",
    "observed_share": "share of the steps in motion that were observed, not bridged over",
    "longest_gap_s": "longest stretch of motion that was bridged over, seconds",
    "position_sd_m": "95th percentile over observed steps of the position's standard deviation, m",
    "rotation_sd_rad": "95th percentile over observed steps of the rotation's standard deviation",
    "confidence": "median over frames of how far the pose can be trusted, 0 to 1",
    "travel_m": "length of the object's path in the world, metres",
    "displacement_m": "largest distance of the object from where it lay, metres",
    "turn_rad": "largest rotation of the object from how it lay, radians",
    "top_speed_m_s": "largest speed of the object in the world, metres per second",
    "top_turn_rad_s": "largest rate of turn of the object in the world, radians per second",
    "jerk_rms_m_s3": "root mean square of the third derivative of the position in the world",
    "head_travel_m": "length of the camera's path, metres",
    "head_top_speed_m_s": "largest speed of the camera, metres per second",
    "head_top_turn_rad_s": "largest rate of turn of the camera, radians per second",
    "background_similarity": "how much the object moves through the view as the still background "
    "does: 1 where only the head moves, 0 where it explains nothing",
    "background_rmse_px": "reprojection error of the still background, pixels of the scaled frames",
    "background_inlier_share": "share of the background's observations that agree with its "
    "standing still",
    "depth_m": "median distance of the object along the optical axis, metres",
    "depth_scale": "median factor from measured depth to the lengths of the trajectory",
    "depth_scale_spread": "spread over frames of the factor from measured depth, relative",
    "side_m": "largest distance of the object to the side of, or above or below, the first "
    "camera's axis, metres",
    "near_m": "smallest distance of the object along the first camera's axis, metres",
    "far_m": "largest distance of the object along the first camera's axis, metres",
    "clock_offset_s": "seconds by which the recorded poses lead the video",
    "motion_start_s": "when the object begins to move, seconds from the start of the video",
    "is_static": "1 where no frame shows beyond doubt that the object moved, else 0",
    "is_uncertain": "1 where the estimate itself says that its poses are not sure enough, else 0",
    "is_symmetric": "1 where the object looks the same however it is turned about an axis, else 0",
    "is_ambiguous": "1 where more than one motion fits what was seen, else 0",
}
"""Every score by its column's name, with its meaning. A score that a method lacks is null."""


FLAGGED = ("uncertain", "symmetric", "ambiguous")
"""Flags of an `Estimate` that are scores too, `is_` and the flag."""


class Limit(NamedTuple):
    """What a trajectory must keep to, or it is rejected."""

    reason: str
    score: str
    relation: str
    """`<` or `>`: what is below, or above, is rejected."""
    bound: float
    sentence: str


LIMITS = (
    Limit("nothing_moves", "displacement_m", "<", 0.03, "the object moves by {:.3f} m"),
    Limit("lost_track", "observed_share", "<", 0.5, "{:.0%} of the motion was observed"),
    Limit("lost_track", "longest_gap_s", ">", 1.0, "the object was lost for {:.1f} s in motion"),
    Limit("uncertain_pose", "position_sd_m", ">", 0.03, "the position is known to {:.3f} m"),
    Limit("uncertain_pose", "rotation_sd_rad", ">", 0.35, "the rotation is known to {:.2f} rad"),
    Limit("poor_fit", "inlier_share", "<", 0.4, "{:.0%} of the observations fit the motion"),
    Limit("implausible_motion", "top_speed_m_s", ">", 5.0, "the object moves at {:.1f} m/s"),
    Limit("implausible_depth", "depth_m", ">", 3.0, "the object is {:.1f} m away"),
)
"""What `judge` asks of every method; what trains is chosen by the closer limits of
`ego_ops.curation`."""


def score(
    moved: ObjectMotion,
    result: Trajectory,
    times: NDArray[np.float64],
    seen: NDArray[np.bool_],
    error: NDArray[np.float64],
) -> dict[str, float]:
    """Scores of an object's motion.

    Args:
        moved: T displacements with their points and inliers.
        result: the same as T poses.
        times: (T,) seconds.
        seen: (T, N) observations that were on offer.
        error: (T, N) their reprojection errors, pixels.
    """
    return {
        **_fit(moved.points, moved.inliers, seen, error),
        **_coverage(moved.observed, moved.start, times),
        **_certainty(moved.observed, moved.position_sd, moved.rotation_sd),
        **motion_scores(result.object, result.camera, times),
        "is_static": is_static(result.object, moved.position_sd, moved.rotation_sd),
    }


def score_estimate(observed: Observed, estimate: Estimate) -> dict[str, float]:
    """Scores of a joint estimate; `forward_backward_px` and `clock_offset_s` are the caller's.

    Args:
        observed: what was estimated from: T frames, N tracks of the object, M of the background.
        estimate: the same T, N and M.
    """
    tracks, sds = observed.object, (estimate.position_sd, estimate.rotation_sd)
    start = onset(estimate.object, *sds)
    return {
        **_fit(estimate.points, estimate.inliers, tracks.visible, estimate.reprojection),
        **_coverage(estimate.observed, start, observed.times),
        **_certainty(estimate.observed, *sds),
        **motion_scores(estimate.object, estimate.camera, observed.times),
        **_background(observed, estimate),
        "in_frame_share": in_frame_share(_inside(observed, estimate)),
        "confidence": float(np.median(estimate.confidence)),
        "depth_scale": estimate.scale,
        "depth_scale_spread": spread(estimate.depth_scale),
        "is_static": is_static(estimate.object, *sds),
        **{f"is_{flag}": float(flag in estimate.flags) for flag in FLAGGED},
    }


def judge(scores: dict[str, float]) -> None:
    """Turn down a trajectory that cannot be right, or that nobody can vouch for.

    Raises:
        Rejection: with the reason, and the number that decided.
    """
    for reason, name, relation, limit, sentence in LIMITS:
        value = scores[name]
        if not np.isfinite(value) or (value < limit if relation == "<" else value > limit):
            bound = "at least" if relation == "<" else "at most"
            raise Rejection(reason, f"{sentence.format(value)} ({name}: {bound} {limit:g})")


def _fit(
    points: NDArray[np.float64],
    inliers: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    error: NDArray[np.float64],
) -> dict[str, float]:
    agreeing = error[inliers]
    return {
        "object_points": float(np.isfinite(points).all(-1).sum()),
        "inlier_share": float(inliers.sum() / max(seen.sum(), 1)),
        "reprojection_rmse_px": _rms(agreeing),
        "visible_share": float(seen.mean()) if seen.size else 0.0,
    }


def _coverage(
    observed: NDArray[np.bool_], start: int, times: NDArray[np.float64]
) -> dict[str, float]:
    moving = np.arange(len(times)) >= start
    return {
        "observed_share": float(observed[moving].mean()),
        "longest_gap_s": longest_gap(observed | ~moving, times),
        "motion_start_s": float(times[start]),
    }


def _certainty(
    observed: NDArray[np.bool_],
    position_sd: NDArray[np.float64],
    rotation_sd: NDArray[np.float64],
) -> dict[str, float]:
    """Of the observed steps: `longest_gap_s` and `observed_share` judge what is bridged over."""
    of = observed if observed.any() else slice(None)
    return {
        "position_sd_m": float(np.percentile(position_sd[of], 95)),
        "rotation_sd_rad": float(np.percentile(rotation_sd[of], 95)),
    }


def _background(observed: Observed, estimate: Estimate) -> dict[str, float]:
    tracks, inliers = observed.background, estimate.background_inliers
    view = observed.view(tracks, estimate.camera)
    return {
        "background_rmse_px": _rms(view.error(estimate.background)[inliers]),
        "background_inlier_share": float(inliers.sum() / max(tracks.visible.sum(), 1)),
    }


def _inside(observed: Observed, estimate: Estimate) -> NDArray[np.bool_]:
    """(T, n) whether each point that has a place lies in the picture of each frame."""
    points = estimate.points[np.isfinite(estimate.points).all(-1)]
    pose = estimate.camera.inv() * estimate.object
    local = np.einsum("tij,nj->tni", pose.rotation.as_matrix(), points)
    local += pose.translation[:, None]
    return observed.camera.contains(observed.camera.project(local))


def _rms(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")
