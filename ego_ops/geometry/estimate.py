"""From tracks and their depth to the object's trajectory: the geometry of one clip, whole.

1. Ego-motion: each frame posed against background points placed by depth, or the recorded path.
2. The object likewise, in the camera frame.
3. One least squares over all frames, points and depth scales (`joint`), a coarse and a fine one.
4. Where too few tracks show the object, its clouds (`bridge`).
5. What it is worth: inliers, covariance, ambiguities (`confidence`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import PosePath
from ego_ops.errors import Rejection
from ego_ops.geometry import confidence
from ego_ops.geometry.bridge import with_clouds
from ego_ops.geometry.checked import check_arrays, check_spread
from ego_ops.geometry.ego_motion import registered
from ego_ops.geometry.joint import Problem, State, adjust, follow, poses_in_camera, reposed, settle
from ego_ops.geometry.joint_prior import Priors
from ego_ops.geometry.normal import Seen
from ego_ops.geometry.observed import Estimate, Observed, TrackedPoints
from ego_ops.geometry.registration import LEAST, place, register, triangulated
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Index, Mask, rms

MOST_FRAMES = 60
"""Frames up to which all take part in one adjustment; of more, as many keyframes do."""
NEAR, NEARER = 8.0, 3.5
"""Pixels up to which a track agrees with the first poses, and with those of the coarse round."""
ROUNDS, SETTLED = 3, 0.1
"""Coarse rounds at most; one that turns no pose by so many radians is the last."""
STEADY = 0.7
"""Share of its frames in which a background track must agree; the others are on moving things."""
COARSE_FRAMES = 26
"""Frames that the coarse adjustment takes."""
MOST_OBJECT, MOST_BACKGROUND = 130, 100
"""Tracks that take part in it, those seen longest; all are placed afterwards."""


@dataclass(frozen=True)
class Part:
    """The tracks that take part in the adjustment."""

    object: Index
    background: Index


def estimate(observed: Observed) -> Estimate:
    """The object's trajectory.

    Raises:
        Rejection: there is too little to tell it from (`too_few_tracks`, `collinear_points`,
            `lost_background`).
        ValueError: the arrays do not fit together, or what must be finite is not.
    """
    check_arrays(observed)
    observed = _rescaled(observed, 1.0)
    path, factor = None, 1.0
    if observed.path is not None:
        path = observed.path[0].inv() * observed.path
        factor = _scale_by(path, observed)
        observed = _rescaled(observed, factor)
    problem, begun = _begun(observed, path)
    rough = begun
    for _ in range(ROUNDS):
        before, rough = rough, _roughly(observed, problem, rough)
        if _largest_turn(before, rough) < SETTLED:
            break
    part = _agreeing(observed, rough, NEARER)
    few = _only(problem, part)
    found = _finely(few, _of(rough, part))
    local = poses_in_camera(found)[1].apply(np.median(found.points, axis=0))
    check_spread(observed.camera, found.points, float(np.median(local[:, 2])))
    few, found = with_clouds(observed, few, found)
    points, background = _everywhere(observed, problem, rough, found, part)
    return confidence.assessed(observed, factor, few, found, part.object, points, background)


def _begun(observed: Observed, path: RigidTransform | None) -> tuple[Problem, State]:
    """The problem, and a state near enough to its solution to begin with."""
    camera, times = observed.camera, observed.times
    camera_path, background = _ego_motion(observed, path)
    moving = register(camera, observed.object, times)
    if moving is None:
        raise Rejection(
            "too_few_tracks", f"no frame shows {LEAST} tracked points of the object with depth"
        )
    start = camera_path[moving.first]
    state = State(
        camera_path,
        camera_path * moving.poses * start.inv(),
        start.apply(moving.points),
        background,
        np.zeros(len(times)),
    )
    thing, still = (
        Seen.of(one.xy, one.visible, one.depth) for one in (observed.object, observed.background)
    )
    return Problem(camera, times, thing, still, moving.first, path, Priors()), state


def _ego_motion(observed: Observed, path: RigidTransform | None) -> tuple[RigidTransform, Array]:
    """T poses T_first_camera, and the background's points (M, 3) in the first camera frame."""
    camera, times, tracks = observed.camera, observed.times, observed.background
    if path is not None:
        return path, place(camera, tracks, path.inv())
    ego = registered(camera, tracks, times)
    world = ego.poses.inv()
    first = world[0].inv()
    return first * world, first.apply(ego.points)


def _roughly(observed: Observed, problem: Problem, begun: State) -> State:
    """An adjustment of some frames and tracks; all frames are posed, all tracks placed by it."""
    part = _agreeing(observed, begun, NEAR)
    few = _only(problem, part)
    state = settle(few, _of(begun, part))
    frames = few.spread(COARSE_FRAMES)
    firm = adjust(few.frames(frames), state.frames(frames), iterations=5)
    state = reposed(few, _carried_over(problem.times, frames, state, firm))
    points, background = _everywhere(observed, problem, begun, state, part)
    return replace(state, points=points, background=background)


