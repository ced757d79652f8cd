"""Structure and motion of one camera from tracks alone, up to scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.bundle import adjust
from ego_ops.geometry.object_motion import at_all_frames, pnp
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Index, Mask, View, rms

AGREE = 3.0
"""Pixels of reprojection error up to which an observation agrees with the path."""
FIRM = 2.0
"""RMS error in pixels up to which a whole track counts as a still point."""
LEAST = 8
"""Points that must agree on a camera pose."""
MOST = 250
"""Points that take part in the adjustment, those seen longest, and besides"""
EACH = 30
"""as many of every frame."""
MEDIAN_LENGTH = 1.1774
"""Median length of a vector of two normal variables of unit deviation."""
LEAST_PARALLAX = 3.0
"""Median pixels between two frames that no rotation explains, below which nothing can be told."""


@dataclass(frozen=True)
class RelativePath:
    """A camera's path in the frame of its first pose, in units of the scene's median depth."""

    path: RigidTransform
    """T poses T_first_camera."""
    points: Array
    """(N, 3) still points in the first camera's frame, NaN for tracks that are none."""
    inliers: Mask
    """(T, N) observations of still points that agree with the path."""
    information: Array
    """(6 T, 6 T) inverse covariance of the poses, as `bundle.moved` takes their steps, for the
    noise that the tracks show. It leaves the scale free; the first pose is fixed."""
    noise: float
    """Pixels: robust standard deviation of the reprojection error, one axis."""


def relative_path(camera: Camera, xy: Array, visible: Mask, times: Array) -> RelativePath:
    """Two views with parallax, points from these, all other frames from the points, and one bundle
    adjustment of all (Hartley and Zisserman 2004; five-point method of Nister 2004 by RANSAC).

    Several pairs of frames are tried, and what explains most of all frames is believed, which
    settles what one pair cannot: the two readings of a plane, and which of two motions is the
    camera's.

    Args:
        xy, visible: (T, N, 2) and (T, N) tracks over the whole picture, outliers among them.
        times: (T,) seconds.

    Raises:
        Rejection: the camera's place changed too little (`too_little_parallax`), or no path
            explains the tracks (`lost_background`).
    """
    view = View(camera, RigidTransform.identity(len(times)), times, xy, visible)
    pairs = _pairs(view)
    starts = [_points_from(view, poses) for pair in pairs for poses in _two_views(view, *pair)]
    if not starts:
        raise Rejection("lost_background", "no two frames are related by one camera motion")
    found = _grown(view, max(starts, key=lambda points: _support(view, points)))
    view = _in_units(replace(view, path=at_all_frames(found, times)), found)
    return _adjusted(view, found)


def _pairs(view: View, samples: int = 10, most: int = 4) -> list[tuple[int, int]]:
    """Pairs of frames with the most parallax, best first."""
    frames = np.unique(np.linspace(0, view.steps - 1, samples).astype(int))
    rays = view.camera.rays(np.nan_to_num(view.xy[frames]))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    seen = view.visible[frames]
    found = []
    for a in range(len(frames)):
        for b in range(a + 1, len(frames)):
            both = np.flatnonzero(seen[a] & seen[b])
            if len(both) >= 3 * LEAST:
                gap = _beyond_rotation(rays[a, both], rays[b, both]) * view.camera.fx
                # Of equal parallax, the pair that shares more points is worth more.
                value = gap * min(1.0, len(both) / 60)
                found.append((value, gap, frames[a], frames[b]))
    if not found:
        raise Rejection("lost_background", f"no two frames share {3 * LEAST} tracks")
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


def _two_views(view: View, first: int, second: int) -> list[dict[int, RigidTransform]]:
    """Poses T_world_camera of two frames, the first at identity and a unit apart: one by the
    essential matrix, and those by a homography where the scene is nearly a plane."""
    who = np.flatnonzero(view.visible[first] & view.visible[second])
    one, other = (np.ascontiguousarray(view.xy[t, who], float) for t in (first, second))
    matrix = view.camera.matrix
    motions = []
    essential, _ = cv2.findEssentialMat(one, other, matrix, cv2.USAC_ACCURATE, 0.9999, 1.0)
    if essential is not None and essential.shape == (3, 3):
        _, turn, shift, _ = cv2.recoverPose(essential, one, other, matrix)
        motions.append((turn, shift))
    plane, fits = cv2.findHomography(one, other, cv2.USAC_ACCURATE, 2.0, None, 2000, 0.999)
    if plane is not None and fits.mean() > 0.5:
        _, turns, shifts, _ = cv2.decomposeHomographyMat(plane, matrix)
        motions += [(a, b) for a, b in zip(turns, shifts, strict=True) if np.linalg.norm(b) > 1e-6]
    return [
        {
            first: RigidTransform.identity(),
            second: RigidTransform.from_components(
                shift[:, 0] / np.linalg.norm(shift), Rotation.from_matrix(turn)
            ).inv(),
        }
        for turn, shift in motions
    ]


