"""The frames of one time window of a video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ego_ops import video_decord, video_pyav, video_vrs
from ego_ops.errors import AnnotationError, DecodeError, UserError

MAX_OFFSET = 0.5
"""Seconds that a step may lie from its frame, and a window's end past the video's end."""

MAX_WINDOW = 600.0
"""Seconds: a longer interval is a mistake in the annotation, and would not fit into memory."""

SLACK = 1e-3
"""Seconds: annotations are rounded to milliseconds, so a frame this little early is still in."""

TIE = 1e-6
"""Seconds: distances that differ by less are equal, and the earlier frame is taken."""

RATE_SLACK = 1e-3
"""Relative: a video this little faster than the rate asked for keeps its own frames."""


ROOM = 256
"""Frames there is room for at first; more take a copy each time the room is doubled."""


@dataclass(frozen=True)
class Frames:
    """Frames of a window, one for each of T steps."""

    images: NDArray[np.uint8]
    """(T, H, W, 3) RGB, upright and scaled."""
    times: NDArray[np.float64]
    """(T,) the steps, in seconds from the video's first displayed frame: a uniform grid of
    `fps`, or each frame's own pts where the video is not faster than what was asked for."""
    pts: NDArray[np.float64]
    """(T,) seconds: when the image of each step is displayed. A frame repeats only where the
    video has a gap."""
    fps: float
    """Steps a second: the rate asked for, or the video's own average where that is lower."""
    source_size: tuple[int, int]
    """(width, height) of the upright video before scaling."""
    source_fps: float
    """The video's average frame rate."""

    def gray(self) -> NDArray[np.uint8]:
        """(T, H, W) luma of the images."""
        return np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in self.images])


def decode_window(
    path: str,
    t_start: float,
    t_end: float,
    *,
    fps: float = 20.0,
    max_side: int | None = None,
    backend: Literal["pyav", "decord"] = "pyav",
) -> Frames:
    """Decode the frames nearest to the steps `t_start + k / fps < t_end` of a video.

    Second 0 is the first displayed frame, whatever the container's clock says. A video not
    faster than `fps` gives its own frames of the window instead, without repeats. Decoding
    begins at the keyframe before the window and stops right after it; only frames that are kept
    are scaled and converted. A packet that cannot be decoded costs the frames up to the next
    keyframe, since they would be built on a wrong picture; the others keep their own times.
    (Damage that the decoder takes for a picture stays unseen: one flipped bit in a hundred in
    H.264, one in four in HEVC.) Rotation metadata is applied; a sample aspect ratio is not, so
    pixels stay those of the intrinsics.

    Args:
        path: local file, or an fsspec URL (`s3://…`; PyAV only). A `.vrs` file, which must be
            local, is read with projectaria-tools and gives the sensor's own picture.
        max_side: longest side of the images in pixels; None keeps the video's size.
        backend: "pyav", or "decord": the same frames, each checked against PyAV's.

    Raises:
        AnnotationError: the interval is not finite, begins before 0, ends before it begins or is
            longer than `MAX_WINDOW`.
        DecodeError: not a video, nothing to decode in the window, the window ends more than
            `MAX_OFFSET` after the video, or a moment of it has no frame within `MAX_OFFSET`.
        MissingFileError: the file does not exist or may not be read.
        StorageError: the storage failed while reading.
        UserError: the backend is unknown, not installed, or cannot read such a path.
        ValueError: `fps` or `max_side` is not positive.
    """
    where = f"{path}, {t_start:.3f} s to {t_end:.3f} s"
    _check_request(where, t_start, t_end, fps, max_side, backend)
    if backend == "decord":
        if video_vrs.is_vrs(path):
            raise UserError(f"{where}: decord reads no VRS files; use the pyav backend")
        video_decord.check_usable(path, where)
    scaler = video_pyav.Scaler(max_side if backend == "pyav" else video_decord.THUMBNAIL)
    opened = video_vrs.open_video if video_vrs.is_vrs(path) else video_pyav.open_video
    with opened(path, where) as video:
        tape = _Tape(video.frames_from(t_start))
        native = video.fps <= fps * (1 + RATE_SLACK)
        if native:
            chosen = _frames_within(tape, t_start, t_end)
        else:
            chosen = _nearest_frames(tape, _steps(t_start, t_end, fps), 1 / video.fps)
        times, pts, images = _collect(chosen, scaler)
        end = _check_end(where, t_start, t_end, tape, video.fps)
        moments = _steps(t_start, min(t_end, end), video.fps) if native else times
        _check_gaps(where, moments, pts)
        if backend == "decord" and isinstance(video, video_pyav.Video):
            size = video_pyav.scaled_size(scaler.source_size, max_side)
            images = video_decord.read(path, pts, size, images, video.decoded, where)
    rate = video.fps if native else fps
    return Frames(images, times, pts, rate, scaler.source_size, video.fps)


