"""Scores that follow from the poses of the object and of the camera alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOVED_M, MOVED_RAD = 0.01, 0.1
"""What a thing must have moved or turned by before it counts as moving."""
SURE = 3.0
"""Standard deviations that a motion must exceed before it is believed."""


def motion_scores(object: RigidTransform, camera: RigidTransform, times: Floats) -> dict:
    """How the object and the camera move.

    Args:
        object: T poses T_first_object, metres.
        camera: T poses T_first_camera.
        times: (T,) seconds, increasing.
    """
    place, still = object.translation, object.translation[0]
    speed, spin = _rates(object, times)
    head_speed, head_spin = _rates(camera, times)
    return {
        "travel_m": _length(place),
        "displacement_m": float(np.linalg.norm(place - still, axis=-1).max()),
        "turn_rad": float(_turned(object).max()),
        "top_speed_m_s": speed,
        "top_turn_rad_s": spin,
        "jerk_rms_m_s3": jerk(place, times),
        "head_travel_m": _length(camera.translation),
        "head_top_speed_m_s": head_speed,
        "head_top_turn_rad_s": head_spin,
        "background_similarity": background_similarity(object, camera),
        "depth_m": float(np.median((camera.inv() * object).translation[:, 2])),
        "side_m": float(np.abs(place[:, :2]).max()),
        "near_m": float(place[:, 2].min()),
        "far_m": float(place[:, 2].max()),
    }


def background_similarity(object: RigidTransform, camera: RigidTransform) -> float:
    """How much the object moves through the camera's view as the still background does, -1 to 1.

    With u_t the object's displacement since the first step in the moving camera's own axes, and
    v_t that of a point which stands still where the object first was, it is
    2 Σ u·v / Σ (|u|² + |v|²), or 1 - Σ |motion in the world|² / Σ (|u|² + |v|²): 1 where all that
    was seen to move is the head, 0 where the head's motion explains nothing of it, as when the
    head is still or follows a thing that is carried about.

    The curation of EgoScaler's VLA data (arXiv 2509.21986) drops trajectories that are too
    similar to the background's. What is public of it gives no formula; this is our reading. Its
    counts of episodes by threshold (28,719 at 0.5, 45,157 at 0.7, 86,427 at 1.0) say that what
    lies *below* the threshold is kept.

    Args:
        object: T poses T_first_object.
        camera: T poses T_first_camera.
    """
    first = object.translation[0]
    seen = (camera.inv() * object).translation
    unmoved = camera.inv().apply(np.tile(first, (len(seen), 1)))
    u, v = seen - seen[0], unmoved - unmoved[0]
    size = float((u * u).sum() + (v * v).sum())
    return 2 * float((u * v).sum()) / size if size > 1e-12 else 1.0


def onset(object: RigidTransform, position_sd: Floats, rotation_sd: Floats) -> int:
    """The first frame in which the object has moved beyond doubt; 0 where it never does.

    Args:
        object: T poses T_first_object.
        position_sd, rotation_sd: (T,) metres and radians.
    """
    shift = np.linalg.norm(object.translation - object.translation[0], axis=-1)
    moved = shift > np.maximum(MOVED_M, SURE * position_sd)
    moved |= _turned(object) > np.maximum(MOVED_RAD, SURE * rotation_sd)
    return int(moved.argmax())


def is_static(object: RigidTransform, position_sd: Floats, rotation_sd: Floats) -> float:
    """1 where no frame shows beyond doubt that the object moved, else 0: see `onset`."""
    return float(onset(object, position_sd, rotation_sd) == 0)


def in_frame_share(inside: Mask) -> float:
    """Share of an object's points that lie in the picture, in the frame that has fewest.

    Args:
        inside: (T, N) whether each point, placed by the object's motion, is in the picture.
    """
    return float(inside.mean(1).min()) if inside.size else 0.0


def longest_gap(covered: Mask, times: Floats) -> float:
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


def jerk(place: Floats, times: Floats) -> float:
    """Root mean square of the third derivative of positions (T, 3), metres per second cubed."""
    if len(times) < 5:
        return 0.0
    step = float(np.median(np.diff(times)))
    third = np.diff(place, 3, axis=0) / step**3
    return float(np.sqrt((third**2).sum(-1).mean()))


def spread(factors: Floats) -> float:
    """Half the distance between the 16th and the 84th percentile of the logarithms of (T,).

    Of factors that scatter evenly it is their relative standard deviation, and a few wild ones
    do not change it. NaN where fewer than two are positive and finite.
    """
    good = factors[np.isfinite(factors) & (factors > 0)]
    if len(good) < 2:
        return float("nan")
    low, high = np.percentile(np.log(good), [15.87, 84.13])
    return float(high - low) / 2


def _turned(poses: RigidTransform) -> Floats:
    """(T,) radians since the first pose."""
    return (poses.rotation * poses.rotation[0].inv()).magnitude()


def _length(path: Floats) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=-1).sum())


def _rates(poses: RigidTransform, times: Floats) -> tuple[float, float]:
    """The largest speed in metres a second and the largest rate of turn in radians a second."""
    if len(times) < 2:
        return 0.0, 0.0
    seconds, turn = np.diff(times), poses.rotation
    speed = np.linalg.norm(np.diff(poses.translation, axis=0), axis=-1) / seconds
    spin = (turn[1:] * turn[:-1].inv()).magnitude() / seconds
    return float(speed.max()), float(spin.max())
