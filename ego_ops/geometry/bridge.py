"""Poses from the object's clouds where tracks are too few to hold them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.dense import LEAST, register_clouds
from ego_ops.geometry.joint import Problem, State, follow, poses_in_camera
from ego_ops.geometry.joint_prior import Measured
from ego_ops.geometry.observed import Observed


def with_clouds(observed: Observed, problem: Problem, state: State) -> tuple[Problem, State]:
    """The problem with what the clouds measure, and the state with the poses that follow from it.

    Both are as they were where there are no clouds, or none in a frame that needs one.

    Args:
        problem, state: solved from tracks.
    """
    if observed.clouds is None:
        return problem, state
    have = problem.shown
    large = np.array([len(cloud) >= LEAST for cloud in observed.clouds])
    if not (large & ~have).any() or not (large & have).any():
        return problem, state
    scale = np.exp(np.where(have, state.log_scale, np.median(state.log_scale[have])))
    clouds = [cloud * factor for cloud, factor in zip(observed.clouds, scale, strict=True)]
    # Registration wants the object's frame in its middle; that of the points is in the camera.
    middle = RigidTransform.from_translation(np.median(state.points, axis=0))
    found = register_clouds(clouds, poses_in_camera(state)[1] * middle, have, problem.times)
    if not found.measured.any():
        return problem, state
    measured = Measured(
        found.poses * middle.inv(),
        np.where(found.measured, found.position_sd, np.inf),
        np.where(found.measured, found.rotation_sd, np.inf),
    )
    problem = replace(problem, measured=measured)
    return problem, follow(problem, state)
