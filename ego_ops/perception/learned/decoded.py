"""A clip's frames and recording, decoded ahead of time where that is wanted."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ego_ops import corpora
from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError, Rejection
from ego_ops.perception.scene import Scene
from ego_ops.pictures import pictures
from ego_ops.video import Frames

FEWEST_FRAMES = 12
"""Frames below which a clip is too short to follow a thing in."""


@dataclass(frozen=True)
class Decoded:
    """T distinct frames of a clip and what surrounds it."""

    images: NDArray[np.uint8]
    """(T, H, W, 3)."""
    scene: Scene
    """The same in grey, with what was recorded of them; its recording's camera is that of the
    full upright picture."""
    frames: Frames
    """As they were decoded: one for each step, so that a frame may repeat."""


@dataclass(frozen=True)
class Decoding:
    """How a clip is decoded."""

    fps: float = 20.0
    max_side: int = 960
    decoder: Literal["pyav", "decord"] = "pyav"
    lead: float = 1.0
    """Seconds before an annotated interval that are looked at."""
    tail: float = 0.3
    """Seconds after it."""

    def __call__(self, clip: Clip) -> Decoded:
        """Decode a clip with what surrounds it; without that, where nothing was recorded of it.

        Raises:
            ClipError: the clip's files cannot be used, or it is too short.
        """
        wide = self._wide(clip)
        try:
            return self._decode(wide)
        except AnnotationError:
            if wide is clip:
                raise
            return self._decode(clip)

    def _wide(self, clip: Clip) -> Clip:
        if clip.interval != "annotated":
            return clip
        lead = math.floor(min(self.lead, clip.t_start) * self.fps) / self.fps  # keeps the steps
        return replace(clip, t_start=clip.t_start - lead, t_end=clip.t_end + self.tail)

    def _decode(self, clip: Clip) -> Decoded:
        recording = corpora.get(clip.corpus).recording(clip)
        frames, camera = pictures(
            clip, recording, (clip.t_start, clip.t_end),
            fps=self.fps, max_side=self.max_side, backend=self.decoder,
        )  # fmt: skip
        pts, kept = np.unique(frames.pts, return_index=True)
        if len(pts) < FEWEST_FRAMES:
            raise Rejection("too_short", f"{len(pts)} frames, {FEWEST_FRAMES} are needed")
        if recording.path is not None:
            recording.path.at(pts)  # else the surroundings are left out
        height, width = frames.images.shape[1:3]
        scaled = camera.scaled(width, height)
        scene = Scene(frames.gray()[kept], pts, scaled, replace(recording, camera=camera))
        images = frames.images if len(kept) == len(frames.images) else frames.images[kept]
        return Decoded(images, scene, frames)


class Ahead:
    """Clips that are decoded while another is worked on: in one thread, one clip ahead."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._begun: OrderedDict[str, Future[Decoded]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def begin(self, clip: Clip) -> None:
        """Begin to decode `clip`. Whatever was begun before the clip that is worked on now is
        given up, so that no more than two clips' frames are held."""
        with self._lock:
            if clip.clip_id in self._begun:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "decode")
            self._begun[clip.clip_id] = self._pool.submit(self._decoding, clip)
            while len(self._begun) > 2:
                self._begun.popitem(last=False)[1].cancel()

    def take(self, clip: Clip) -> Decoded:
        """The decoded clip: what was begun, or decoded now.

        Raises:
            ClipError: see `Decoding`.
        """
        with self._lock:
            begun = self._begun.pop(clip.clip_id, None)
        return self._decoding(clip) if begun is None else begun.result()
