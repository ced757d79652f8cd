"""What an estimated trajectory is worth: inliers, deviations, and what could be read otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.ambiguity import planar, reversal, symmetric
from ego_ops.geometry.joint import Problem, State, covariances
from ego_ops.geometry.observed import Estimate, Observed
from ego_ops.geometry.registration import LEAST
from ego_ops.geometry.residuals import Noise
from ego_ops.geometry.view import Array, Index, Mask

FLAGS = {
    "uncertain": "more than a tenth of the observed poses are known to no better than 1.5 cm or 8 "
    "degrees, or in a twentieth of the frames fewer than half of what is seen agrees with it, or a "
    "quarter of the frames stand on fewer than 7 points",
    "ambiguous": "the tracks fit nearly as well with depth and turning read in reverse",
    "planar": "the object's points lie in a plane",
    "symmetric": "the object's surface slips along itself about an axis: only its texture, as far "
    "as the tracks hold it, tells that rotation",
    "bridged": "more than half of the frames do not show the object",
}
"""What can be wrong with a clip as a whole, or must be known of it. `uncertain` and `ambiguous`
say that the trajectory should not be trusted."""
AGREE = 3.0
"""Pixels of reprojection error up to which an observation agrees with a motion."""
FIRM = 7
"""Points that must agree for a frame's pose to stand on its own: fewer fit many motions."""
ALIKE = 3.0
"""Factor on the tracks' noise: a track errs alike in neighbouring frames, so that nine
observations are worth one."""
POSITION, ROTATION = 0.015, np.radians(8.0)
"""Deviations above which a pose is called uncertain."""
REVERSED = 6.0
"""Squared deviations by which the reversed reading must fit the whole clip worse (`reversal`)."""
FRAMES = 31
"""Frames that the covariance is of; in between, deviations are interpolated."""


def assessed(
    observed: Observed,
    rescaled: float,
    problem: Problem,
    found: State,
    part: Index,
    points: Array,
    background: Array,
) -> Estimate:
    """Put a solution together with what it is worth.

    A pose's confidence is 1 / (1 + (sd / limit)^2 for position and rotation), times the share of
    its frame's observations that agree, and a tenth of that where the clip is ambiguous.

    Args:
        rescaled: from the depth as it was given to that of `problem`.
        problem, found: the tracks that took part, and the solution.
        part: (n,) which of the object's tracks those are.
        points, background: (N, 3) and (M, 3) of all tracks, in the first camera frame.
    """
    error = observed.view(observed.object, found.camera).from_object(found.motion).error(points)
    missed = observed.view(observed.background, found.camera).error(background)
    inliers, still = (np.nan_to_num(e, nan=np.inf) < AGREE for e in (error, missed))
    rough = max(1.0, _noise(error[inliers]) / problem.noise.pixel)
    # What does not agree must not make two parts of a clip look better joined than they are.
    firmly = replace(problem, object=problem.object.where(inliers[:, part].T))
    position_sd, rotation_sd = _deviations(firmly, found, rough)
    held = inliers.sum(1) >= LEAST
    seen = held.copy()
    if problem.measured is not None:
        seen |= np.isfinite(problem.measured.position_sd)
    flags = _flags(problem, found, rough, seen, position_sd, rotation_sd)
    agreeing = inliers.sum(1) / np.maximum(observed.object.visible.sum(1), 1)
    shown = observed.object.visible.sum(1) >= LEAST
    split = shown & (agreeing < 0.5)
    few = held & (inliers.sum(1) < FIRM)
    if split.sum() > 0.05 * shown.sum() or few.sum() > 0.25 * seen.sum():
        flags |= {"uncertain"}
    worth = 1 / (1 + (position_sd / POSITION) ** 2 + (rotation_sd / ROTATION) ** 2)
    worth = worth * np.where(shown, agreeing, 1.0) * (0.1 if "ambiguous" in flags else 1.0)
    to_first = found.camera[0].inv()  # a recorded path may have been mended in its first frame too
    begun = to_first * found.motion[0]
    firm = inliers.any(0) if inliers.any() else np.isfinite(points[:, 0])
    origin = RigidTransform.from_translation(begun.apply(np.nanmedian(points[firm], axis=0)))
    return Estimate(
        object=to_first * found.motion * begun.inv() * origin,
        camera=to_first * found.camera,
        points=(origin.inv() * begun).apply(points),
        background=to_first.apply(background),
        depth_scale=rescaled * np.exp(found.log_scale),
        inliers=inliers,
        background_inliers=still,
        reprojection=error,
        position_sd=position_sd,
        rotation_sd=rotation_sd,
        confidence=worth,
        observed=seen,
        flags=frozenset(flags),
    )


def _deviations(problem: Problem, found: State, rough: float) -> tuple[Array, Array]:
    """(T,) of position, metres, and of rotation, radians, each along its worst direction."""
    frames = problem.spread(FRAMES)
    # The frames between them, left out, are what errs alike: less is left to allow for.
    factor = rough * max(1.0, ALIKE / np.sqrt(len(problem.times) / len(frames)))
    noise = Noise(problem.noise.pixel * factor, problem.noise.depth * factor, problem.noise.width)
    some = replace(problem, noise=noise).frames(frames)
    spread = covariances(some, found.frames(frames))
    turn, shift = (
        np.sqrt(np.maximum(np.linalg.eigvalsh(spread[:, part, part])[:, -1], 0))
        for part in (slice(0, 3), slice(3, 6))
    )
    known = problem.times[frames]
    return np.interp(problem.times, known, shift), np.interp(problem.times, known, turn)


def _flags(
    problem: Problem,
    found: State,
    rough: float,
    seen: Mask,
    position_sd: Array,
    rotation_sd: Array,
) -> set[str]:
    flags = set()
    doubtful = (position_sd > POSITION) | (rotation_sd > ROTATION)
    if not seen.any() or doubtful[seen].mean() > 0.1:
        flags.add("uncertain")
    if seen.mean() < 0.5:
        flags.add("bridged")
    if planar(found.points):
        flags.add("planar")
    elif symmetric(found.points):
        flags.add("symmetric")
    worse = reversal(problem, found) * seen.sum() / (ALIKE * rough) ** 2
    if worse < REVERSED:
        flags.add("ambiguous")
    return flags


def _noise(error: Array) -> float:
    """Pixels, one axis, of reprojection errors (n,)."""
    return float(np.median(error)) / 1.1774 if len(error) else np.inf
