"""Two views of one clip: pairs of frames with parallax, and camera motions between them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import pnp
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Index, View, rms

SHARED = 24
"""Tracks that two frames must share."""
LEAST_PARALLAX = 3.0
"""Median pixels between two frames that no rotation explains, below which nothing can be told."""
AGREE = 3.0
"""Pixels of reprojection error up to which an observation agrees with the path."""
FIRM = 2.0
"""RMS error in pixels up to which a whole track counts as a still point."""
ALIKE = np.radians(1.0)
"""Rotation between two frames up to which a draft tells no other motion of them."""


def _parallax_pairs(view: View, samples: int = 10, most: int = 4) -> list[tuple[int, int]]:
    """Pairs of frames with the most parallax, best first."""
    frames = np.unique(np.linspace(0, view.steps - 1, samples).astype(int))
    rays = view.camera.rays(np.nan_to_num(view.xy[frames]))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    seen = view.visible[frames]
    found = []
    for a in range(len(frames)):
        for b in range(a + 1, len(frames)):
            both = np.flatnonzero(seen[a] & seen[b])
            if len(both) >= SHARED:
                gap = _beyond_rotation(rays[a, both], rays[b, both]) * view.camera.fx
                # Of equal parallax, the pair that shares more points is worth more.
                value = gap * min(1.0, len(both) / 60)
                found.append((value, gap, frames[a], frames[b]))
    if not found:
        raise Rejection("lost_background", f"no two frames share {SHARED} tracks")
    found.sort(reverse=True)
    largest = max(gap for _, gap, _, _ in found)
    if largest < LEAST_PARALLAX:
        raise Rejection(
            "too_little_parallax",
            f"no two frames differ by more than {largest:.1f} px (median over the tracks) beyond "
            f"what turning the camera explains, {LEAST_PARALLAX:g} px are needed",
        )
    return [(int(a), int(b)) for _, _, a, b in found[:most]]


def _beyond_rotation(one: Array, other: Array) -> float:
    """Median angle between two sets of rays (n, 3) after the rotation that fits most of them."""
    weight = np.ones(len(one))
    gap = np.zeros(len(one))
    for _ in range(5):
        u, _, v = np.linalg.svd((other * weight[:, None]).T @ one)
        turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
        gap = np.linalg.norm(other - one @ turn.T, axis=-1)
        weight = 1 / np.maximum(gap, 1e-3)
    return float(np.median(gap))


Motion = dict[int, RigidTransform]


def _two_views(view: View, first: int, second: int) -> tuple[list[Motion], list[Motion]]:
    """Poses T_world_camera of two frames, the first at identity and a unit apart: by the essential
    matrix (one or none), and by a homography where the scene is nearly a plane (up to four)."""
    who = np.flatnonzero(view.visible[first] & view.visible[second])
    one, other = (np.ascontiguousarray(view.xy[t, who], float) for t in (first, second))
    matrix = view.camera.matrix

    def motion(turn: Array, shift: Array) -> Motion:
        unit = shift[:, 0] / np.linalg.norm(shift)
        moved = RigidTransform.from_components(unit, Rotation.from_matrix(turn))
        return {first: RigidTransform.identity(), second: moved.inv()}

    general, plane = [], []
    essential, _ = cv2.findEssentialMat(one, other, matrix, cv2.USAC_ACCURATE, 0.9999, 1.0)
    if essential is not None and essential.shape == (3, 3):
        _, turn, shift, _ = cv2.recoverPose(essential, one, other, matrix)
        general.append(motion(turn, shift))
    matched, fits = cv2.findHomography(one, other, cv2.USAC_ACCURATE, 2.0, None, 2000, 0.999)
    if matched is not None and fits.mean() > 0.5:
        _, turns, shifts, _ = cv2.decomposeHomographyMat(matched, matrix)
        both = zip(turns, shifts, strict=True)
        plane = [motion(turn, shift) for turn, shift in both if np.linalg.norm(shift) > 1e-6]
    return general, plane


def points_from(view: View, poses: Motion, most_error: float = FIRM) -> Array:
    """(N, 3) points from the frames of `poses`; NaN where there is none that fits all of them."""
    frames = np.array(sorted(poses))
    path = RigidTransform.concatenate([poses[t] for t in frames])
    some = replace(at_frames(view, frames), path=path)
    fit = triangulate(some)
    ahead = (np.where(some.visible, some.local(fit.points)[..., 2], 1.0) > 0).all(0)
    span = np.ptp(some.path.translation, axis=0).max()
    distance = np.linalg.norm(fit.points - some.path.translation.mean(0), axis=-1)
    good = (some.visible.sum(0) >= 2) & (rms(fit.residual) < most_error) & ahead
    good &= (fit.spread < 0.2 * distance) & (distance < 200 * span)
    return np.where(good[:, None], fit.points, np.nan)


def at_frames(view: View, frames: Index) -> View:
    """The view of some frames."""
    return View(
        view.camera, view.path[frames], view.times[frames], view.xy[frames], view.visible[frames]
    )


def alike(one: RigidTransform, other: RigidTransform) -> bool:
    """Whether two motions turn alike and go the same way."""
    turn = (one.rotation.inv() * other.rotation).magnitude()
    lengths = np.linalg.norm(one.translation) * np.linalg.norm(other.translation)
    return bool(turn < ALIKE and one.translation @ other.translation > 0.98 * lengths)


def starts(view: View) -> list[tuple[Motion, Array]]:
    """Motions of two frames and their points (N, 3): of those that readings of a plane give, the
    one that most of the clip agrees with and the other one of its pair; and the best by the
    essential matrix."""
    general, planes = [], []
    for pair in _parallax_pairs(view):
        rated = []
        for motions in _two_views(view, *pair):
            points = [points_from(view, motion) for motion in motions]
            found = [(_support(view, p), m, p) for m, p in zip(motions, points, strict=True)]
            rated.append(sorted(found, key=lambda start: -start[0]))
        general += rated[0]
        planes.append(rated[1])
    best = max(planes, key=lambda found: found[0][0] if found else 0)[:2]
    best += sorted(general, key=lambda start: -start[0])[:1]
    best.sort(key=lambda start: -start[0])
    return [(motion, points) for _, motion, points in best]


def _support(view: View, points: Array, samples: int = 8) -> int:
    """Observations that agree with a pose in frames spread over the clip."""
    total = 0
    for t in np.unique(np.linspace(0, view.steps - 1, samples).astype(int)):
        who = usable(view, points, t)
        found = pnp(view.camera, points[who], view.xy[t, who], AGREE)
        total += 0 if found is None else int(found[1].sum())
    return total


def usable(view: View, points: Array, t: int) -> Index:
    return np.flatnonzero(view.visible[t] & np.isfinite(points[:, 0]))
