"""How far predicted actions are from recorded ones, and how far paths along them part.

The 9 numbers of an object's step are those of `ego_ops.geometry.actions`. A policy's need not hold
a rotation: two columns become one by Gram and Schmidt's method, as Zhou et al., "On the Continuity
of Rotation Representations in Neural Networks" (CVPR 2019), do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.norm import Statistics, normalise

Floats = NDArray[np.float64]
_NOTHING = 1e-12


class Motions(NamedTuple):
    """Rigid motions; the leading axes are the same."""

    translation: Floats
    """(..., 3) metres."""
    rotation: Floats
    """(..., 3, 3) rotation matrices."""


class Apart(NamedTuple):
    """How far motions are from others."""

    translation: Floats
    """(...) metres."""
    rotation: Floats
    """(...) radians, 0 to pi."""


def motions(actions: NDArray[np.floating]) -> Motions:
    """Of (..., 9) actions. Columns of next to no length, or parallel, give no rotation: none of
    those is changed into one, and their errors are as large as they look."""
    wide = np.asarray(actions, np.float64)
    first = _unit(wide[..., 3:6])
    second = wide[..., 6:9]
    second = _unit(second - (first * second).sum(-1, keepdims=True) * first)
    columns = first, second, np.cross(first, second)
    return Motions(wide[..., :3], np.stack(columns, axis=-1))


def path(steps: Motions) -> Motions:
    """Where steps lead, one after the other.

    Args:
        steps: (..., H), each in the frame that the one before has led to.

    Returns:
        (..., H): after each step, in the frame before the first.
    """
    place, turn = np.zeros_like(steps.translation), np.zeros_like(steps.rotation)
    at = np.zeros(steps.translation[..., 0, :].shape)
    now = np.broadcast_to(np.eye(3), (*at.shape, 3))
    for step in range(steps.translation.shape[-2]):
        at = at + (now @ steps.translation[..., step, :, None])[..., 0]
        now = now @ steps.rotation[..., step, :, :]
        place[..., step, :], turn[..., step, :, :] = at, now
    return Motions(place, turn)


def apart(one: Motions, other: Motions) -> Apart:
    """Distances between places, and angles of the rotations from one to the other."""
    chord = np.linalg.norm(one.rotation - other.rotation, axis=(-2, -1)) / np.sqrt(8)
    return Apart(
        np.linalg.norm(one.translation - other.translation, axis=-1),
        2 * np.arcsin(np.minimum(chord, 1)),  # well conditioned at small angles
    )


def sizes(
    found: NDArray[np.floating], truth: NDArray[np.floating], stats: Statistics, kind: str
) -> Floats:
    """(...) mean absolute difference of (..., A) actions, each number normalised as for training.

    Args:
        kind: as for `training.data.norm.normalise`.
    """
    difference = normalise(found, stats, kind) - normalise(truth, stats, kind)
    return np.abs(difference).astype(np.float64).mean(-1)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _NOTHING)
