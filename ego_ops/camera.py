"""Pinhole camera, and a camera's recorded path through the world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation, Slerp

from ego_ops.errors import AnnotationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole without distortion; pixel centres are at whole numbers."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def matrix(self) -> Array:
        """(3, 3) intrinsic matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def params(self) -> Array:
        """(4,) fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    def scaled(self, width: int, height: int) -> Camera:
        """The camera of the same picture resized to `width` x `height`.

        A resize keeps the picture's borders, which lie half a pixel outside the outermost pixel
        centres, so the principal point moves by that half pixel too.
        """
        sx, sy = width / self.width, height / self.height
        return Camera(
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            width,
            height,
        )

    def letterboxed(self, size: int) -> Camera:
        """The camera of the picture scaled to fit a `size` x `size` square and centred in it."""
        scale = size / max(self.width, self.height)
        width, height = round(self.width * scale), round(self.height * scale)
        inner = self.scaled(width, height)
        left, top = (size - width) // 2, (size - height) // 2
        return replace(inner, cx=inner.cx + left, cy=inner.cy + top, width=size, height=size)

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points (..., 3) in the camera frame; NaN behind the camera."""
        points = np.asarray(points, dtype=float)
        z = np.where(points[..., 2] > 1e-6, points[..., 2], np.nan)
        return np.stack(
            (self.fx * points[..., 0] / z + self.cx, self.fy * points[..., 1] / z + self.cy), -1
        )

    def rays(self, pixels: Array) -> Array:
        """Points (..., 3) at depth 1 that project to pixels (..., 2)."""
        pixels = np.asarray(pixels, dtype=float)
        x = (pixels[..., 0] - self.cx) / self.fx
        y = (pixels[..., 1] - self.cy) / self.fy
        return np.stack((x, y, np.ones_like(x)), -1)

    def contains(self, pixels: Array, margin: float = 0.0) -> NDArray[np.bool_]:
        """Whether pixels (..., 2) lie inside the picture, `margin` pixels from its border."""
        x, y = pixels[..., 0], pixels[..., 1]
        inside = (x >= margin) & (x <= self.width - 1 - margin)
        return inside & (y >= margin) & (y <= self.height - 1 - margin)


@dataclass(frozen=True)
class PosePath:
    """A rigid body's recorded path: poses T_world_body at increasing times."""

    times: Array
    """(N,) seconds from the start of the video."""
    poses: RigidTransform
    """N poses."""

    @staticmethod
    def from_matrices(times: Array, matrices: Array) -> PosePath:
        """From matrices (N, 4, 4).

        Raises:
            AnnotationError: fewer than two poses, times that do not increase, values that are
                not finite, or matrices that are not rigid to 1 %.
        """
        times = np.asarray(times, dtype=float)
        matrices = np.asarray(matrices, dtype=float)
        if len(times) < 2 or matrices.shape != (len(times), 4, 4):
            raise AnnotationError(
                f"camera path needs two poses (4 x 4) or more, has {matrices.shape}"
            )
        if not np.all(np.diff(times) > 0):
            raise AnnotationError("the times of the camera path do not increase")
        if not np.isfinite(matrices).all():
            bad = int(np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))[0])
            raise AnnotationError(f"camera pose {bad} is not finite")
        rotations = matrices[:, :3, :3]
        gram = rotations @ rotations.transpose(0, 2, 1)
        wrong = (np.abs(gram - np.eye(3)).max(axis=(1, 2)) > 0.01) | (np.linalg.det(rotations) < 0)
        if wrong.any():
            bad = int(np.flatnonzero(wrong)[0])
            raise AnnotationError(f"camera pose {bad} is not a rigid motion")
        return PosePath(times, rigid(matrices))

    def at(self, times: Array) -> RigidTransform:
        """Poses at `times` (T,): linear in position, spherical in rotation.

        Up to half a second outside the path the nearest pose is held, which covers a video that
        starts or ends a few frames before its poses.

        Raises:
            AnnotationError: a time lies further outside.
        """
        times = np.asarray(times, dtype=float)
        first, last = self.times[0], self.times[-1]
        if times.min() < first - 0.5 or times.max() > last + 0.5:
            raise AnnotationError(
                f"camera path covers {first:.2f} to {last:.2f} s, "
                f"the clip needs {times.min():.2f} to {times.max():.2f} s"
            )
        return self.held(times)

    def held(self, times: Array) -> RigidTransform:
        """Poses at `times` (T,), the first and the last pose held outside the path."""
        if len(self.times) == 1:
            return RigidTransform.concatenate([self.poses] * len(times))
        times = np.clip(times, self.times[0], self.times[-1])
        where = self.poses.translation
        position = np.stack([np.interp(times, self.times, where[:, i]) for i in range(3)], -1)
        return RigidTransform.from_components(
            position, Slerp(self.times, self.poses.rotation)(times)
        )


def rigid(matrices: Array) -> RigidTransform:
    """Rigid motions of matrices (..., 4, 4), with rotations made exactly orthonormal."""
    matrices = np.asarray(matrices, dtype=float)
    return RigidTransform.from_components(
        matrices[..., :3, 3], Rotation.from_matrix(matrices[..., :3, :3])
    )
