"""What an estimated trajectory is worth: inliers, deviations, and what could be read otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.joint import Problem, State, covariances, poses_in_camera
from ego_ops.geometry.observed import Estimate, Observed
from ego_ops.geometry.registration import LEAST
from ego_ops.geometry.residuals import Noise, misses
from ego_ops.geometry.view import Array

FLAGS = {
    "uncertain": "a pose is known to no better than 3 cm or 0.35 rad for a tenth of the clip",
}
AGREE = 3.0
"""Pixels of reprojection error up to which an observation agrees with a motion."""
ALIKE = 3.0
"""Factor on standard deviations: a track errs alike in neighbouring frames, so that nine
observations are worth one."""


def assessed(
    observed: Observed,
    rescaled: float,
    problem: Problem,
    found: State,
    points: Array,
    background: Array,
) -> Estimate:
    """Put a solution together with what it is worth.

    Args:
        rescaled: from the depth as it was given to that of `problem`.
        problem, found: the tracks that took part, and the solution.
        points, background: (N, 3) and (M, 3) of all tracks, in the first camera frame.
    """
    to_camera, to_object = poses_in_camera(found)
    to_first = to_camera[0]  # a recorded path may have been mended in its first frame too
    error = misses(observed.camera, to_object, points, observed.object)
    missed = misses(observed.camera, to_camera, background, observed.background)
    inliers, still = (np.nan_to_num(e, nan=np.inf) < AGREE for e in (error, missed))
    factor = ALIKE * max(1.0, _noise(error[inliers]) / problem.noise.pixel)
    rough = Noise(problem.noise.pixel * factor, problem.noise.depth * factor)
    spread = covariances(replace(problem, noise=rough), found, dense=len(problem.times) <= 64)
    turn, shift = (
        np.sqrt(np.maximum(np.linalg.eigvalsh(spread[:, part, part])[:, -1], 0))
        for part in (slice(0, 3), slice(3, 6))
    )
    middle = np.nanmedian(np.where(inliers.any(0)[:, None], points, np.nan), axis=0)
    begun = to_first * found.motion[0]
    origin = RigidTransform.from_translation(begun.apply(middle))
    along = to_first * found.motion * begun.inv()  # displacements since the first frame
    return Estimate(
        object=along * origin,
        camera=to_first * found.camera,
        points=_moved(origin.inv() * begun, points),
        background=_moved(to_first, background),
        depth_scale=rescaled * np.exp(found.log_scale),
        inliers=inliers,
        background_inliers=still,
        reprojection=error,
        position_sd=shift,
        rotation_sd=turn,
        confidence=1 / (1 + (shift / 0.01) ** 2 + (turn / 0.1) ** 2),
        observed=inliers.sum(1) >= LEAST,
        flags=frozenset(),
    )


def _noise(error: Array) -> float:
    """Pixels, one axis, of reprojection errors (n,)."""
    return float(np.median(error)) / 1.1774 if len(error) else np.inf


def _moved(pose: RigidTransform, points: Array) -> Array:
    return points @ pose.rotation.as_matrix().T + pose.translation
