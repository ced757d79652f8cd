"""Tracks as one camera saw them: what the estimators of this package take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

NEAREST = 0.05
"""Metres. No point is believed nearer to the camera than this."""


@dataclass(frozen=True)
class View:
    """N point tracks through T frames of a camera whose path is known."""

    camera: Camera
    path: RigidTransform
    """T poses T_world_camera; for a moving thing, the world may be its own frame."""
    times: Array
    """(T,) seconds."""
    xy: Array
    """(T, N, 2) pixels; anything where not visible."""
    visible: Mask
    """(T, N)."""

    @property
    def steps(self) -> int:
        return self.visible.shape[0]

    @property
    def count(self) -> int:
        return self.visible.shape[1]

    def select(self, which: Mask | Index) -> View:
        """The view of the tracks chosen by a mask or by indices (n,)."""
        return replace(self, xy=self.xy[:, which], visible=self.visible[:, which])

    def where(self, mask: Mask) -> View:
        """The view with the observations of `mask` (T, N), or broadcast to it, alone."""
        return replace(self, visible=self.visible & mask)

    def from_object(self, motion: RigidTransform) -> View:
        """The view as the object has it that moves by T displacements: it rests in this one."""
        return replace(self, path=motion.inv() * self.path)

    def local(self, points: Array) -> Array:
        """(T, N, 3) points (N, 3) of the world in each camera frame."""
        rotation, centre = self.path.rotation.as_matrix(), self.path.translation
        return np.einsum("tji,tnj->tni", rotation, points[None] - centre[:, None])

    def error(self, points: Array) -> Array:
        """(T, N) reprojection error in pixels of points (N, 3); NaN where nothing was seen."""
        gap = np.linalg.norm(self.xy - pixels(self.camera, self.local(points)), axis=-1)
        return np.where(self.visible, gap, np.nan)


def pixels(camera: Camera, points: Array) -> Array:
    """Pixels (..., 2) of points (..., 3) in the camera frame, those behind it as if just before.

    Estimators need a finite answer while a point is still on its way to its place.
    """
    clipped = points.copy()
    clipped[..., 2] = np.maximum(clipped[..., 2], NEAREST)
    return camera.project(clipped)


def projection_jacobian(camera: Camera, points: Array) -> Array:
    """(..., 2, 3) derivative of a pixel by the point (..., 3) in the camera frame."""
    z = np.maximum(points[..., 2], NEAREST)
    jacobian = np.zeros((*points.shape[:-1], 2, 3))
    jacobian[..., 0, 0] = camera.fx / z
    jacobian[..., 0, 2] = -camera.fx * points[..., 0] / z**2
    jacobian[..., 1, 1] = camera.fy / z
    jacobian[..., 1, 2] = -camera.fy * points[..., 1] / z**2
    return jacobian


def huber_weight(error: Array, width: float) -> Array:
    """Weights of iteratively reweighted least squares for Huber's loss of that `width`."""
    return np.minimum(1.0, width / np.maximum(error, 1e-12))


def rms(residual: Array) -> Array:
    """(N,) root mean square over T of residuals (T, N), NaNs left out; infinite where all are."""
    count = np.isfinite(residual).sum(0)
    total = np.nansum(residual**2, 0)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.inf)
