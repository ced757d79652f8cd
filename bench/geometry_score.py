"""How far an estimated motion of an object is from the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry import metrics

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Errors of one clip."""

    aligned: float
    """Root mean square error of the position over the frames after the scale that fits the whole
    path best, metres."""
    metric: float
    """The same at the estimate's own scale."""
    rotation: float
    """Mean over the frames of the angle between the rotations since the first, radians."""


def score(
    estimate: RigidTransform, truth: RigidTransform, centre: Floats, scale: float,
    frames: NDArray[np.bool_] | slice = slice(None),
) -> Score:  # fmt: skip
    """Compare how one and the same physical point moves.

    Estimate and truth put the origin of the object's frame in different places, so that poses
    cannot be compared as they are. The motion since the first frame can, D_t = E_t E_0^-1: no
    choice of the object's frame changes it. The true motion is applied to the true middle of the
    tracked points, and the estimated one to where the estimate has that point at the start, on the
    same ray at its own distance, `centre / scale`. Both paths are in the first camera's frame, and
    `metrics.aligned(..., "scale")` fits the one to the other.

    Args:
        estimate, truth: T poses T_first_object, each with an object frame of its own.
        centre: (3,) metres, first camera frame.
        scale: factor from the estimate's lengths to the true ones at the object; see
            `scale_of_places`.
        frames: mask (T,) of those that count, by default all.
    """
    moved, should = ((poses * poses[0].inv())[frames] for poses in (estimate, truth))
    path, true_path = moved.apply(centre / scale), should.apply(centre)
    angle = metrics.geodesic(moved.rotation.as_quat(), should.rotation.as_quat())
    return Score(
        aligned=metrics.absolute_error(path, true_path, "scale"),
        metric=metrics.absolute_error(path, true_path, "none"),
        rotation=float(angle.mean()),
    )


def scale_of_places(places: Floats, true_places: Floats) -> float:
    """How much further away things truly are than where they were placed.

    Args:
        places, true_places: (N, 3) the object's points in the first camera frame at the start;
            NaN where not placed, or not on the object.
    """
    both = np.isfinite(places).all(1) & np.isfinite(true_places).all(1) & (places[:, 2] > 0)
    return float(np.median(true_places[both, 2] / places[both, 2])) if both.any() else 1.0
