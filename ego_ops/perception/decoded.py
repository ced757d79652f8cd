"""A clip's frames and recording, decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ego_ops import corpora
from ego_ops.clip import Clip
from ego_ops.errors import Rejection, UserError
from ego_ops.extraction import Asked
from ego_ops.jpeg import encode_jpegs
from ego_ops.perception.scene import Scene
from ego_ops.pictures import pictures
from ego_ops.video import SLACK, Frames

LEAST_SIDE = 64
"""Pixels below which pictures show nothing that can be followed."""
FEWEST_FRAMES = 12
"""Frames below which a clip is too short to see a thing lie, move and lie."""


@dataclass(frozen=True)
class Decoded:
    """T distinct frames of a clip."""

    images: NDArray[np.uint8]
    """(T, H, W, 3)."""
    scene: Scene
    """The same in grey, with what was recorded of them; its recording's camera is that of the
    full upright picture."""
    frames: Frames
    """As they were decoded: one for each step, so that a frame may repeat."""

    def asked(self, interval: tuple[float, float]) -> Asked:
        """The steps within an interval, seconds from the start of the video.

        Raises:
            Rejection: there are fewer than two (`too_short`).
        """
        frames = self.frames
        steps = (frames.times > interval[0] - SLACK) & (frames.times < interval[1] - SLACK)
        if steps.sum() < 2:
            raise Rejection("too_short", f"{steps.sum()} steps, two are needed")
        return Asked(
            steps=frames.times[steps],
            fps=frames.fps,
            frames=encode_jpegs(frames.images[steps]),
            camera=self.scene.recording.camera,
        )


@dataclass(frozen=True)
class Decoding:
    """How a clip is decoded."""

    fps: float = 20.0
    max_side: int = 960
    decoder: Literal["pyav", "decord"] = "pyav"

    def __post_init__(self) -> None:
        if not self.fps > 0 or self.max_side < LEAST_SIDE:
            raise UserError(
                f"fps={self.fps}, max_side={self.max_side}: fps must be above 0, max_side "
                f"{LEAST_SIDE} or more"
            )

    def __call__(self, clip: Clip) -> Decoded:
        """Decode a clip.

        Raises:
            ClipError: the clip's files cannot be used, or it is too short.
        """
        recording = corpora.get(clip.corpus).recording(clip)
        frames, camera = pictures(
            clip, recording, (clip.t_start, clip.t_end),
            fps=self.fps, max_side=self.max_side, backend=self.decoder,
        )  # fmt: skip
        pts, kept = np.unique(frames.pts, return_index=True)
        if len(pts) < FEWEST_FRAMES:
            raise Rejection("too_short", f"{len(pts)} frames, {FEWEST_FRAMES} are needed")
        height, width = frames.images.shape[1:3]
        scaled = camera.scaled(width, height)
        scene = Scene(frames.gray()[kept], pts, scaled, replace(recording, camera=camera))
        images = frames.images if len(kept) == len(frames.images) else frames.images[kept]
        return Decoded(images, scene, frames)
