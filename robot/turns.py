"""Rotations of one command after another: SciPy's take longer than all other checks of a command.

Quaternions are scalar-last, rotation vectors in radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMALL = 1e-8


def between(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """The rotation vector, of at most half a turn, by which one orientation becomes another, about
    axes of the frame that both are given in. Lengths of the quaternions do not matter."""
    ax, ay, az, aw = after
    bx, by, bz, bw = before
    x = bw * ax - aw * bx - (ay * bz - az * by)
    y = bw * ay - aw * by - (az * bx - ax * bz)
    z = bw * az - aw * bz - (ax * by - ay * bx)
    w = aw * bw + ax * bx + ay * by + az * bz
    length = math.sqrt(x * x + y * y + z * z)
    if length <= _SMALL * abs(w):
        scale = 2 / w
    else:
        scale = 2 * math.atan2(math.copysign(length, w), abs(w)) / length
    return [x * scale, y * scale, z * scale]


def turned(before: Sequence[float], vector: Sequence[float]) -> list[float]:
    """The orientation after a rotation vector, as the unit quaternion nearer to that before."""
    x, y, z = vector
    bx, by, bz, bw = before
    angle = math.sqrt(x * x + y * y + z * z)
    if not angle:
        return list(before)
    scale = math.sin(angle / 2) / angle if angle > _SMALL else 0.5
    x, y, z, w = x * scale, y * scale, z * scale, math.cos(angle / 2)
    quaternion = [
        w * bx + bw * x + y * bz - z * by,
        w * by + bw * y + z * bx - x * bz,
        w * bz + bw * z + x * by - y * bx,
        w * bw - x * bx - y * by - z * bz,
    ]
    length = math.copysign(math.hypot(*quaternion), w)
    return [value / length for value in quaternion]
