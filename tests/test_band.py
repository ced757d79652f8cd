"""Banded systems against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest

from ego_ops.geometry import band


def some(steps: int, size: int = 4) -> np.ndarray:
    """A band (T, 3, k, k) whose full matrix is positive definite."""
    rng = np.random.default_rng(steps)
    blocks = np.zeros((steps, 3, size, size))
    for offset in (1, 2):
        blocks[: steps - offset, offset] = rng.standard_normal((steps - offset, size, size))
    half = rng.standard_normal((steps, size, size))
    blocks[:, 0] = half @ half.swapaxes(1, 2) + 6 * size * np.eye(size)
    return blocks


@pytest.mark.parametrize("steps", [2, 3, 6, 7])
def test_the_solution_is_that_of_the_full_matrix(steps):
    blocks = some(steps)
    full = band.full(blocks)
    assert np.allclose(full, full.T)
    right = np.random.default_rng(0).standard_normal((steps, 4))
    assert np.allclose(band.solve(blocks, right).ravel(), np.linalg.solve(full, right.ravel()))
