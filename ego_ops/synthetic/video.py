"""Writing rendered frames as a video file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

H264 = {"crf": "19", "preset": "veryfast"}
"""Options of libx264 that keep corners sharp at a tenth of a second a large frame."""


def write_h264(
    path: Path, frames: Iterable[NDArray[np.uint8]], size: tuple[int, int], fps: float
) -> None:
    """An H.264 MP4 of `frames` (H, W, 3), as the Aria corpora and Ego4D have them."""
    _write(path, frames, size, fps, "libx264", H264, 30, None)


def write_mpeg4(
    path: Path, frames: Iterable[NDArray[np.uint8]], size: tuple[int, int], fps: float, rate: int
) -> None:
    """An MPEG-4 part 2 MP4 of `rate` bits a second, as EgoDex has them."""
    _write(path, frames, size, fps, "mpeg4", {}, 12, rate)


def _write(
    path: Path, frames: Iterable[NDArray[np.uint8]], size: tuple[int, int], fps: float,
    codec: str, options: Mapping[str, str], gop: int, rate: int | None,
) -> None:  # fmt: skip
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=dict(options))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        if rate is not None:
            stream.bit_rate = rate
        # One thread: the same frames give the same file.
        stream.codec_context.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    os.replace(part, path)
