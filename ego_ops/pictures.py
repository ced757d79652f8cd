"""A clip's window as pictures of an upright pinhole camera, whatever filmed it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ego_ops import video_pyav
from ego_ops.camera import Camera
from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError, DecodeError
from ego_ops.lens import rectify
from ego_ops.recording import Recording
from ego_ops.video import Frames, decode_window


def pictures(
    clip: Clip,
    recording: Recording,
    window: tuple[float, float],
    *,
    fps: float,
    max_side: int,
    backend: Literal["pyav", "decord"] = "pyav",
) -> tuple[Frames, Camera]:
    """Decode a window of a clip's video, with its lens undone.

    Args:
        window: start and end, seconds from the start of the video.
        fps, max_side, backend: as for `decode_window`.

    Returns:
        The frames, and the pinhole of the upright picture at the video's full size.

    Raises:
        DecodeError, AnnotationError, MissingFileError: see `decode_window`; also where the video
            is not of the shape that the calibration is for.
    """
    frames = decode_window(clip.video, *window, fps=fps, max_side=max_side, backend=backend)
    full = _full_size(clip, recording, frames.source_size)
    if recording.lens is None:
        return frames, full
    long = max(frames.images.shape[1:3])
    scale = long / max(full.width, full.height)
    scaled = full.scaled(round(full.width * scale), round(full.height * scale))
    return replace(frames, images=rectify(frames.images, recording.lens, scaled)), full


def _full_size(clip: Clip, recording: Recording, size: tuple[int, int]) -> Camera:
    """The pinhole for a video of `size`: videos are also published in smaller copies."""
    camera, lens = recording.camera, recording.lens
    stored = (camera.width, camera.height) if lens is None else lens.size
    if stored == size:
        return camera
    if abs(stored[0] * size[1] - stored[1] * size[0]) > max(*stored, *size):
        raise AnnotationError(
            f"{clip.video}: the video has {size[0]} x {size[1]} pixels, "
            f"its intrinsics are for {stored[0]} x {stored[1]}"
        )
    scale = size[0] / stored[0]
    return camera.scaled(round(camera.width * scale), round(camera.height * scale))


def picture_size(path: str) -> tuple[int, int]:
    """(width, height) of a video's upright picture, from its first frame.

    Raises:
        DecodeError, MissingFileError: see `decode_window`.
    """
    scaler = video_pyav.Scaler(16)
    with video_pyav.open_video(path, path) as video:
        for _, frame in video.frames_from(0.0):
            scaler(frame)
            return scaler.source_size
    raise DecodeError(f"{path}: no frame can be decoded")
