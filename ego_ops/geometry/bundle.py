"""Bundle adjustment of a camera's path and still points, with the points eliminated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.view import Array, View, huber_weight, pixels, projection_jacobian

ACCELERATION = 8.0
"""Standard deviation of a head's acceleration, scene depths per s2: weak against a pixel."""
TURN_ACCELERATION = 30.0
"""Of its angular acceleration, rad/s2."""
WIDTH = 1.5
"""Pixels from which on Huber's loss grows no faster than linearly."""


@dataclass(frozen=True)
class Adjusted:
    """A path and points after `adjust`."""

    path: RigidTransform
    """T poses T_world_camera."""
    points: Array
    """(N, 3) in the world."""
    information: Array
    """(6 T, 6 T) inverse covariance of the poses for a noise of one pixel, the points taken out.
    A pose's six are a rotation vector and a shift, both in the world: see `moved`."""


def moved(path: RigidTransform, steps: Array) -> RigidTransform:
    """T poses turned about their own place and shifted by `steps` (T, 6) in the world."""
    return RigidTransform.from_components(
        path.translation + steps[:, 3:], Rotation.from_rotvec(steps[:, :3]) * path.rotation
    )


def adjust(view: View, points: Array, iterations: int = 15, tolerance: float = 1e-4) -> Adjusted:
    """Least squares (Gauss-Newton, Huber's loss) over a path and points.

    The first pose stays where it is. Nothing in a picture tells the scale, so each point is tied
    to where it began by a standard deviation as long as its distance; that holds the scale and is
    far too weak to bend anything. Poses are tied by a weak prior on acceleration, in the units of
    the path, in which the scene should be about 1 away.

    Args:
        view: tracks with poses to start from; outliers left out.
        points: (N, 3) places to start from.
    """
    given, weight = points, _prior_weight(view, points)
    for _ in range(iterations):
        reduced, right, back = _normal(view, points, given, weight)
        steps = np.asarray(np.linalg.solve(reduced, right), float)
        moves = back(steps)
        points = points + moves
        steps = steps.reshape(-1, 6)
        view = replace(view, path=moved(view.path, steps))
        if np.abs(steps).max() < tolerance:
            break
    return Adjusted(view.path, points, _normal(view, points, given, weight)[0])


def _prior_weight(view: View, points: Array) -> Array:
    """(N,) inverse variances that tie the points to their places."""
    distance = np.linalg.norm(points - view.path.translation.mean(0), axis=-1)
    return np.maximum(distance, 1e-3) ** -2.0


def _normal(
    view: View, points: Array, given: Array, prior: Array
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """(6 T, 6 T) and (6 T,) normal equations of the poses, and what gives the points' moves (N, 3)
    from the poses' steps (6 T,). Schur complement, as in Triggs et al. 1999."""
    steps, count = view.steps, view.count
    by_pose, by_point, weight, error = _linearised(view, points)
    weighted = by_pose * weight[..., None, None]
    blocks = np.einsum("tnij,tnik->tjk", weighted, by_pose, optimize=True)
    right = np.einsum("tnij,tni->tj", weighted, error, optimize=True)
    whole = np.zeros((steps, 6, steps, 6))
    whole[np.arange(steps), :, np.arange(steps)] = blocks
    whole[0, :, 0] += 1e10 * np.eye(6)
    _add_smoothness(whole, right, view)
    full = whole.reshape(6 * steps, 6 * steps)
    right = right.ravel()
    coupling = np.einsum("tnij,tnik->tjnk", weighted, by_point, optimize=True)
    coupling = coupling.reshape(6 * steps, count, 3)
    weighted = by_point * weight[..., None, None]
    own = np.einsum("tnij,tnik->njk", weighted, by_point, optimize=True)
    inverse = np.asarray(np.linalg.inv(own + prior[:, None, None] * np.eye(3)), float)
    pull = np.einsum("tnij,tni->nj", weighted, error, optimize=True)
    pull -= prior[:, None] * (points - given)
    through = np.einsum("anj,njk->ank", coupling, inverse).reshape(-1, 3 * count)
    full -= through @ coupling.reshape(-1, 3 * count).T
    right = right - through @ pull.ravel()

    def back(found: Array) -> Array:
        rest = pull - np.tensordot(found, coupling, 1)
        return np.asarray(np.einsum("nij,nj->ni", inverse, rest), float)

    return full, right, back


def _linearised(view: View, points: Array) -> tuple[Array, Array, Array, Array]:
    """Jacobians by pose (T, N, 2, 6) and point (T, N, 2, 3), weights (T, N), errors (T, N, 2)."""
    local = view.local(points)
    error = np.nan_to_num(view.xy) - pixels(view.camera, local)
    error = np.where(view.visible[..., None], error, 0.0)
    weight = huber_weight(np.linalg.norm(error, axis=-1), WIDTH) * view.visible
    by_point = np.einsum(
        "tnij,tkj->tnik",
        projection_jacobian(view.camera, local),
        view.path.rotation.as_matrix(),
        optimize=True,
    )
    arm = points[None] - view.path.translation[:, None]
    by_turn = np.cross(by_point, arm[:, :, None, :])
    return np.concatenate((by_turn, -by_point), -1), by_point, weight, error


def _add_smoothness(full: Array, right: Array, view: View) -> None:
    """Penalise the acceleration of the camera and of its orientation."""
    gap = np.diff(view.times)
    rotation, centre = view.path.rotation, view.path.translation
    turn = (rotation[1:] * rotation[:-1].inv()).as_rotvec()
    velocity = np.concatenate((turn, np.diff(centre, axis=0)), -1) / gap[:, None]
    middle = (gap[1:] + gap[:-1]) / 2
    change = np.diff(velocity, axis=0) / middle[:, None]
    before, after = 1 / gap[:-1] / middle, 1 / gap[1:] / middle
    rows = np.stack((before, -before - after, after), -1)
    weight = np.repeat([TURN_ACCELERATION**-2.0, ACCELERATION**-2.0], 3)
    for t, row in enumerate(rows):
        square = np.outer(row, row)
        for axis in range(6):
            full[t : t + 3, axis, t : t + 3, axis] += weight[axis] * square
        right[t : t + 3] -= row[:, None] * (weight * change[t])
