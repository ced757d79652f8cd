"""From what was observed to the trajectory that is written, by the joint estimate."""

from __future__ import annotations

import numpy as np

from ego_ops import quality
from ego_ops.camera import PosePath
from ego_ops.geometry.estimate import estimate
from ego_ops.geometry.trajectory import quaternions
from ego_ops.perception.learned.perceived import LearnedPerceived
from ego_ops.pipeline import Extraction


def extract(perceived: LearnedPerceived) -> Extraction:
    """The object's trajectory from its tracks and their depth, on the uniform grid of steps.

    Raises:
        Rejection: the trajectory cannot be right, or nobody can vouch for it.
    """
    observed = perceived.observed
    found = estimate(observed)
    scores = quality.score_estimate(observed, found)
    scores["clock_offset_s"] = perceived.clock_offset
    quality.judge(scores)
    steps = np.clip(perceived.steps, observed.times[0], observed.times[-1])
    thing = PosePath(observed.times, found.object).held(steps)
    camera = PosePath(observed.times, found.camera).held(steps)
    first = camera[0].inv()  # the frames may begin before the steps do
    thing, camera = first * thing, first * camera
    nearest = np.abs(observed.times[None] - steps[:, None]).argmin(1)
    return Extraction(
        fps=perceived.fps,
        timestamps=perceived.steps,
        position=thing.translation,
        rotation=quaternions(thing),
        camera_position=camera.translation,
        camera_rotation=quaternions(camera),
        visible=found.observed[nearest],
        intrinsics=perceived.camera.params,
        image_size=(perceived.camera.width, perceived.camera.height),
        frames=perceived.frames,
        quality=scores,
    )
