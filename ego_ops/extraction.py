"""From tracks to the trajectory that is written: the half of extraction that needs no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops import quality
from ego_ops.camera import Camera, PosePath
from ego_ops.geometry.estimate import estimate
from ego_ops.geometry.object_motion import solve
from ego_ops.geometry.observed import Observed
from ego_ops.geometry.trajectory import quaternions, trajectory
from ego_ops.geometry.view import View
from ego_ops.pipeline import Extraction


@dataclass(frozen=True)
class Asked:
    """The steps that a trajectory is asked for, and what is written beside it."""

    steps: NDArray[np.float64]
    """(S,) seconds from the start of the video."""
    fps: float
    frames: list[bytes]
    """S JPEGs."""
    camera: Camera
    """Of the full upright picture; that of the tracks is scaled."""


@dataclass(frozen=True)
class Perceived:
    """What perception hands to geometry: tracks, and no pixels but the small JPEGs."""

    asked: Asked
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
    return _on_steps(
        perceived.asked, view.times, result.object, result.camera, moved.observed, scores
    )


def extract_jointly(asked: Asked, observed: Observed, clock_offset: float) -> Extraction:
    """The object's trajectory by the joint estimate, on the uniform grid of steps.

    Args:
        clock_offset: seconds by which the recorded poses lead the video.

    Raises:
        Rejection: the trajectory cannot be right, or nobody can vouch for it.
    """
    found = estimate(observed)
    scores = quality.score_estimate(observed, found)
    scores["clock_offset_s"] = clock_offset
    quality.judge(scores)
    return _on_steps(asked, observed.times, found.object, found.camera, found.observed, scores)


def _on_steps(
    asked: Asked,
    times: NDArray[np.float64],
    thing: RigidTransform,
    camera: RigidTransform,
    observed: NDArray[np.bool_],
    scores: dict[str, float],
) -> Extraction:
    """T poses at `times`, of the object and of the camera, as S of them in the camera frame of the
    first step.

    Args:
        observed: (T,) frames that show the object's pose.
    """
    steps = np.clip(asked.steps, times[0], times[-1])
    thing, camera = (PosePath(times, poses).held(steps) for poses in (thing, camera))
    first = camera[0].inv()  # the frames may begin before the steps do
    thing, camera = first * thing, first * camera
    nearest = np.abs(times[None] - steps[:, None]).argmin(1)
    return Extraction(
        fps=asked.fps,
        timestamps=asked.steps,
        position=thing.translation,
        rotation=quaternions(thing),
        camera_position=camera.translation,
        camera_rotation=quaternions(camera),
        visible=observed[nearest],
        intrinsics=asked.camera.params,
        image_size=(asked.camera.width, asked.camera.height),
        frames=asked.frames,
        quality=scores,
    )
