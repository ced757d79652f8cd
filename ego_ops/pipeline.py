"""What turns one clip into one trajectory: the contract between `ego_ops` and the workflows.

A pipeline has two halves, so that a cluster can run them on different machines: `perceive`
(decoding and perception; a GPU where there is one) and `solve` (geometry; CPU only). What passes
between them is picklable and a few hundred kilobytes.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ego_ops.clip import Clip
from ego_ops.errors import UserError
from ego_ops.options import wrong


@dataclass(frozen=True)
class Extraction:
    """The trajectory of the manipulated object in one clip, ready to be written.

    T steps on a uniform grid of `fps`. Poses are in the camera frame of the first step (OpenCV
    axes, metres); quaternions are scalar-last (x, y, z, w).
    """

    fps: float
    timestamps: NDArray[np.float64]
    """(T,) seconds from the start of the video."""
    position: NDArray[np.float64]
    """(T, 3) origin of the object: T_first_object."""
    rotation: NDArray[np.float64]
    """(T, 4) orientation of the object: T_first_object."""
    camera_position: NDArray[np.float64]
    """(T, 3) T_first_camera."""
    camera_rotation: NDArray[np.float64]
    """(T, 4) T_first_camera."""
    visible: NDArray[np.bool_]
    """(T,) whether the object was observed at that step, not bridged over."""
    intrinsics: NDArray[np.float64]
    """(4,) fx, fy, cx, cy in pixels of the source video, upright and with its lens undone."""
    image_size: tuple[int, int]
    """(width, height) of the source video, upright and with its lens undone."""
    frames: list[bytes]
    """T JPEGs of 224 x 224 (letterboxed), the video's frame nearest to each step."""
    quality: Mapping[str, float]
    """Scores by name, those of `ego_ops.quality.SCORES`."""


class Pipeline(Protocol):
    """Two halves of the work on a clip. Both raise `ClipError`s for what is the clip's fault.

    Both halves are methods of one object, but on a cluster each runs in processes of its own that
    build the whole object: what only one half needs, weights above all, is loaded at its first use.

    A pipeline may also have a method `prefetch(clip)`, which is called with the clip that comes
    after the one it is asked for next, and returns at once: it may begin to decode that.
    """

    def perceive(self, clip: Clip) -> Any:
        """Decode the clip and find its tracks. Returns something picklable for `solve`."""

    def solve(self, clip: Clip, perceived: Any) -> Extraction:
        """Turn what was perceived into a trajectory."""


PIPELINES = {
    "geometric": "ego_ops.perception.geometric:GeometricPipeline",
    "learned": "ego_ops.perception.learned.pipeline:LearnedPipeline",
}
"""Pipelines by the name that `--perception` takes; `module:Class` names one of your own."""


def load(name: str, options: Mapping[str, Any]) -> Pipeline:
    """Build the pipeline `name` (a key of `PIPELINES`, or `module:Class`) with `options`.

    Raises:
        UserError: there is no such pipeline, or an option is none of its own or of another type.
    """
    target = PIPELINES.get(name, name)
    module, _, attribute = target.partition(":")
    try:
        made: Pipeline = getattr(importlib.import_module(module), attribute)(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        known = ", ".join(sorted(PIPELINES))
        raise UserError(
            f"--perception {name}: cannot load it ({error}); known: {known}, or module:Class"
        ) from error
    if dataclasses.is_dataclass(made) and (fault := wrong(made)):
        raise UserError(f"--perception {name}: {fault}")
    return made
