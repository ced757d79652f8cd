"""Symmetric matrices whose blocks couple a frame with the next two."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

from ego_ops.geometry.view import Array


def full(band: Array) -> Array:
    """(k T, k T) symmetric matrix of a band (T, 3, k, k): [t, o] couples frame t + o with t."""
    steps, size = len(band), band.shape[-1]
    out = np.zeros((steps, size, steps, size))
    for offset in range(min(3, steps)):
        t = np.arange(steps - offset)
        out[t + offset, :, t, :] = band[t, offset]
        out[t, :, t + offset, :] = band[t, offset].transpose(0, 2, 1)
    return out.reshape(size * steps, size * steps)


def solve(band: Array, right: Array) -> Array:
    """(T, k) solution for a right side (T, k), in time linear in T."""
    steps, size = right.shape
    lower = np.zeros((3 * size, steps * size))
    for offset in range(3):
        for i in range(size):
            for j in range(size):
                row = offset * size + i - j
                if row >= 0:
                    into = lower[row, j : (steps - offset) * size : size]
                    into[:] = band[: steps - offset, offset, i, j]
    found = solveh_banded(lower, right.ravel(), lower=True, check_finite=False)
    return np.asarray(found, float).reshape(steps, size)
