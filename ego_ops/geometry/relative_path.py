"""Structure and motion of one camera from tracks alone, up to scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.bundle import adjust
from ego_ops.geometry.object_motion import at_all_frames, pnp
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.two_views import (
    AGREE,
    FIRM,
    Motion,
    alike,
    at_frames,
    points_from,
    starts,
    usable,
)
from ego_ops.geometry.view import Array, Index, Mask, View

LEAST = 8
"""Points that must agree on a camera pose."""
MOST = 250
"""Points that take part in the adjustment, those seen longest, and besides"""
EACH = 30
"""as many of every frame."""
MEDIAN_LENGTH = 1.1774
"""Median length of a vector of two normal variables of unit deviation."""
KEYFRAMES, RATE = 12, 5.0
"""Frames of a draft at least, and as many a second."""
UNLIKE = np.radians(2.0)
"""Rotation by which two paths differ so much that one must be chosen,"""
EVIDENCE = 3.0
"""for which tracks must prefer it by as many standard deviations."""


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

    Several pairs of frames are tried. What they leave open, the two readings of a plane and which
    of two motions is the camera's, is settled by drafts: each reading is carried through a few
    frames and adjusted, and the one that fits best is believed. Before adjustment the wrong reading
    of a plane may well have as many points that agree to a few pixels.

    Args:
        xy, visible: (T, N, 2) and (T, N) tracks over the whole picture, outliers among them.
        times: (T,) seconds.

    Raises:
        Rejection: the camera's place changed too little (`too_little_parallax`), no path explains
            the tracks (`lost_background`), or two that differ explain them equally well, as where
            a camera moves straight over a plane (`ambiguous_path`).
    """
    view = View(camera, RigidTransform.identity(len(times)), times, xy, visible)
    begun = starts(view)
    if not begun:
        raise Rejection("lost_background", "no two frames are related by one camera motion")
    return _carried(view, _best(_drafts(view, begun)))


@dataclass(frozen=True)
class _Draft:
    """A path through some frames, all that is needed to choose between several."""

    path: RigidTransform
    points: Array
    """(N, 3) of the two views it began with, NaN where there is none."""
    cost: Array
    """(n,) square pixels of each track followed, those of an observation bounded."""


def _drafts(view: View, begun: list[tuple[Motion, Array]]) -> list[_Draft]:
    """The starts carried through a few frames and adjusted; those left out that tell nothing new.

    Raises:
        Rejection: no start can be carried on.
    """
    count = max(KEYFRAMES, int(RATE * (view.times[-1] - view.times[0])))
    spread = np.linspace(0, view.steps - 1, count).astype(int)
    frames = np.unique([*spread, *(t for motion, _ in begun for t in motion)])
    view = at_frames(view, frames)
    long = view.visible.sum(0) >= 4
    view = view.select(long)
    drafts: list[_Draft] = []
    failed = []
    for motion, points in begun:
        (first, second), (one, other) = np.searchsorted(frames, list(motion)), motion.values()
        between = [draft.path[first].inv() * draft.path[second] for draft in drafts]
        if any(alike(told, one.inv() * other) for told in between):
            continue
        try:
            found = _carried(view, points[long], 2)
        except Rejection as error:
            failed.append(error)
            continue
        moved = replace(view, path=found.path)
        # Without regard to how well the points are known: all tracks count alike in every draft.
        missed = moved.error(triangulate(moved).points)
        cost = np.nansum(np.minimum(missed, AGREE) ** 2, 0)
        drafts.append(_Draft(found.path, points, cost))
    if not drafts:
        raise failed[0]
    return drafts


def _best(drafts: list[_Draft]) -> Array:
    """Points (N, 3) of the reading that fits best; of drafts that read alike, of the first.

    Raises:
        Rejection: another reading fits as well.
    """
    best = min(drafts, key=lambda draft: draft.cost.sum())
    turns = [(best.path.rotation.inv() * each.path.rotation).magnitude().max() for each in drafts]
    for other, turn in zip(drafts, turns, strict=True):
        gain = other.cost - best.cost
        # Tracks are independent of each other, observations of one track are not.
        evidence = gain.sum() / max(np.sqrt((gain**2).sum()), 1e-12)
        if turn > UNLIKE and evidence < EVIDENCE:
            raise Rejection(
                "ambiguous_path",
                f"two camera paths that turn up to {np.degrees(turn):.0f} degrees differently "
                f"explain the tracks equally well ({evidence:.1f} standard deviations apart, "
                f"{EVIDENCE:g} are needed)",
            )
    return drafts[int(np.argmax(np.array(turns) <= UNLIKE))].points


def _carried(view: View, points: Array, rounds: int = 3) -> RelativePath:
    """The path through all frames from points (N, 3) that some of them see."""
    found = _grown(view, points)
    view = _in_units(replace(view, path=at_all_frames(found, view.times)), found)
    return _adjusted(view, found, rounds)


def _grown(view: View, points: Array, rounds: int = 8) -> Motion:
    """Poses T_world_camera by frame, of those that see enough points: the points of a pair of
    frames first, then in each round those of all frames posed so far."""
    found: Motion = {}
    for _ in range(rounds):
        fresh: Motion = {}
        for t in range(view.steps):
            who = usable(view, points, t)
            pose = pnp(view.camera, points[who], view.xy[t, who], AGREE)
            if pose is not None and pose[1].sum() >= max(LEAST, 0.3 * len(who)):
                fresh[t] = pose[0].inv()
        if len(fresh) <= len(found):
            break
        found = fresh
        if len(found) == view.steps:
            break
        points = points_from(view, found)
    gaps = np.diff(view.times[sorted({0, *found, view.steps - 1})])
    if len(found) < 4 or gaps.max() > 1.0:
        raise Rejection(
            "lost_background",
            f"{len(found)} of {view.steps} frames see {LEAST} still points that agree on a pose",
        )
    return found


def _in_units(view: View, found: Motion) -> View:
    """The view in the frame of its first camera, scaled so that points are about 1 away."""
    path = view.path[0].inv() * view.path
    points = points_from(view, {t: path[t] for t in found})
    known = np.isfinite(points[:, 0])
    if not known.any():
        raise Rejection("lost_background", "no track stands still along one camera path")
    depth = np.median(replace(view, path=path).local(points[known])[..., 2])
    path = RigidTransform.from_components(path.translation / depth, path.rotation)
    return replace(view, path=path)


def _adjusted(view: View, found: Motion, rounds: int = 3) -> RelativePath:
    """Bundle adjustment, with inliers chosen anew before each round."""
    posed = np.isin(np.arange(view.steps), list(found))[:, None]
    points = points_from(view, {t: view.path[t] for t in found}, 1.5 * FIRM)
    for turn in range(rounds):
        agree = posed & _agreeing(view, points, AGREE if turn else 2 * AGREE)
        kept = _kept(view, posed, agree)
        used = view.select(kept).where(agree[:, kept])
        done = adjust(used, points[kept], 10 if turn == rounds - 1 else 4)
        view = replace(view, path=done.path)
        posed = np.ones_like(posed)
        points = points_from(view, dict(enumerate(done.path)))
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
