"""Least squares over a whole clip: the motion and the points of one rigid thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.geometry import band
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
    place_sd: float | None = None,
    prior: MotionPrior = PRIOR,
    iterations: int = 10,
) -> tuple[RigidTransform, Array]:
    """Bundle adjustment of T displacements and N points: Huber reprojection error, smooth in time.

    Gauss-Newton; the points are eliminated (Schur complement), which leaves 6 T unknowns. Where a
    thing turns, all its frames together tell its shape far better than the frames before it moved,
    and those, taken together, tell its size.

    Args:
        view: tracks on the thing.
        motion: T displacements to start from.
        points: (N, 3) where its points lay before it was touched.
        still: (T,) frames in which it is known not to have moved.
        place_sd: metres by which each point may be wrong; None for points that stay as they are.

    Returns:
        T displacements and (N, 3) points.
    """
    given = points
    for _ in range(iterations):
        system = _system(view, motion, points, given, still, place_sd, prior)
        steps = np.asarray(np.linalg.solve(system.reduced, system.right), float).reshape(-1, 6)
        moves = system.moves(steps)
        points = points + moves
        turn = Rotation.from_rotvec(steps[:, _TURN])
        moved = system.centre + steps[:, _SHIFT] - turn.apply(system.centre)
        motion = RigidTransform.from_components(moved, turn) * motion
        if max(np.abs(steps).max(), np.abs(moves).max()) < 1e-4:
            break
    return motion, points


def deviations(
    view: View,
    motion: RigidTransform,
    points: Array,
    still: Mask,
    place_sd: float | None = None,
    prior: MotionPrior = PRIOR,
) -> tuple[Array, Array]:
    """Standard deviations (T,) of rotation (radians) and of position (metres) after `refine`.

    From the inverse of the normal equations, along the worst direction, for a noise of as many
    pixels as the observations show.
    """
    system = _system(view, motion, points, points, still, place_sd, prior)
    inverse = np.linalg.inv(system.reduced).reshape(view.steps, 6, view.steps, 6)
    diagonal = inverse[np.arange(view.steps), :, np.arange(view.steps), :]
    error = view.from_object(motion).error(points)
    noise = np.sqrt(np.nanmean(error**2) / 2) if view.visible.any() else 1.0
    turn, shift = (np.linalg.eigvalsh(diagonal[:, part, part])[:, -1] for part in (_TURN, _SHIFT))
    return noise * np.sqrt(np.maximum(turn, 0)), noise * np.sqrt(np.maximum(shift, 0))


@dataclass(frozen=True)
class _System:
    """Normal equations with the points eliminated."""

    reduced: Array
    """(6 T, 6 T)."""
    right: Array
    """(6 T,)."""
    centre: Array
    """(T, 3) the thing's middle: a frame's unknowns are a small rotation about it and a shift."""
    coupling: Array
    """(6 T, N, 3) of poses and points."""
    inverse: Array
    """(N, 3, 3) of the points' own blocks; zero for points that stay."""
    pull: Array
    """(N, 3) right side of the points."""

    def moves(self, steps: Array) -> Array:
        """(N, 3) the points' steps that go with the poses' (T, 6)."""
        rest = self.pull - np.tensordot(steps.ravel(), self.coupling, 1)
        return np.einsum("nij,nj->ni", self.inverse, rest)


def _system(
    view: View,
    motion: RigidTransform,
    points: Array,
    given: Array,
    still: Mask,
    place_sd: float | None,
    prior: MotionPrior,
) -> _System:
    middle = given.mean(0)
    centre = motion.apply(middle)
    by_pose, by_point, weight, error = _linearised(view, motion, points, centre)
    weighted = by_pose * weight[..., None, None]
    blocks = np.zeros((view.steps, 3, 6, 6))  # [t, o] couples frame t + o with frame t
    blocks[:, 0] = np.einsum("tnij,tnik->tjk", weighted, by_pose, optimize=True)
    right = np.einsum("tnij,tni->tj", weighted, error, optimize=True)
    _add_stillness(blocks, right, motion, middle, still, prior)
    add_smoothness(blocks, right, motion, centre, view.times, prior)
    full, right = band.full(blocks), right.ravel()
    count = len(points)
    if place_sd is None:
        empty = np.zeros((6 * view.steps, count, 3))
        return _System(full, right, centre, empty, np.zeros((count, 3, 3)), np.zeros((count, 3)))
    coupling = np.einsum("tnij,tnik->tjnk", weighted, by_point, optimize=True)
    coupling = coupling.reshape(6 * view.steps, count, 3)
    weighted = by_point * weight[..., None, None]
    own = np.einsum("tnij,tnik->njk", weighted, by_point, optimize=True)
    inverse = np.asarray(np.linalg.inv(own + place_sd**-2.0 * np.eye(3)), float)
    pull = np.einsum("tnij,tni->nj", weighted, error, optimize=True)
    pull -= place_sd**-2.0 * (points - given)
    through = np.einsum("anj,njk->ank", coupling, inverse)
    width = 3 * count
    full -= through.reshape(-1, width) @ coupling.reshape(-1, width).T
    right = right - through.reshape(-1, width) @ pull.ravel()
    return _System(full, right, centre, coupling, inverse, pull)


