"""Least squares over a whole clip: the displacements of one rigid thing, smooth in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry.view import (
    Array,
    Mask,
    View,
    huber_weight,
    pixels,
    projection_jacobian,
)

_TURN, _SHIFT = slice(0, 3), slice(3, 6)


@dataclass(frozen=True)
class MotionPrior:
    """How hands move things; each is a standard deviation, and weak against a few pixels."""

    acceleration: float = 8.0
    """m/s2."""
    turn_acceleration: float = 60.0
    """rad/s2."""
    rest_speed: float = 0.02
    """m/s below which a thing counts as at rest. The penalty on speed is a logarithm (Cauchy's
    loss) of this width: things lie still unless a hand moves them, and then move freely."""
    rest_turn: float = 0.1
    """rad/s."""
    still_position: float = 0.0005
    """m, of a frame before the thing is touched."""
    still_rotation: float = 0.003
    """rad."""


PRIOR = MotionPrior()


def refine(
    view: View,
    motion: RigidTransform,
    points: Array,
    still: Mask,
    prior: MotionPrior = PRIOR,
    iterations: int = 10,
) -> RigidTransform:
    """Least squares over all T displacements: Huber reprojection error, smooth in time.

    Gauss-Newton on the 6 T unknowns; only neighbours in time are coupled, so the normal equations
    are banded and the cost is linear in T.

    Args:
        view: tracks on the thing.
        motion: T displacements to start from.
        points: (N, 3) where its points lay before it was touched.
        still: (T,) frames in which it is known not to have moved.
    """
    for _ in range(iterations):
        blocks, right, centre = _system(view, motion, points, still, prior)
        step = solveh_banded(_banded(blocks), right.ravel(), lower=True).reshape(-1, 6)
        turn = Rotation.from_rotvec(step[:, _TURN])
        moved = centre + step[:, _SHIFT] - turn.apply(centre)
        motion = RigidTransform.from_components(moved, turn) * motion
        if np.abs(step).max() < 1e-5:
            break
    return motion


def deviations(
    view: View, motion: RigidTransform, points: Array, still: Mask, prior: MotionPrior = PRIOR
) -> tuple[Array, Array]:
    """Standard deviations (T,) of rotation (radians) and of position (metres) after `refine`.

    From the inverse of the normal equations, along the worst direction, for a noise of as many
    pixels as the observations show. What the points' own places are wrong by is not in it.
    """
    blocks, _, _ = _system(view, motion, points, still, prior)
    steps = view.steps
    inverse = solveh_banded(_banded(blocks), np.eye(6 * steps), lower=True)
    diagonal = inverse.reshape(steps, 6, steps, 6)[np.arange(steps), :, np.arange(steps), :]
    error = view.from_object(motion).error(points)
    noise = np.sqrt(np.nanmean(error**2) / 2) if view.visible.any() else 1.0
    turn, shift = (np.linalg.eigvalsh(diagonal[:, part, part])[:, -1] for part in (_TURN, _SHIFT))
    return noise * np.sqrt(turn), noise * np.sqrt(shift)


def _system(
    view: View, motion: RigidTransform, points: Array, still: Mask, prior: MotionPrior
) -> tuple[Array, Array, Array]:
    """Normal blocks (T, 3, 6, 6), right sides (T, 6), and the thing's middle over time (T, 3).

    blocks[t, o] couples frame t + o with frame t. A frame's unknowns are a small rotation about
    the middle and a small shift of it, in the world.
    """
    middle = points.mean(0)
    centre = motion.apply(middle)
    blocks, right = _observations(view, motion, points, centre)
    _add_stillness(blocks, right, motion, middle, still, prior)
    _add_smoothness(blocks, right, motion, centre, view.times, prior)
    return blocks, right, centre


def _observations(
    view: View, motion: RigidTransform, points: Array, centre: Array
) -> tuple[Array, Array]:
    rotation = view.path.rotation.as_matrix()
    world = np.einsum("tij,nj->tni", motion.rotation.as_matrix(), points)
    world += motion.translation[:, None]
    local = np.einsum("tji,tnj->tni", rotation, world - view.path.translation[:, None])
    error = np.nan_to_num(view.xy) - pixels(view.camera, local)
    error = np.where(view.visible[..., None], error, 0.0)
    size = np.linalg.norm(error, axis=-1)
    # Far beyond what its neighbours show, an observation is a lost track and gets no say at all.
    lost = size > np.maximum(10.0, 3 * _median(size, view.visible))
    weight = huber_weight(size, 1.5) * view.visible * ~lost
    by_point = np.einsum(
        "tnij,tkj->tnik", projection_jacobian(view.camera, local), rotation, optimize=True
    )
    by_turn = np.cross((world - centre[:, None])[:, :, None, :], by_point)
    jacobian = np.concatenate((by_turn, by_point), -1)
    weighted = jacobian * weight[..., None, None]
    blocks = np.zeros((view.steps, 3, 6, 6))
    blocks[:, 0] = np.einsum("tnij,tnik->tjk", weighted, jacobian, optimize=True)
    return blocks, np.einsum("tnij,tni->tj", weighted, error, optimize=True)


def _median(size: Array, visible: Mask) -> Array:
    """(T, 1) median over the visible tracks, 0 where there are none."""
    return np.ma.median(np.ma.masked_array(size, ~visible), axis=1).filled(0.0)[:, None]


def _add_stillness(
    blocks: Array,
    right: Array,
    motion: RigidTransform,
    middle: Array,
    still: Mask,
    prior: MotionPrior,
) -> None:
    weight = np.repeat([prior.still_rotation**-2.0, prior.still_position**-2.0], 3)
    error = np.concatenate((motion.rotation.as_rotvec(), motion.apply(middle) - middle), -1)
    blocks[still, 0] += np.diag(weight)
    right[still] -= weight * error[still]
    # What neither is seen nor known to be still must not make the system singular.
    blocks[:, 0] += 1e-3 * np.eye(6)


def _add_smoothness(
    blocks: Array,
    right: Array,
    motion: RigidTransform,
    centre: Array,
    times: Array,
    prior: MotionPrior,
) -> None:
    """Penalise velocity and acceleration of the middle and of the orientation."""
    gap = np.diff(times)[:, None]
    turn = (motion.rotation[1:] * motion.rotation[:-1].inv()).as_rotvec()
    velocity = np.concatenate((turn, np.diff(centre, axis=0)), -1) / gap
    turning = prior.rest_turn**2 + (velocity[:, _TURN] ** 2).sum(-1)
    moving = prior.rest_speed**2 + (velocity[:, _SHIFT] ** 2).sum(-1)
    weights = np.repeat(np.stack((1 / turning, 1 / moving), -1), 3, axis=-1)
    _add_rows(blocks, right, np.array([-1.0, 1.0]) / gap, velocity, weights)
    middle = (gap[1:] + gap[:-1]) / 2
    change = np.diff(velocity, axis=0) / middle
    before, after = 1 / gap[:-1], 1 / gap[1:]
    rows = np.concatenate((before, -before - after, after), -1) / middle
    weight = np.repeat([prior.turn_acceleration**-2.0, prior.acceleration**-2.0], 3)
    _add_rows(blocks, right, rows, change, np.broadcast_to(weight, change.shape))


def _add_rows(blocks: Array, right: Array, rows: Array, error: Array, weight: Array) -> None:
    """Add residuals (n, 6) that are linear, by rows (n, k), in the steps of k frames in a row."""
    count, width = rows.shape
    for i in range(width):
        right[i : i + count] -= rows[:, i, None] * weight * error
        for j in range(i + 1):
            square = (rows[:, i] * rows[:, j])[:, None] * weight
            blocks[j : j + count, i - j] += square[:, :, None] * np.eye(6)


def _banded(blocks: Array) -> Array:
    """(18, 6 T) lower banded form of the normal blocks."""
    steps = len(blocks)
    banded = np.zeros((18, 6 * steps))
    for offset in range(min(3, steps)):
        last = steps - offset
        for i in range(6):
            for j in range(6):
                if (below := 6 * offset + i - j) >= 0:
                    banded[below, j : 6 * last : 6] = blocks[:last, offset, i, j]
    return banded
