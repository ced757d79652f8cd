"""Symmetric matrices whose blocks couple a frame with the next two."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular, solveh_banded

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


def inverse_blocks(band: Array) -> Array:
    """(T, k, k) diagonal blocks of the inverse of a band, in linear time: pairs of frames make
    it block tridiagonal (Takahashi 1973)."""
    steps, size = len(band), band.shape[-1]
    if steps % 2:
        extra = np.zeros((1, 3, size, size))
        extra[0, 0] = np.eye(size)
        return inverse_blocks(np.concatenate((band, extra)))[:steps]
    pairs = [full(band[t : t + 2]) for t in range(0, steps, 2)]
    links = []
    for t in range(0, steps - 2, 2):
        upper = np.concatenate((band[t, 2], band[t + 1, 1]), 1)
        lower = np.concatenate((np.zeros((size, size)), band[t + 1, 2]), 1)
        links.append(np.concatenate((upper, lower)))
    inverses = [np.linalg.inv(pairs[0])]
    for pair, link in zip(pairs[1:], links, strict=True):
        inverses.append(np.linalg.inv(pair - link @ inverses[-1] @ link.T))
    found = [inverses[-1]]
    for inverse, link in zip(inverses[-2::-1], links[::-1], strict=True):
        through = inverse @ link.T
        found.append(inverse + through @ found[-1] @ through.T)
    both = np.stack(found[::-1]).reshape(-1, 2, size, 2, size)
    return np.stack((both[:, 0, :, 0], both[:, 1, :, 1]), 1).reshape(steps, size, size)


def inverse_blocks_of(root: Array, steps: int) -> Array:
    """(T, k, k) diagonal blocks of the inverse of a matrix with Cholesky factor `root`."""
    inverse = solve_triangular(root, np.eye(len(root)), lower=True, check_finite=False)
    columns = inverse.reshape(len(root), steps, len(root) // steps).transpose(1, 2, 0)
    return columns @ columns.swapaxes(1, 2)