def _points_from(view: View, poses: dict[int, RigidTransform], most_error: float = FIRM) -> Array:
    """(N, 3) points from the frames of `poses`; NaN where there is none that fits all of them."""
    frames = np.array(sorted(poses))
    some = replace(
        view,
        path=RigidTransform.concatenate([poses[t] for t in frames]),
        times=view.times[frames],
        xy=view.xy[frames],
        visible=view.visible[frames],
    )
    fit = triangulate(some)
    ahead = (np.where(some.visible, some.local(fit.points)[..., 2], 1.0) > 0).all(0)
    span = np.ptp(some.path.translation, axis=0).max()
    distance = np.linalg.norm(fit.points - some.path.translation.mean(0), axis=-1)
    good = (some.visible.sum(0) >= 2) & (rms(fit.residual) < most_error) & ahead
    good &= (fit.spread < 0.2 * distance) & (distance < 200 * span)
    return np.where(good[:, None], fit.points, np.nan)


def _support(view: View, points: Array, samples: int = 8) -> int:
    """Observations that agree with a pose in frames spread over the clip."""
    total = 0
    for t in np.unique(np.linspace(0, view.steps - 1, samples).astype(int)):
        who = _usable(view, points, t)
        found = pnp(view.camera, points[who], view.xy[t, who], AGREE)
        total += 0 if found is None else int(found[1].sum())
    return total


def _usable(view: View, points: Array, t: int) -> Index:
    return np.flatnonzero(view.visible[t] & np.isfinite(points[:, 0]))


def _grown(view: View, points: Array, rounds: int = 8) -> dict[int, RigidTransform]:
    """Poses T_world_camera by frame, of those that see enough points: the points of a pair of
    frames first, then in each round those of all frames posed so far."""
    found: dict[int, RigidTransform] = {}
    for _ in range(rounds):
        fresh: dict[int, RigidTransform] = {}
        for t in range(view.steps):
            who = _usable(view, points, t)
            pose = pnp(view.camera, points[who], view.xy[t, who], AGREE)
            if pose is not None and pose[1].sum() >= max(LEAST, 0.3 * len(who)):
                fresh[t] = pose[0].inv()
        if len(fresh) <= len(found):
            break
        found = fresh
        if len(found) == view.steps:
            break
        points = _points_from(view, found)
    gaps = np.diff(view.times[sorted({0, *found, view.steps - 1})])
    if len(found) < 4 or gaps.max() > 1.0:
        raise Rejection(
            "lost_background",
            f"{len(found)} of {view.steps} frames see {LEAST} still points that agree on a pose",
        )
    return found


def _in_units(view: View, found: dict[int, RigidTransform]) -> View:
    """The view in the frame of its first camera, scaled so that points are about 1 away."""
    path = view.path[0].inv() * view.path
    points = _points_from(view, {t: path[t] for t in found})
    known = np.isfinite(points[:, 0])
    if not known.any():
        raise Rejection("lost_background", "no track stands still along one camera path")
    depth = np.median(replace(view, path=path).local(points[known])[..., 2])
    path = RigidTransform.from_components(path.translation / depth, path.rotation)
    return replace(view, path=path)


def _adjusted(view: View, found: dict[int, RigidTransform], rounds: int = 3) -> RelativePath:
    """Bundle adjustment, with inliers chosen anew before each round."""
    posed = np.isin(np.arange(view.steps), list(found))[:, None]
    points = _points_from(view, {t: view.path[t] for t in found}, 1.5 * FIRM)
    for turn in range(rounds):
        agree = posed & _agreeing(view, points, AGREE if turn else 2 * AGREE)
        kept = _kept(view, posed, agree)
        used = view.select(kept).where(agree[:, kept])
        done = adjust(used, points[kept], 10 if turn == rounds - 1 else 4)
        view = replace(view, path=done.path)
        posed = np.ones_like(posed)
        points = _points_from(view, dict(enumerate(done.path)))
        points[kept] = done.points
    error = replace(used, path=done.path).error(done.points)
    noise = float(np.nanmedian(error)) / MEDIAN_LENGTH
    inliers = _agreeing(view, points, AGREE)
    return RelativePath(done.path, points, inliers, done.information / noise**2, noise)


def _agreeing(view: View, points: Array, bound: float) -> Mask:
    """(T, N) observations within `bound` pixels of where their points are seen."""
    return np.asarray(np.nan_to_num(view.error(points), nan=np.inf) < bound)


def _kept(view: View, posed: Mask, agree: Mask) -> Index:
    """Tracks that agree wherever they are seen: the longest, and the longest of each frame."""
    seen = np.maximum((view.visible & posed).sum(0), 1)
    length = np.where(agree.sum(0) > 0.7 * seen, agree.sum(0), 0)
    order = np.argsort(-length, kind="stable")
    order = order[length[order] >= 4]
    kept = set(order[:MOST].tolist())
    for t in range(view.steps):
        kept.update(order[agree[t, order]][:EACH].tolist())
    if len(kept) < 2 * LEAST:
        detail = f"{len(kept)} tracks stand still along one camera path, {2 * LEAST} are needed"
        raise Rejection("lost_background", detail)
    return np.array(sorted(kept))
