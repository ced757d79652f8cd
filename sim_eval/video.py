"""Pictures of an episode as a video that any browser plays."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from ego_ops.errors import UserError
from sim_eval.suite import Image

_OPTIONS = {"crf": "21", "preset": "veryfast"}
_GOP = 25
"""Frames from one that can be jumped to, to the next."""


def encode(frames: Iterable[Image], fps: float, about: Mapping[str, str] | None = None) -> bytes:
    """An H.264 MP4 whose index comes first, so that it plays while it loads.

    Frames are encoded as they come; memory holds one of them. The same ones give the same file.

    Args:
        frames: (H, W, 3), all of one size. One row or column more, a copy of the last, is added
            where a side is odd, which yuv420p does not have.
        fps: of the video.
        about: what players show of it: `title`, `comment`.

    Raises:
        UserError: there are no frames, one is not (H, W, 3) uint8 or not of the first one's size,
            or the encoder fails; or what `frames` raises.
    """
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise UserError("a video of no frames")
    if first.ndim != 3 or first.shape[2] != 3:
        raise UserError(f"frame 0 of a video is {first.shape}, not (height, width, 3)")
    try:
        # A file of its own: the index is put first by reading the file again.
        with tempfile.TemporaryDirectory(prefix="egoscaler-video-") as folder:
            path = Path(folder) / "video.mp4"
            _write(path, itertools.chain([first], rest), first.shape, fps, dict(about or {}))
            return path.read_bytes()
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot encode a video in {tempfile.gettempdir()}: {reason}") from error


def _write(
    path: Path, frames: Iterable[Image], size: tuple[int, ...], fps: float, about: dict[str, str]
) -> None:
    options = {"movflags": "faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata.update(about)
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(10_000), options=_OPTIONS
        )
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = _GOP
        context.thread_count = 1  # more would give another file on another machine
        # Untagged, browsers guess by the size which matrix the colours were made with.
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = (side + side % 2 for side in size[:2])
            if image.shape != size or image.dtype != np.uint8:
                raise UserError(
                    f"frame {number} of a video is {image.shape} {image.dtype}, not {size} uint8"
                )
            container.mux(stream.encode(_frame(image)))
        container.mux(stream.encode())


def _frame(image: Image) -> av.VideoFrame:
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    return frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
