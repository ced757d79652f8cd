"""What a tracked point says of the pose it is seen from: a pixel and the logarithm of a depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ego_ops.camera import Camera
from ego_ops.geometry.view import NEAREST, Array, Mask


@dataclass(frozen=True)
class Noise:
    """Standard deviations of what is measured, and where its robust loss lets go."""

    pixel: float = 0.7
    """Pixels, one axis."""
    depth: float = 0.12
    """Of a depth's logarithm. Depth networks err by a few per cent, but alike in neighbouring
    pixels and frames, so that one observation is worth a fraction of its own deviation."""
    width: float = 1.5
    """Deviations from which on an observation counts ever less (Cauchy's loss)."""


NOISE = Noise()


def predicted(camera: Camera, local: Array) -> Array:
    """(..., 3) pixel and log depth of points (..., 3) in the camera frame."""
    z = np.maximum(local[..., 2], NEAREST)
    out = np.empty_like(local)
    out[..., 0] = camera.fx * local[..., 0] / z + camera.cx
    out[..., 1] = camera.fy * local[..., 1] / z + camera.cy
    out[..., 2] = np.log(z)
    return out


def placed(rotation: Array, shift: Array, points: Array) -> Array:
    """(N, T, 3) points (N, 3) in T camera frames: rotation (T, 3, 3), shift (T, 3)."""
    flat = points @ rotation.reshape(-1, 3).T
    return flat.reshape(len(points), -1, 3) + shift


def jacobian(camera: Camera, local: Array) -> Array:
    """(..., 3, 6) derivative of `predicted` by a small motion of the point in the camera frame: a
    rotation vector about the camera's centre, then a shift."""
    z = 1 / np.maximum(local[..., 2], NEAREST)
    x, y = local[..., 0] * z, local[..., 1] * z
    out = np.empty((*local.shape[:-1], 3, 6))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = -x * y, 1 + x * x, -y
    out[..., 0, 3], out[..., 0, 4], out[..., 0, 5] = z, 0, -x * z
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = -1 - y * y, x * y, x
    out[..., 1, 3], out[..., 1, 4], out[..., 1, 5] = 0, z, -y * z
    out[..., 0, :] *= camera.fx
    out[..., 1, :] *= camera.fy
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = y, -x, 0
    out[..., 2, 3], out[..., 2, 4], out[..., 2, 5] = 0, 0, z
    return out


def weights(error: Array, visible: Mask, measured: Mask, noise: Noise, width: float) -> Array:
    """(..., 3) inverse variances of errors (..., 3) under Cauchy's loss, one for a pixel's two.

    Args:
        visible, measured: (...) where a pixel, and where a depth was observed.
        width: pixel deviations at which the weight has fallen to a half.
    """
    off = (error[..., 0] ** 2 + error[..., 1] ** 2) / noise.pixel**2
    out = np.empty_like(error)
    by_pixel = visible / (1 + off / width**2)
    out[..., 0] = out[..., 1] = by_pixel * noise.pixel**-2
    # Where the pixel is a lost track's, so is the depth that was read there.
    far = (error[..., 2] / (0.5 * noise.depth)) ** 2
    out[..., 2] = by_pixel * measured / (1 + far) * noise.depth**-2
    return out
