"""From tracks to the trajectory that is written: the half of extraction that needs no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ego_ops import quality
from ego_ops.camera import Camera, PosePath
from ego_ops.geometry.object_motion import solve
from ego_ops.geometry.trajectory import quaternions, trajectory
from ego_ops.geometry.view import View
from ego_ops.pipeline import Extraction


@dataclass(frozen=True)
class Perceived:
    """What perception hands to geometry: tracks, and no pixels but the small JPEGs."""

    steps: NDArray[np.float64]
    """(S,) times of the trajectory's steps, seconds from the start of the video."""
    fps: float
    frames: list[bytes]
    """S JPEGs."""
    camera: Camera
    """Of the full upright picture; that of `object` is scaled."""
    object: View
    """N tracks of the manipulated object through T frames, outliers among them."""
    points: NDArray[np.float64]
    """(N, 3) where those points lay before it moved, in the world; NaN where unknown."""
    start: int
    """The frame in which the object begins to move."""
    background_rmse: float
    """Pixels by which the still background misses the camera path."""
    clock_offset: float
    """Seconds by which the recorded poses lead the video."""


def extract(perceived: Perceived) -> Extraction:
    """The object's trajectory from its tracks, on the uniform grid of steps.

    Raises:
        Rejection: the trajectory cannot be right, or nobody can vouch for it.
    """
    view = perceived.object
    moved = solve(view, perceived.points, perceived.start)
    result = trajectory(moved, view.path)
    error = view.from_object(moved.motion).error(moved.points)
    scores = quality.score(moved, result, view.times, view.visible, error)
    scores["background_rmse_px"] = perceived.background_rmse
    scores["clock_offset_s"] = perceived.clock_offset
    quality.judge(scores)
    steps = np.clip(perceived.steps, view.times[0], view.times[-1])
    thing = PosePath(view.times, result.object).held(steps)
    camera = PosePath(view.times, result.camera).held(steps)
    first = camera[0].inv()  # the frames may begin before the steps do
    thing, camera = first * thing, first * camera
    nearest = np.abs(view.times[None] - steps[:, None]).argmin(1)
    return Extraction(
        fps=perceived.fps,
        timestamps=perceived.steps,
        position=thing.translation,
        rotation=quaternions(thing),
        camera_position=camera.translation,
        camera_rotation=quaternions(camera),
        visible=moved.observed[nearest],
        intrinsics=perceived.camera.params,
        image_size=(perceived.camera.width, perceived.camera.height),
        frames=perceived.frames,
        quality=scores,
    )
