"""Targets that no program means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ego_ops.errors import UserError

Floats = NDArray[np.float64]

_UNIT = 1e-2
"""How far from 1 a quaternion's length may be."""
_DT = (1e-4, 0.5)
"""Seconds that may lie between two commands; a longer time is taken for the longest."""


class Impossible(UserError):
    """A target that no program means: what it is, its value, the limit. The arm is to stop."""


def numbers(what: str, values: ArrayLike, size: int) -> Floats:
    """An array (size,) of finite numbers. Raises Impossible."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise Impossible(f"{what}: {values!r}, must be {size} numbers") from error
    if array.shape != (size,):
        raise Impossible(f"{what}: an array of shape {array.shape}, must be ({size},)")
    if not np.isfinite(array).all():
        raise Impossible(f"{what}: {array.tolist()}, must be finite")
    return array


def seconds(dt: float) -> float:
    """Seconds between two commands. Raises ValueError."""
    if not dt >= _DT[0]:
        raise ValueError(f"dt {dt}: must be seconds, at least {_DT[0]}")
    return min(dt, _DT[1])


def check_unit(quaternion: Floats) -> None:
    """See that a quaternion's length is 1, or nearly. Raises Impossible."""
    length = math.hypot(*quaternion.tolist())
    if abs(length - 1) > _UNIT:
        raise Impossible(
            f"rotation: quaternion {quaternion.tolist()} of length {length:.4g}, must be 1"
        )


def near(what: str, step: Floats, beyond: float, unit: str) -> None:
    """See that a displacement is no longer than `beyond`. Raises Impossible."""
    length = math.hypot(*step.tolist())
    if length > beyond:
        raise Impossible(
            f"{what}: target {length:.4g} {unit} from the last command, must be at most {beyond:g}"
        )


def inside(
    values: Floats, low: Floats | float, high: Floats | float, names: list[str], unit: str
) -> None:
    """See that all values are from low to high. Raises Impossible."""
    low, high = np.broadcast_to(low, values.shape), np.broadcast_to(high, values.shape)
    for at in np.flatnonzero((values < low) | (values > high)):
        raise Impossible(
            f"{names[at]}: {values[at]:.4g} {unit}".rstrip()
            + f", must be from {low[at]:g} to {high[at]:g}"
        )
