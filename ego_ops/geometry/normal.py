"""Normal equations of one rigid thing's tracks, with its points eliminated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ego_ops.camera import Camera
from ego_ops.geometry.residuals import Noise, jacobian, placed, predicted, weights
from ego_ops.geometry.view import NEAREST, Array, Index, Mask

WIDTH = 7
"""Unknowns of a frame: a small motion of the thing in the camera frame (rotation vector, then
shift) and the logarithm of the factor from measured depth to lengths."""


@dataclass(frozen=True)
class Seen:
    """Tracks laid out by point, as the normal equations want them."""

    target: Array
    """(N, T, 3) pixel and log of the measured depth; anything where not observed."""
    visible: Mask
    """(N, T)."""
    measured: Mask
    """(N, T) where there is a depth besides."""

    @staticmethod
    def of(xy: Array, visible: Mask, depth: Array) -> Seen:
        """From tracks (T, N, 2), (T, N) and (T, N)."""
        measured = visible & (depth > 0)
        log = np.log(np.where(measured, depth, 1.0))
        target = np.concatenate((np.nan_to_num(xy), log[..., None]), -1)
        return Seen(*(np.ascontiguousarray(a.swapaxes(0, 1)) for a in (target, visible, measured)))

    def shows(self, least: int) -> Mask:
        """(T,) frames that show at least so many of the points."""
        return self.visible.sum(0) >= least

    def where(self, mask: Mask) -> Seen:
        """The observations of `mask` (N, T) alone."""
        return Seen(self.target, self.visible & mask, self.measured & mask)

    def tracks(self, which: Index) -> Seen:
        """Some of the tracks (n,)."""
        return Seen(self.target[which], self.visible[which], self.measured[which])

    def frames(self, which: Index) -> Seen:
        """The same tracks in some of the frames (n,)."""
        return Seen(self.target[:, which], self.visible[:, which], self.measured[:, which])


@dataclass(frozen=True)
class Normal:
    """Gauss-Newton's equations at one state; T frames of `WIDTH` unknowns, N points."""

    blocks: Array
    """(T, 7, 7) of the frames alone."""
    right: Array
    """(T, 7)."""
    coupling: Array
    """(N, 7 T, 3) of frames and points."""
    own: Array
    """(N, 3, 3) of the points alone."""
    pull: Array
    """(N, 3) right side of the points."""
    cost: float
    """Robust cost of the observations."""

    def inverse(self, damping: float) -> Array:
        """(N, 3, 3) of the points' own blocks, their diagonals made larger by a share."""
        diagonal = np.eye(3) * self.own * damping
        inverse = np.linalg.inv(self.own + diagonal)
        return (inverse + inverse.swapaxes(1, 2)) / 2

    def eliminated(self, inverse: Array) -> tuple[Array, Array]:
        """What the points take from the frames' equations: (7 T, 7 T) and (7 T,). Schur
        complement, as in Triggs et al. 1999."""
        root = np.linalg.cholesky(inverse)
        tall = (self.coupling @ root).transpose(1, 0, 2).reshape(self.coupling.shape[1], -1)
        pulled = np.einsum("nji,nj->ni", root, self.pull).ravel()
        return tall @ tall.T, tall @ pulled

    def moves(self, inverse: Array, steps: Array) -> Array:
        """(N, 3) the points' steps that go with the frames' (T, 7)."""
        taken = self.coupling.swapaxes(1, 2) @ steps.ravel()
        return np.einsum("nij,nj->ni", inverse, self.pull - taken)


def normal(
    camera: Camera,
    seen: Seen,
    pose: tuple[Array, Array],
    points: Array,
    log_scale: Array,
    noise: Noise,
    width: float,
    tied: Array,
) -> Normal:
    """Linearise at poses (T, 3, 3) and (T, 3) of T_camera_thing, points (N, 3), and scales (T,).

    Args:
        width: deviations at which the robust loss lets go.
        tied: (N, 3) where the points began; they are tied to it, weakly, along what no frame sees.
    """
    error, weight, local = _errors(camera, seen, pose, points, log_scale, noise, width)
    by_frame = _by_frame(camera, local)
    weighted = by_frame * weight[..., None]
    blocks, right = _summed(by_frame, weighted, error)
    coupling = _coupling(by_frame, weighted, pose[0])
    own, pull = _of_points(camera, local, weight, error, pose[0])
    tie = _tie(own)
    pull += tie[:, None] * (tied - points)
    own += tie[:, None, None] * np.eye(3)
    return Normal(blocks, right, coupling, own, pull, _cost(error, weight, seen, noise, width))


def nearer(
    camera: Camera,
    seen: Seen,
    pose: tuple[Array, Array],
    points: Array,
    log_scale: Array,
    noise: Noise,
) -> Array:
    """Points (N, 3) one step nearer to where poses and scales that stay want them: see `normal`."""
    error, weight, local = _errors(camera, seen, pose, points, log_scale, noise, noise.width)
    own, pull = _of_points(camera, local, weight, error, pose[0])
    own += _tie(own)[:, None, None] * np.eye(3)
    moves = np.linalg.solve(own, pull[..., None])[..., 0]
    return np.asarray(points + short(np.asarray(moves, float)), float)


def loss(
    camera: Camera,
    seen: Seen,
    pose: tuple[Array, Array],
    points: Array,
    log_scale: Array,
    noise: Noise,
    width: float,
) -> float:
    """What the tracks cost: see `normal`."""
    error, weight, _ = _errors(camera, seen, pose, points, log_scale, noise, width)
    return _cost(error, weight, seen, noise, width)


