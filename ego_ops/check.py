"""Whether what a pipeline gave is fit to be written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego_ops.pipeline import Extraction
from ego_ops.quality import SCORES

SHAPES: dict[str, tuple[int, ...]] = {
    "timestamps": (),
    "position": (3,),
    "rotation": (4,),
    "camera_position": (3,),
    "camera_rotation": (4,),
    "visible": (),
    "intrinsics": (4,),
}
"""Arrays of an `Extraction`: the shape of one step, but of all for `intrinsics`."""

_KNOWN = frozenset(SCORES)


def invalid(results: Sequence[Any]) -> dict[int, str]:
    """Which of `results` are no sound `Extraction`s, by their index, and what is wrong with each.

    The numbers of all are checked together: for one clip alone numpy's calls cost more than its
    arithmetic.
    """
    wrong: dict[int, str] = {}
    sound: dict[int, Mapping[str, NDArray[np.float64]]] = {}
    for index, result in enumerate(results):
        try:
            sound[index] = _arrays(result)
        except (ValueError, TypeError, AttributeError) as error:
            wrong[index] = str(error)
    if sound:
        for at, what in _numbers(list(sound.values())).items():
            wrong[list(sound)[at]] = what
    return wrong


def _arrays(result: Extraction) -> dict[str, NDArray[np.float64]]:
    """The arrays of one result. Raises ValueError, TypeError or AttributeError."""
    count = len(result.timestamps)
    if count < 1:
        raise ValueError("a trajectory of no steps")
    arrays = {name: np.asarray(getattr(result, name), np.float64) for name in SHAPES}
    for name, shape in SHAPES.items():
        wanted = (count, *shape) if name != "intrinsics" else shape
        if arrays[name].shape != wanted:
            raise ValueError(f"{name} has shape {arrays[name].shape}, not {wanted}")
    if not (math.isfinite(result.fps) and result.fps > 0):
        raise ValueError(f"fps is {result.fps}")
    if len(result.frames) != count:
        raise ValueError(f"{len(result.frames)} frames for {count} steps")
    for frame in result.frames:
        if not (isinstance(frame, bytes) and frame.startswith(b"\xff\xd8")):
            raise ValueError("a frame is not a JPEG")
    if len(result.image_size) != 2 or min(result.image_size) < 1:
        raise ValueError(f"image_size is {result.image_size}")
    if strangers := result.quality.keys() - _KNOWN:
        raise ValueError(f"unknown scores: {', '.join(sorted(strangers))}")
    for value in result.quality.values():
        float(value)
    return arrays


def _numbers(many: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[int, str]:
    """What is wrong with the values of arrays whose shapes are right."""
    wrong: dict[int, str] = {}
    counts = np.array([len(arrays["timestamps"]) for arrays in many])
    owner = np.repeat(np.arange(len(many)), counts)
    for name in SHAPES:
        flat = np.concatenate([np.atleast_1d(arrays[name]) for arrays in many])
        rows_of = owner if name != "intrinsics" else np.repeat(np.arange(len(many)), 4)
        finite = np.isfinite(flat).reshape(len(rows_of), -1).all(1)
        for at in rows_of[~finite]:
            wrong.setdefault(int(at), f"{name} is not finite")
        if name.endswith("rotation"):
            norms = np.linalg.norm(flat, axis=1)
            for row in np.flatnonzero(np.abs(norms - 1) > 1e-3):
                wrong.setdefault(int(owner[row]), f"{name} has a quaternion of norm {norms[row]}")
        if name == "timestamps":
            falls = np.flatnonzero((np.diff(flat) <= 0) & (owner[1:] == owner[:-1]))
            for at in owner[falls]:
                wrong.setdefault(int(at), "timestamps do not rise")
    return wrong
