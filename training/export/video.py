"""One video file of a dataset: encoded in one run, so that a frame's time is its number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ego_ops.errors import UserError

CODEC = "h264"
_ENCODER = "libx264"
_OPTIONS = {
    "crf": "18",  # 38 dB against the shards' JPEGs, a quarter of their size
    "preset": "veryfast",
    "g": "5",  # a keyframe every 5 frames: what a reader decodes to reach any one
    "bf": "0",  # frames are stored as they are shown: no delay, first time stamp 0
}

Image = NDArray[np.uint8]


def encode(path: str, images: Iterable[Image], fps: int, size: tuple[int, int]) -> int:
    """Write (height, width, 3) RGB pictures as a video of `fps` frames a second.

    Frame n is shown at exactly n / fps seconds: time stamps are whole numbers of frames.

    Args:
        size: height and width, both even.

    Returns:
        How many there were.

    Raises:
        OSError, av.error.FFmpegError: it cannot be written.
    """
    tick, count = Fraction(1, fps), 0
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream(_ENCODER, rate=fps, options=_OPTIONS)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = tick
        stream.codec_context.thread_count = 1  # files are encoded side by side, one to a core
        for image in images:
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = count, tick
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def decode(path: str, fps: int) -> Iterator[Image]:
    """The (height, width, 3) RGB pictures of a file that `encode` wrote, each at its time.

    Raises:
        UserError: a frame is not where it should be, which no reader would forgive.
    """
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if frame.pts is None or frame.pts * stream.time_base != Fraction(number, fps):
                raise UserError(
                    f"{path}: frame {number} came out at {frame.time} s, not {number / fps:g} s: "
                    "this FFmpeg cannot write exact times; install another version of PyAV"
                )
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