def short(moves: Array, most: float = 0.3) -> Array:
    """Moves (N, 3) of points, none longer than `most` metres: longer ones are out of range."""
    length = np.linalg.norm(moves, axis=-1, keepdims=True)
    return moves * np.minimum(1.0, most / np.maximum(length, 1e-12))


def closer(
    camera: Camera,
    seen: Seen,
    pose: tuple[Array, Array],
    points: Array,
    log_scale: Array,
    noise: Noise,
    width: float,
) -> Array:
    """(T, 6) the step of each frame's pose alone that brings it closer to its tracks: see `normal`.
    It is zero where too few are seen."""
    error, weight, local = _errors(camera, seen, pose, points, log_scale, noise, width)
    by_pose = jacobian(camera, local)
    blocks, right = _summed(by_pose, by_pose * weight[..., None], error)
    blocks += 1e-3 * np.eye(6)
    steps = np.linalg.solve(blocks, right[..., None])[..., 0]
    return np.where(seen.shows(6)[:, None], steps, 0.0)


def _errors(
    camera: Camera,
    seen: Seen,
    pose: tuple[Array, Array],
    points: Array,
    log_scale: Array,
    noise: Noise,
    width: float,
) -> tuple[Array, Array, Array]:
    """Errors (N, T, 3), their weights (N, T, 3), and the points in the camera frames (N, T, 3)."""
    local = placed(*pose, points)
    error = seen.target - predicted(camera, local)
    error[..., 2] += log_scale
    return error, weights(error, seen.visible, seen.measured, noise, width), local


def _summed(by_frame: Array, weighted: Array, error: Array) -> tuple[Array, Array]:
    """Frames' own blocks (T, k, k) and right side (T, k) of Jacobians (N, T, 3, k)."""
    steps, width = by_frame.shape[1], by_frame.shape[3]
    flat, flat_weighted = (
        np.ascontiguousarray(a.swapaxes(0, 1)).reshape(steps, -1, width)
        for a in (by_frame, weighted)
    )
    turned = flat_weighted.swapaxes(1, 2)
    flat_error = np.ascontiguousarray(error.swapaxes(0, 1)).reshape(steps, -1, 1)
    return turned @ flat, (turned @ flat_error)[..., 0]


def _by_frame(camera: Camera, local: Array) -> Array:
    """(N, T, 3, 7)."""
    out = np.zeros((*local.shape[:-1], 3, WIDTH))
    out[..., :6] = jacobian(camera, local)
    out[..., 2, 6] = -1.0
    return out


def _coupling(by_frame: Array, weighted: Array, rotation: Array) -> Array:
    """(N, 7 T, 3) J^T W J_point. A point moves in the camera frame as a shift of the thing does,
    and the rotation takes that to the thing's frame, so that J_point is part of J."""
    shift = np.empty((3, *by_frame.shape[:2], WIDTH))
    shift[0] = weighted[:, :, 0] * by_frame[:, :, 0, 3, None]
    shift[1] = weighted[:, :, 1] * by_frame[:, :, 1, 4, None]
    shift[2] = weighted[:, :, 0] * by_frame[:, :, 0, 5, None]
    shift[2] += weighted[:, :, 1] * by_frame[:, :, 1, 5, None]
    shift[2] += weighted[:, :, 2] * by_frame[:, :, 2, 5, None]
    out = np.empty((*by_frame.shape[:2], WIDTH, 3))
    for axis in range(3):
        turned = rotation[:, :, axis].T[:, None, :, None]
        out[..., axis] = shift[0] * turned[0]
        out[..., axis] += shift[1] * turned[1]
        out[..., axis] += shift[2] * turned[2]
    return out.reshape(len(out), -1, 3)


def _of_points(
    camera: Camera, local: Array, weight: Array, error: Array, rotation: Array
) -> tuple[Array, Array]:
    """Points' own blocks (N, 3, 3) and right side (N, 3), not yet tied to anything."""
    z = 1 / np.maximum(local[..., 2], NEAREST)
    x, y = local[..., 0] * z, local[..., 1] * z
    across, down, along = camera.fx * z, camera.fy * z, weight[..., 2] * z
    pull_x, pull_y = weight[..., 0] * across, weight[..., 1] * down
    xx, yy = pull_x * across, pull_y * down
    terms = np.stack((xx, yy, -xx * x, -yy * y, xx * x * x + yy * y * y + along * z), 1)
    pull_x, pull_y = pull_x * error[..., 0], pull_y * error[..., 1]
    pulls = np.stack((pull_x, pull_y, along * error[..., 2] - pull_x * x - pull_y * y), 1)
    rows = rotation[:, [0, 1, 0, 1, 2], :, None] * rotation[:, [0, 1, 2, 2, 2], None, :]
    rows[:, 2:4] += rows[:, 2:4].swapaxes(2, 3)
    count = len(local)
    own = terms.reshape(count, -1) @ rows.swapaxes(0, 1).reshape(-1, 9)
    pull = pulls.reshape(count, -1) @ rotation.swapaxes(0, 1).reshape(-1, 3)
    return own.reshape(count, 3, 3), pull


def _tie(own: Array) -> Array:
    """(N,) weights that tie points to where they began: 30 cm, or far less than they are seen."""
    return 1e-6 * np.trace(own, axis1=1, axis2=2) + 10.0


def _cost(error: Array, weight: Array, seen: Seen, noise: Noise, width: float) -> float:
    """Cauchy's loss of the pixels, and of the depths that go with them."""
    off = (error[..., 0] ** 2 + error[..., 1] ** 2) / noise.pixel**2
    pixel = width**2 * np.log1p(off / width**2) * seen.visible
    return float(pixel.sum() + (weight[..., 2] * error[..., 2] ** 2).sum()) / 2
