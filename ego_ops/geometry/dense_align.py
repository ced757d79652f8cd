"""One cloud registered to another by `small_gicp`, and how well it lies there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import UserError
from ego_ops.geometry.view import Array

MOST = 700
"""Points that a cloud or model is thinned to."""
STRAY = 4.0
"""Median distances from the median beyond which a point is none of the surface's."""
_GATES = (0.5, 0.15)
"""Distances up to which points are matched, from round to round, in radii of the model."""


@dataclass(frozen=True)
class Aligned:
    """One cloud moved onto another."""

    pose: RigidTransform
    """T_target_source."""
    share: float
    """Share of the source's points that lie on the target."""
    rmse: float
    """Metres from those points to the target's nearest ones, root mean square."""


Align = Callable[[Array, Array, RigidTransform], Aligned]
"""(source (n, 3), target (m, 3), guess of T_target_source) -> Aligned."""


def align_gicp(
    source: Array, target: Array, guess: RigidTransform, kind: str = "PLANE_ICP"
) -> Aligned:
    """Register `source` (n, 3) to `target` (m, 3), metres, from a `guess` of T_target_source.

    Args:
        kind: `PLANE_ICP` (Chen and Medioni 1992), `GICP` (Segal, Haehnel and Thrun 2009) or `ICP`.
            The first is both the quickest and the most exact on rendered things.

    Raises:
        UserError: `small_gicp` is not installed.
    """
    gicp = _small_gicp()
    source, target = thinned(source), thinned(target)
    onto, tree = gicp.preprocess_points(target, 1e-6, 15)
    moving, _ = gicp.preprocess_points(source, 1e-6, 15)
    radius = spread(target)
    matrix = guess.as_matrix()
    for gate in _GATES:
        matrix = gicp.align(
            onto, moving, tree, matrix, kind, gate * radius,
            max_iterations=15, rotation_epsilon=1e-3, translation_epsilon=1e-3 * radius,
        ).T_target_source  # fmt: skip
    return judged(source, target, RigidTransform.from_matrix(matrix))


def judged(source: Array, target: Array, pose: RigidTransform) -> Aligned:
    """How well `source` lies on `target` when moved by `pose`."""
    gate = _GATES[-1] * spread(target)
    gap = cKDTree(target).query(pose.apply(source))[0]
    on = gap < gate
    rmse = float(np.sqrt(np.mean(gap[on] ** 2))) if on.any() else float("inf")
    return Aligned(pose, float(on.mean()), rmse)


def spread(points: Array) -> float:
    """Median distance of points (n, 3) from their median: what strays leave alone."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))


def without_strays(points: Array) -> Array:
    """The finite ones of points (n, 3), less those far from all others (edges of depth)."""
    points = np.asarray(points, float).reshape(-1, 3)
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        return points
    away = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return points[away <= STRAY * np.median(away)]


def thinned(points: Array, most: int = MOST) -> Array:
    """At most `most` of the points (n, 3), all finite: means of voxels as large as it takes."""
    cell = max(spread(points) / 20, 1e-9) if len(points) > most else 0.0
    while len(points) > most:
        keys = np.floor((points - points.min(0)) / cell).astype(np.int64) @ [1, 1 << 20, 1 << 40]
        _, where, count = np.unique(keys, return_inverse=True, return_counts=True)
        if len(count) <= most:
            sums = [np.bincount(where, column) for column in points.T]
            return np.stack(sums, 1) / count[:, None]
        cell *= 1.02 * np.sqrt(len(count) / most)
    return points


def _small_gicp() -> Any:
    try:
        import small_gicp
    except ImportError:
        raise UserError(
            "clouds cannot be registered: small_gicp is missing (pip install egoscaler-ray[dense])"
        ) from None
    return small_gicp