def _linearised(
    view: View, motion: RigidTransform, points: Array, centre: Array
) -> tuple[Array, Array, Array, Array]:
    """Jacobians by pose (T, N, 2, 6) and point (T, N, 2, 3), weights (T, N), errors (T, N, 2)."""
    rotation, turned = view.path.rotation.as_matrix(), motion.rotation.as_matrix()
    world = np.einsum("tij,nj->tni", turned, points) + motion.translation[:, None]
    local = np.einsum("tji,tnj->tni", rotation, world - view.path.translation[:, None])
    error = np.nan_to_num(view.xy) - pixels(view.camera, local)
    error = np.where(view.visible[..., None], error, 0.0)
    size = np.linalg.norm(error, axis=-1)
    # Far beyond what its neighbours show, an observation is a lost track and gets no say at all.
    lost = size > np.maximum(10.0, 3 * _median(size, view.visible))
    weight = huber_weight(size, 1.5) * view.visible * ~lost
    by_world = np.einsum(
        "tnij,tkj->tnik", projection_jacobian(view.camera, local), rotation, optimize=True
    )
    by_turn = np.cross((world - centre[:, None])[:, :, None, :], by_world)
    by_point = np.einsum("tnij,tjk->tnik", by_world, turned, optimize=True)
    return np.concatenate((by_turn, by_world), -1), by_point, weight, error


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


def add_smoothness(
    blocks: Array,
    right: Array,
    motion: RigidTransform,
    centre: Array,
    times: Array,
    prior: MotionPrior,
    seen: Mask | None = None,
) -> float:
    """Penalise velocity and acceleration of the middle and of the orientation.

    Args:
        blocks, right: (T, 3, 6, 6) and (T, 6) to add to: [t, o] couples frame t + o with frame t.
        motion: T displacements.
        centre: (T, 3) where they take the middle to.
        seen: (T,) frames that show the thing; where none does it is not held to rest.

    Returns:
        What the motion costs.
    """
    gap = np.diff(times)[:, None]
    turn = (motion.rotation[1:] * motion.rotation[:-1].inv()).as_rotvec()
    velocity = np.concatenate((turn, np.diff(centre, axis=0)), -1) / gap
    turning = prior.rest_turn**2 + (velocity[:, _TURN] ** 2).sum(-1)
    moving = prior.rest_speed**2 + (velocity[:, _SHIFT] ** 2).sum(-1)
    resting = np.ones(len(gap)) if seen is None else (seen[1:] & seen[:-1]).astype(float)
    weights = np.repeat(np.stack((resting / turning, resting / moving), -1), 3, axis=-1)
    _add_rows(blocks, right, np.array([-1.0, 1.0]) / gap, velocity, weights)
    middle = (gap[1:] + gap[:-1]) / 2
    change = np.diff(velocity, axis=0) / middle
    before, after = 1 / gap[:-1], 1 / gap[1:]
    rows = np.concatenate((before, -before - after, after), -1) / middle
    weight = np.repeat([prior.turn_acceleration**-2.0, prior.acceleration**-2.0], 3)
    _add_rows(blocks, right, rows, change, np.broadcast_to(weight, change.shape))
    speed = (velocity[:, _SHIFT] ** 2).sum(-1) / prior.rest_speed**2
    turning = (velocity[:, _TURN] ** 2).sum(-1) / prior.rest_turn**2
    rest = resting @ (np.log1p(speed) + np.log1p(turning))
    return float(rest + (weight * change**2).sum()) / 2


def _add_rows(blocks: Array, right: Array, rows: Array, error: Array, weight: Array) -> None:
    """Add residuals (n, 6) that are linear, by rows (n, k), in the steps of k frames in a row."""
    count, width = rows.shape
    for i in range(width):
        right[i : i + count] -= rows[:, i, None] * weight * error
        for j in range(i + 1):
            square = (rows[:, i] * rows[:, j])[:, None] * weight
            blocks[j : j + count, i - j] += square[:, :, None] * np.eye(6)
