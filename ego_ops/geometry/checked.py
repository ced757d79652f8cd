"""What the joint estimate refuses: arrays that do not fit, and tracks that can tell no motion."""

from __future__ import annotations

import numpy as np

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.observed import Observed, TrackedPoints
from ego_ops.geometry.view import Array

THIN = 2.0
"""Pixels that points must be spread by across the line that fits them best."""


def check_arrays(observed: Observed) -> None:
    """See that everything has the shape and the finite values that it must have.

    Raises:
        ValueError: it says which array, and what of it.
    """
    times = np.asarray(observed.times)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: two frames or more are needed, got shape {times.shape}")
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise ValueError("times: must be finite and increase")
    for name in ("object", "background"):
        _check_tracks(name, getattr(observed, name), len(times))
    if observed.path is not None:
        if len(observed.path) != len(times):
            raise ValueError(f"path: {len(observed.path)} poses for {len(times)} frames")
        if not np.isfinite(observed.path.as_matrix()).all():
            raise ValueError("path: not finite")
    if observed.clouds is not None and len(observed.clouds) != len(times):
        raise ValueError(f"clouds: {len(observed.clouds)} for {len(times)} frames")


def _check_tracks(name: str, tracks: TrackedPoints, steps: int) -> None:
    shape = (steps, tracks.visible.shape[-1])
    for part, expected in (("visible", shape), ("depth", shape), ("xy", (*shape, 2))):
        got = getattr(tracks, part).shape
        if got != expected:
            raise ValueError(f"{name}.{part}: shape {got}, expected {expected}")
    wrong = tracks.visible & ~np.isfinite(tracks.xy).all(-1)
    if wrong.any():
        t, n = np.argwhere(wrong)[0]
        raise ValueError(
            f"{name}.xy: track {n} is visible in frame {t} but its pixel is not finite"
        )


def check_spread(camera: Camera, points: Array, distance: float) -> None:
    """See that the object's points (n, 3) do not lie in one line, which leaves a rotation open.

    Args:
        distance: from the camera, metres; it says what a pixel is on the object.

    Raises:
        Rejection: they do (`collinear_points`).
    """
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 0))
    across = spread[1] * camera.fx / max(distance, 1e-6)
    if across < THIN:
        raise Rejection(
            "collinear_points",
            f"the object's points lie in a line ({across:.1f} px across it, {THIN:g} are needed): "
            "its rotation about that line cannot be told",
        )