def _largest_turn(before: State, after: State) -> float:
    """Radians by which the object's orientation changed in the frame where it did most."""
    turn = (after.motion.rotation * before.motion.rotation.inv()).magnitude()
    return float(turn.max())


def _finely(problem: Problem, state: State) -> State:
    """An adjustment of all frames; of many, that of keyframes, which the others follow."""
    if len(problem.times) <= MOST_FRAMES:
        return adjust(problem, state)
    keys = problem.spread(MOST_FRAMES)
    firm = adjust(problem.frames(keys), state.frames(keys))
    return settle(problem, follow(problem, _carried_over(problem.times, keys, state, firm)))


def _agreeing(observed: Observed, state: State, near: float) -> Part:
    """The tracks that agree with a state to `near` pixels in most frames.

    Raises:
        Rejection: they are too few (`too_few_tracks`).
    """
    seen = observed.view(observed.object, state.camera).from_object(state.motion)
    thing = seen.error(state.points) < near
    still = observed.view(observed.background, state.camera).error(state.background) < near
    steady = still.sum(0) >= STEADY * observed.background.visible.sum(0)
    part = Part(_chosen(thing, MOST_OBJECT), _chosen(still & steady, MOST_BACKGROUND))
    if min(len(part.object), len(part.background)) < LEAST:
        raise Rejection(
            "too_few_tracks",
            f"{len(part.object)} tracks of the object and {len(part.background)} of the background "
            f"agree with one motion each, {LEAST} of both are needed",
        )
    return part


def _carried_over(times: Array, keys: Index, before: State, after: State) -> State:
    """The points of some frames' adjustment, and all frames' poses, corrected as those were."""

    def between(poses: RigidTransform) -> RigidTransform:
        return PosePath(times[keys], poses).held(times)

    camera = before.camera * between(before.camera[keys].inv() * after.camera)
    local, firm = (state.camera.inv() * state.motion for state in (before, after))
    local = between(firm * local[keys].inv()) * local
    scale = np.interp(times, times[keys], after.log_scale)
    return State(camera, camera * local, after.points, after.background, scale)


def _everywhere(
    observed: Observed, problem: Problem, before: State, found: State, part: Part
) -> tuple[Array, Array]:
    """Points (N, 3) and (M, 3) of all tracks that can be placed, NaN for the others.

    Args:
        before: with places of all tracks, not as good.
        found: with those of `part`.
    """
    points, background = before.points.copy(), before.background.copy()
    points[part.object], background[part.background] = found.points, found.background
    camera = observed.camera
    points = triangulated(camera, observed.object, found.motion.inv() * found.camera, points)
    background = triangulated(camera, observed.background, found.camera, background)
    every = Part(
        np.flatnonzero(np.isfinite(points[:, 0])), np.flatnonzero(np.isfinite(background[:, 0]))
    )
    whole = replace(found, points=points[every.object], background=background[every.background])
    settled = settle(_only(problem, every), whole, iterations=2)
    points[every.object], background[every.background] = settled.points, settled.background
    points[part.object], background[part.background] = found.points, found.background
    return points, background


def _only(problem: Problem, part: Part) -> Problem:
    return replace(
        problem,
        object=problem.object.tracks(part.object),
        background=problem.background.tracks(part.background),
    )


def _of(state: State, part: Part) -> State:
    return replace(
        state, points=state.points[part.object], background=state.background[part.background]
    )


def _chosen(agree: Mask, most: int) -> Index:
    """Tracks that agree (T, N) with the motion in most frames; and for each frame, as far as there
    are as many, an eighth of them that agree in it."""
    count = agree.sum(0)
    order = np.argsort(-count, kind="stable")
    order = order[count[order] >= 3]
    taken = np.zeros(len(count), bool)
    taken[order[:most]] = True
    each = most // 8
    for t in np.flatnonzero((agree & taken).sum(1) < each):
        more = order[agree[t, order] & ~taken[order]]
        taken[more[: each - int((agree[t] & taken).sum())]] = True
    return np.flatnonzero(taken)


def _scale_by(path: RigidTransform, observed: Observed) -> float:
    """Factor from measured depth to the lengths of a recorded path; 1 where it cannot be told."""
    tracks = observed.background
    view = observed.view(tracks, path)
    fit = triangulate(view)
    depth = view.local(np.nan_to_num(fit.points))[..., 2]
    sure = (rms(fit.residual) < 3.0) & (fit.spread < 0.05 * np.abs(depth).mean(0))
    ratio = np.where(tracks.visible & sure, depth / tracks.depth, np.nan)
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.median(ratio)) if len(ratio) >= LEAST else 1.0


def _rescaled(observed: Observed, factor: float) -> Observed:
    """With all depths times `factor`, and NaN for those that lie behind the camera."""

    def scaled(tracks: TrackedPoints) -> TrackedPoints:
        return replace(tracks, depth=np.where(tracks.depth > 0, tracks.depth * factor, np.nan))

    clouds = observed.clouds
    return replace(
        observed,
        object=scaled(observed.object),
        background=scaled(observed.background),
        clouds=None if clouds is None else [cloud * factor for cloud in clouds],
    )
