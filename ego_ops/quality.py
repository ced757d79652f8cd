"""Scores of a trajectory. They are columns of the shards; what trains is chosen when reading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.trajectory import Trajectory

SCORES = {
    "object_points": "tracked points on the object whose place is known",
    "inlier_share": "share of the object's observations that agree with its motion to 3 px",
    "reprojection_rmse_px": "of those observations, pixels of the scaled frames",
    "observed_share": "share of the steps in motion that were observed, not bridged over",
    "longest_gap_s": "longest stretch of motion that was bridged over, seconds",
    "position_sd_m": "95th percentile over steps of the position's standard deviation, metres",
    "rotation_sd_rad": "the same of the rotation, radians",
    "travel_m": "length of the object's path in the world, metres",
    "displacement_m": "largest distance of the object from where it lay, metres",
    "turn_rad": "largest rotation of the object from how it lay, radians",
    "top_speed_m_s": "largest speed of the object in the world, metres per second",
    "jerk_rms_m_s3": "root mean square of the third derivative of the position in the world",
    "head_travel_m": "length of the camera's path, metres",
    "depth_m": "median distance of the object along the optical axis, metres",
    "background_rmse_px": "reprojection error of the still background, pixels of the scaled frames",
    "clock_offset_s": "seconds by which the recorded poses lead the video",
    "motion_start_s": "when the object begins to move, seconds from the start of the video",
}
"""Every score by its column's name, with its meaning. A score that a method lacks is null."""


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
    world = moved.motion.apply(moved.middle)
    moving = np.arange(len(times)) >= moved.start
    observed = moved.observed
    velocity = np.diff(world, axis=0) / np.diff(times)[:, None]
    head = np.linalg.norm(np.diff(result.camera.translation, axis=0), axis=-1)
    local = result.camera.inv() * result.object
    return {
        "object_points": float(np.isfinite(moved.points).all(-1).sum()),
        "inlier_share": float(moved.inliers.sum() / max(seen.sum(), 1)),
        "reprojection_rmse_px": float(np.sqrt(np.mean(error[moved.inliers] ** 2))),
        "observed_share": float(observed[moving].mean()),
        "longest_gap_s": longest_gap(observed | ~moving, times),
        "position_sd_m": float(np.percentile(moved.position_sd, 95)),
        "rotation_sd_rad": float(np.percentile(moved.rotation_sd, 95)),
        "travel_m": float(np.linalg.norm(np.diff(world, axis=0), axis=-1).sum()),
        "displacement_m": float(np.linalg.norm(world - world[0], axis=-1).max()),
        "turn_rad": float(moved.motion.rotation.magnitude().max()),
        "top_speed_m_s": float(np.linalg.norm(velocity, axis=-1).max()),
        "jerk_rms_m_s3": _jerk(world, times),
        "head_travel_m": float(head.sum()),
        "depth_m": float(np.median(local.translation[:, 2])),
        "motion_start_s": float(times[moved.start]),
    }


def judge(scores: dict[str, float]) -> None:
    """Turn down a trajectory that cannot be right, or that nobody can vouch for.

    Raises:
        Rejection: with the reason, and the number that decided.
    """
    rules = (
        ("nothing_moves", "displacement_m", "<", 0.03, "the object moves by {:.3f} m"),
        ("lost_track", "observed_share", "<", 0.5, "{:.0%} of the motion was observed"),
        ("lost_track", "longest_gap_s", ">", 1.0, "the object was lost for {:.1f} s in motion"),
        ("uncertain_pose", "position_sd_m", ">", 0.03, "the position is known to {:.3f} m"),
        ("uncertain_pose", "rotation_sd_rad", ">", 0.35, "the rotation is known to {:.2f} rad"),
        ("poor_fit", "inlier_share", "<", 0.4, "{:.0%} of the observations fit the motion"),
        ("implausible_motion", "top_speed_m_s", ">", 5.0, "the object moves at {:.1f} m/s"),
        ("implausible_depth", "depth_m", ">", 3.0, "the object is {:.1f} m away"),
    )
    for reason, name, relation, limit, sentence in rules:
        value = scores[name]
        if not np.isfinite(value) or (value < limit if relation == "<" else value > limit):
            bound = "at least" if relation == "<" else "at most"
            raise Rejection(reason, f"{sentence.format(value)} ({name}: {bound} {limit:g})")


def longest_gap(covered: NDArray[np.bool_], times: NDArray[np.float64]) -> float:
    """Seconds of the longest run of frames that are not covered (T,)."""
    longest, begun = 0.0, None
    for t, good in enumerate(covered):
        if good:
            begun = None
        elif begun is None:
            begun = times[max(t - 1, 0)]
        if begun is not None:
            longest = max(longest, float(times[min(t + 1, len(times) - 1)] - begun))
    return longest


def _jerk(world: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    if len(times) < 5:
        return 0.0
    step = float(np.median(np.diff(times)))
    return float(np.sqrt(np.mean((np.diff(world, 3, axis=0) / step**3) ** 2) * 3))
