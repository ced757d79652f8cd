"""Normalisation of states and actions, with statistics in openpi's `norm_stats.json`.

As openpi normalises, but for numbers that hardly vary: a heavy tail on a spread of next to nothing
would make values of hundreds. The spread is no less than 5 % of the range from least to largest
here, so that no value of the data goes beyond -20 to 20; a number that never varies becomes 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable

KINDS = ("mean_std", "quantile")
_FLOOR = 0.05
_EPSILON = 1e-6
_NOTHING = 1e-6
"""A range or spread up to this, of the numbers' size where that is more than 1, is none."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of one array's last axis, D numbers."""

    mean: Floats
    std: Floats
    q01: Floats
    q99: Floats
    min: Floats | None = None
    """None where a file, as openpi's, does not say."""
    max: Floats | None = None
    count: int | None = None
    """Of how many vectors."""


@dataclass(frozen=True)
class NormStats:
    """What a source is normalised by."""

    state: Statistics
    actions: Statistics


def normalise(values: ArrayLike, stats: Statistics, kind: str) -> NDArray[np.float32]:
    """Values (..., D) as the model sees them.

    Args:
        kind: `mean_std`: mean 0, standard deviation 1; `quantile`: 1st to 99th percentile from -1
            to 1.
    """
    centre, spread = _affine(stats, kind)
    shifted = np.asarray(values, np.float64) - centre
    varies = spread > 0
    return (shifted * varies / np.where(varies, spread, 1)).astype(np.float32)


def unnormalise(values: ArrayLike, stats: Statistics, kind: str) -> NDArray[np.float32]:
    """The inverse of `normalise`; a number that never varied is what it always was."""
    centre, spread = _affine(stats, kind)
    return (np.asarray(values, np.float64) * spread + centre).astype(np.float32)


def checked(stats: NormStats, state_size: int, action_size: int, name: str) -> NormStats:
    """The same statistics.

    Raises:
        UserError: they are for another number of numbers than source `name` has.
    """
    for what, each, size in (
        ("state", stats.state, state_size),
        ("actions", stats.actions, action_size),
    ):
        if len(each.mean) != size:
            raise UserError(
                f"source {name}: its {what} has {size} numbers, its normalisation statistics are "
                f"for {len(each.mean)}: compute them again, or take those of the same robot"
            )
    return stats


def to_json(stats: NormStats) -> str:
    """The content of a `norm_stats.json`."""
    groups = {"state": stats.state, "actions": stats.actions}
    return json.dumps({"norm_stats": {name: _written(one) for name, one in groups.items()}})


def from_json(text: str, where: str) -> NormStats:
    """Statistics from the content of a `norm_stats.json`.

    Args:
        where: names the file, for errors.

    Raises:
        UserError: it is none, or its numbers are not finite or not of one length.
    """
    try:
        groups = json.loads(text)["norm_stats"]
        return NormStats(_parsed(groups["state"]), _parsed(groups["actions"]))
    except KeyError as error:
        raise UserError(f"{where}: no normalisation statistics ({error} is missing)") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: no normalisation statistics ({error})") from error


def read(path: str | Path) -> NormStats:
    """Read a `norm_stats.json`.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        return from_json(Path(path).read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read normalisation statistics ({error})") from error


def write(path: str | Path, stats: NormStats) -> None:
    """Write a `norm_stats.json`.

    Raises:
        UserError: the file system refuses.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(to_json(stats))
    except OSError as error:
        raise unwritable(str(path), error) from error


def _affine(stats: Statistics, kind: str) -> tuple[Floats, Floats]:
    """(D,) what is subtracted, and what is divided by, 0 for a number that never varies."""
    if kind == "mean_std":
        centre, spread = stats.mean, stats.std
    elif kind == "quantile":
        spread = (stats.q99 - stats.q01) / 2
        centre = stats.q01 + spread + _EPSILON / 2
    else:
        raise UserError(f"normalise {kind}: no such normalisation; there are {', '.join(KINDS)}")
    extent = stats.std
    if stats.min is not None and stats.max is not None:
        extent = stats.max - stats.min
        spread = np.maximum(spread, _FLOOR * extent)
    constant = extent <= _NOTHING * np.maximum(1, np.abs(stats.mean))
    epsilon = _EPSILON if kind == "mean_std" else _EPSILON / 2
    return np.where(constant, stats.mean, centre), np.where(constant, 0, spread + epsilon)


def _written(stats: Statistics) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(stats).items()
        if value is not None
    }


def _parsed(group: dict[str, Any]) -> Statistics:
    arrays = {}
    for name in ("mean", "std", "q01", "q99", "min", "max"):
        if group.get(name) is None and name in ("min", "max"):
            continue
        arrays[name] = np.atleast_1d(np.asarray(group[name], np.float64))
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} is not finite")
    if (arrays["std"] < 0).any() or (arrays["q01"] > arrays["q99"]).any():
        raise ValueError("std is negative, or q01 above q99")
    if len({array.shape for array in arrays.values()}) > 1 or arrays["mean"].ndim != 1:
        raise ValueError("its arrays are not of one length")
    return Statistics(**arrays, count=group.get("count"))
