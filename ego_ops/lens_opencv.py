"""Lenses calibrated with OpenCV, as most people calibrate their own cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera
from ego_ops.errors import AnnotationError

Array = NDArray[np.float64]
Model = Literal["opencv", "opencv_fisheye"]

COUNTS: dict[Model, tuple[int, ...]] = {"opencv": (4, 5, 8), "opencv_fisheye": (4,)}
"""Numbers of distortion coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6]], and k1 k2 k3 k4."""


@dataclass(frozen=True)
class OpenCVLens:
    """OpenCV's pinhole with distortion, or its fisheye model (Kannala and Brandt's)."""

    model: Model
    camera: Camera
    """Focal lengths, principal point and size of the stored picture."""
    distortion: tuple[float, ...]

    @staticmethod
    def of(model: Model, camera: Camera, distortion: Sequence[float]) -> OpenCVLens:
        """Checked.

        Raises:
            AnnotationError: a number of coefficients that the model has not, or no finite ones.
        """
        if len(distortion) not in COUNTS[model]:
            known = " or ".join(map(str, COUNTS[model]))
            raise AnnotationError(
                f"camera model {model} has {known} distortion coefficients, not {len(distortion)}"
            )
        if not all(map(math.isfinite, distortion)):
            raise AnnotationError("a distortion coefficient is not finite")
        return OpenCVLens(model, camera, tuple(float(value) for value in distortion))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored picture."""
        return self.camera.width, self.camera.height

    def stored(self, rays: Array) -> Array:
        """Pixels (..., 2) of the stored picture for points (..., 3) in the camera frame; NaN
        where the lens does not see."""
        flat = np.asarray(rays, dtype=float).reshape(-1, 3)
        zero = np.zeros(3)
        project = cv2.projectPoints if self.model == "opencv" else cv2.fisheye.projectPoints
        pixels, _ = project(
            flat[:, None], zero, zero, self.camera.matrix, np.array(self.distortion)
        )
        pixels = pixels.reshape(-1, 2)
        pixels[~self._within(flat)] = np.nan
        return pixels.reshape(*np.shape(rays)[:-1], 2)

    def _within(self, points: Array) -> NDArray[np.bool_]:
        """(N,) points that the radial curve has not yet folded back."""
        across = np.hypot(points[:, 0], points[:, 1])
        if self.model == "opencv_fisheye":
            return np.arctan2(across, points[:, 2]) <= self._reach
        return (points[:, 2] > 1e-6) & (across <= self._reach * points[:, 2])

    @cached_property
    def _reach(self) -> float:
        """Where the radial curve ends to rise: an angle for the fisheye, else its tangent."""
        fisheye = self.model == "opencv_fisheye"
        x = np.linspace(0, math.pi / 2 if fisheye else 5.0, 2000)
        falls = np.diff(x * self._radial(x)) <= 0
        return float(x[np.argmax(falls)] if falls.any() else x[-1])

    def _radial(self, x: Array) -> Array:
        d = self.distortion
        if self.model == "opencv_fisheye":
            return _series(d, x)
        above = (d[0], d[1], d[4] if len(d) > 4 else 0.0)
        return _series(above, x) / _series(d[5:8], x)


def _series(coefficients: Sequence[float], x: Array) -> Array:
    """1 + k1 x^2 + k2 x^4 + ..."""
    total = np.ones_like(x)
    for place, k in enumerate(coefficients, 1):
        total += k * x ** (2 * place)
    return total