def _check_request(
    where: str, t_start: float, t_end: float, fps: float, max_side: int | None, backend: str
) -> None:
    if not (math.isfinite(t_start) and math.isfinite(t_end)):
        raise AnnotationError(f"{where}: the interval is not finite")
    if t_start < 0 or t_end < t_start:
        raise AnnotationError(f"{where}: the interval begins before 0 or ends before it begins")
    if t_end - t_start > MAX_WINDOW:
        raise AnnotationError(f"{where}: the interval is longer than {MAX_WINDOW:.0f} s")
    if t_end == t_start:
        raise DecodeError(f"{where}: the window is empty")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive, not {fps}")
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side must be positive, not {max_side}")
    if backend not in ("pyav", "decord"):
        raise UserError(f"unknown video backend {backend!r}; known: pyav, decord")


def _steps(t_start: float, t_end: float, fps: float) -> NDArray[np.float64]:
    count = max(1, math.ceil((t_end - t_start) * fps - TIE))
    return t_start + np.arange(count) / fps


class _Tape:
    """Passes frames on and remembers how far the video was read.

    Attributes:
        last: pts of the last frame read; -inf before the first.
        ended: whether the video ran out of frames.
    """

    def __init__(self, frames: Iterable[tuple[float, VideoFrame]]):
        self._frames = frames
        self.last = -math.inf
        self.ended = False

    def __iter__(self) -> Iterator[tuple[float, VideoFrame]]:
        for pts, frame in self._frames:
            self.last = pts
            yield pts, frame
        self.ended = True


def _frames_within(
    frames: Iterable[tuple[float, VideoFrame]], t_start: float, t_end: float
) -> Iterator[tuple[float, float, VideoFrame]]:
    """Yield (step, pts, frame) for every frame of the window, the step being the pts."""
    for pts, frame in frames:
        if pts >= t_end - SLACK:
            return
        if pts >= t_start - SLACK:
            yield pts, pts, frame


def _nearest_frames(
    frames: Iterable[tuple[float, VideoFrame]], steps: NDArray[np.float64], duration: float
) -> Iterator[tuple[float, float, VideoFrame]]:
    """Yield (step, pts, frame) with the frame nearest to each step, holding two frames at most.

    Steps at which the last frame, shown for `duration` seconds, is over are left out.
    """
    k = 0
    earlier: tuple[float, VideoFrame] | None = None
    for pts, frame in frames:
        while k < len(steps) and steps[k] <= pts:
            step = float(steps[k])
            if earlier is not None and step - earlier[0] <= pts - step + TIE:
                yield step, *earlier
            else:
                yield step, pts, frame
            k += 1
        if k == len(steps):
            return
        earlier = pts, frame
    if earlier is not None:
        for step in steps[k:][steps[k:] < earlier[0] + duration - SLACK]:
            yield float(step), *earlier


def _collect(
    chosen: Iterator[tuple[float, float, VideoFrame]], scaler: video_pyav.Scaler
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Scale the chosen frames as they come; returns (steps, pts, images)."""
    times: list[float] = []
    pts: list[float] = []
    images = np.empty((0, 0, 0, 3), np.uint8)
    for time, shown, frame in chosen:
        k = len(times)
        if k == 0:
            image = scaler(frame)
            # Memory is not touched, so not used, before a frame is written into it.
            images = np.empty((ROOM, *image.shape), np.uint8)
        elif shown != pts[-1]:
            image = scaler(frame)
        if k == len(images):
            images = np.concatenate([images, np.empty_like(images)])
        images[k] = image
        times.append(time)
        pts.append(shown)
    return np.array(times), np.array(pts), images[: len(times)]


def _check_end(where: str, t_start: float, t_end: float, tape: _Tape, source_fps: float) -> float:
    """Where the video ends in seconds (inf if it goes on after the window).

    Raises:
        DecodeError: no frame can be decoded, or the window is not within the video.
    """
    if not tape.ended:
        return math.inf
    if tape.last == -math.inf:
        raise DecodeError(f"{where}: no frame can be decoded")
    end = tape.last + 1 / source_fps
    if t_start > end - SLACK or t_end > end + MAX_OFFSET:
        raise DecodeError(f"{where}: the video ends at {end:.3f} s")
    return end


def _check_gaps(where: str, moments: NDArray[np.float64], pts: NDArray[np.float64]) -> None:
    """Raise DecodeError unless every one of `moments` has one of `pts` within `MAX_OFFSET`."""
    if not len(pts):
        raise DecodeError(f"{where}: no frame is displayed within the window")
    after = np.searchsorted(pts, moments).clip(1, max(1, len(pts) - 1))
    nearest = np.minimum(
        np.abs(moments - pts[after - 1]), np.abs(moments - pts[np.minimum(after, len(pts) - 1)])
    )
    worst = int(nearest.argmax())
    if nearest[worst] > MAX_OFFSET:
        raise DecodeError(
            f"{where}: no frame can be decoded within {MAX_OFFSET} s of {moments[worst]:.3f} s"
        )
