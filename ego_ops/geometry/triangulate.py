"""Points that stand still in the world, seen from a moving camera whose path is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ego_ops.geometry.view import (
    NEAREST,
    Array,
    Index,
    View,
    huber_weight,
    pixels,
    projection_jacobian,
)


@dataclass(frozen=True)
class StaticPoints:
    """N points fitted to their tracks on the assumption that they stand still."""

    points: Array
    """(N, 3) world, metres; NaN for a track seen less than twice."""
    covariance: Array
    """(N, 3, 3) square metres for a track noise of one pixel."""
    residual: Array
    """(T, N) reprojection error in pixels; NaN where the track was not seen."""

    @property
    def spread(self) -> Array:
        """(N,) metres per pixel of track noise, along the direction known worst."""
        return np.sqrt(np.linalg.eigvalsh(self.covariance)[:, -1])


def triangulate(view: View, iterations: int = 4) -> StaticPoints:
    """Fit a still point to each track: nearest point to all rays, then Huber reprojection error."""
    normal, right = (term.sum(0) for term in _ray_terms(view))
    points = _solve(normal, right)
    rotation = view.path.rotation.as_matrix()
    target = np.nan_to_num(view.xy)
    hessian = normal
    for _ in range(iterations):
        local = view.local(points)
        error = np.where(view.visible[..., None], target - pixels(view.camera, local), 0.0)
        weight = huber_weight(np.linalg.norm(error, axis=-1), 2.0) * view.visible
        jacobian = np.einsum(
            "tnij,tkj->tnik", projection_jacobian(view.camera, local), rotation, optimize=True
        )
        weighted = jacobian * weight[..., None, None]
        hessian = np.einsum("tnji,tnjk->nik", weighted, jacobian, optimize=True)
        gradient = np.einsum("tnji,tnj->ni", weighted, error, optimize=True)
        step = _solve(hessian, gradient)
        # A step of more than 0.3 m is one out of the linear range: head for it, shorter.
        length = np.linalg.norm(step, axis=-1, keepdims=True)
        points = points + step * np.minimum(1.0, 0.3 / np.maximum(length, 1e-9))
    points = np.where((view.visible.sum(0) >= 2)[:, None], points, np.nan)
    return StaticPoints(points, _inverse(hessian), view.error(points))


def first_motion(
    view: View, *, noise: float = 1.0, threshold: float = 4.0, least: int = 5
) -> Index:
    """When each track stops to be a still point: (N,) index of the frame, T where it never does.

    A still point predicts where it will be seen next. Each frame is tested against the point
    triangulated from all frames before it, with the uncertainty that so much parallax leaves;
    two frames in a row that miss by `threshold` standard deviations and by more than 2.5 pixels
    are motion. Tracks that were seen for fewer than `least` frames before are not judged.
    """
    normal, right = (np.cumsum(term, 0) for term in _ray_terms(view))
    seen = np.cumsum(view.visible, 0)
    missed = np.zeros_like(view.visible)
    tested = np.zeros_like(view.visible)
    for t in range(1, view.steps):
        who = np.flatnonzero(view.visible[t] & (seen[t - 1] >= least))
        if not len(who):
            continue
        tested[t, who] = True
        local = view.path[t].inv().apply(_solve(normal[t - 1, who], right[t - 1, who]))
        depth = np.maximum(local[:, 2], NEAREST)
        jacobian = projection_jacobian(view.camera, local) @ view.path[t].rotation.as_matrix().T
        spread = _inverse(normal[t - 1, who]) * (noise * depth / view.camera.fx)[:, None, None] ** 2
        expected = jacobian @ spread @ jacobian.transpose(0, 2, 1) + noise**2 * np.eye(2)
        error = view.xy[t, who] - pixels(view.camera, local)
        distance = np.einsum("ni,ni->n", error, _solve(expected, error))
        missed[t, who] = (distance > threshold**2) & (np.linalg.norm(error, axis=-1) > 2.5)
    both = missed[:-1] & (missed[1:] | ~tested[1:])
    return np.where(both.any(0), both.argmax(0), view.steps)


def _ray_terms(view: View) -> tuple[Array, Array]:
    """Normal equations of the point nearest to all rays: (T, N, 3, 3) and (T, N, 3)."""
    rays = view.camera.rays(np.nan_to_num(view.xy))
    rays = np.einsum("tij,tnj->tni", view.path.rotation.as_matrix(), rays)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
    across *= view.visible[..., None, None]
    return across, np.einsum("tnij,tj->tni", across, view.path.translation, optimize=True)


def _damped(normal: Array) -> Array:
    """Small symmetric systems (n, k, k), those without an answer made solvable."""
    size = normal.shape[-1]
    trace = np.trace(normal, axis1=-2, axis2=-1)[..., None, None]
    return normal + 1e-9 * np.eye(size) * (1 + trace)


def _solve(normal: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(_damped(normal), right[..., None])[..., 0], float)


def _inverse(normal: Array) -> Array:
    return np.asarray(np.linalg.inv(_damped(normal)), float)
