"""A pipeline that does nothing, so that what is left is the machinery around it."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from ego_ops.clip import Clip
from ego_ops.pipeline import Extraction

STEPS = 80
FRAME_BYTES = 5000


class Null:
    """Gives every clip the same trajectory, made beforehand.

    Args:
        steps: length of the trajectory.
        frame_bytes: size of each of its pictures.
    """

    def __init__(self, steps: int = 4, frame_bytes: int = 16):
        ahead = np.zeros((steps, 3)) + np.linspace(0, 1, steps)[:, None]
        upright = np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
        self._offsets = np.arange(steps) / 20
        self._result = Extraction(
            fps=20.0,
            timestamps=self._offsets,
            position=ahead,
            rotation=upright,
            camera_position=ahead,
            camera_rotation=upright,
            visible=np.ones(steps, bool),
            intrinsics=np.array([500.0, 500.0, 320.0, 240.0]),
            image_size=(640, 480),
            frames=[b"\xff\xd8" + os.urandom(frame_bytes - 2) for _ in range(steps)],
            quality={"travel_m": 1.0, "depth_m": 0.5},
        )
        self._frames = b"".join(self._result.frames)

    def perceive(self, clip: Clip) -> bytes:
        return self._frames

    def solve(self, clip: Clip, perceived: bytes) -> Extraction:
        return replace(self._result, timestamps=self._offsets + clip.t_start)
