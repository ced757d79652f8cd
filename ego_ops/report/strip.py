"""Film strips: frames of a clip with its trajectory drawn into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops import corpora
from ego_ops.camera import Camera
from ego_ops.clip import Clip
from ego_ops.errors import ClipError, UserError
from ego_ops.pictures import pictures
from ego_ops.pipeline import Extraction
from ego_ops.recording import Recording
from ego_ops.report.record import source_camera
from ego_ops.video import decode_window

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

WIDTH = 480
"""Pixels of the longer side of a picture taken from the video."""
AXIS = 0.05
"""Length of the drawn axes of the object, metres."""
OURS, TRUE, FUTURE = (255, 176, 0), (0, 229, 255), (255, 225, 150)
AXES = ((255, 64, 64), (64, 220, 64), (80, 140, 255))


@dataclass(frozen=True)
class Still:
    """One picture of a strip."""

    jpeg: bytes
    time: float
    """Seconds from the start of the video."""
    observed: bool


def steps_to_show(found: Extraction, count: int = 8) -> list[int]:
    """Steps, rising, spread half by time and half by the way that the object goes."""
    if len(found.timestamps) <= count:
        return list(range(len(found.timestamps)))
    way = np.linalg.norm(np.diff(found.position, axis=0), axis=1)
    passed = np.diff(found.timestamps) / np.ptp(found.timestamps)
    progress = np.concatenate([[0], np.cumsum(passed + way / max(way.sum(), 1e-9))])
    wanted = np.linspace(0, progress[-1], count)
    return sorted({int(np.abs(progress - mark).argmin()) for mark in wanted})


def drawn_strip(
    found: Extraction, clip: Clip | None, truth: RigidTransform | None = None, count: int = 8
) -> tuple[list[Still], str]:
    """Pictures of a clip with the object's path and axes.

    Args:
        clip: says where the video is; None if that is not known. The small pictures of
            `found.frames` serve where it cannot be read.
        truth: T poses T_first_object, drawn as a second path.

    Returns:
        The pictures, none if there are neither video nor frames, and why the video was not used,
        or "".
    """
    steps = steps_to_show(found, count)
    images, camera, why = _pictures(found, clip, steps)
    paths = Paths(found, truth)
    stills = []
    for step, image in zip(steps, images, strict=False):
        paths.draw(image, camera, step)
        stills.append(Still(_jpeg(image), float(found.timestamps[step]), bool(found.visible[step])))
    return stills, why


def plain_strip(clip: Clip | None, count: int = 4) -> tuple[list[Still], str]:
    """Pictures of a clip that has no trajectory; see `drawn_strip`."""
    if clip is None:
        return [], "the manifest that names its video is not at hand"
    times = np.linspace(clip.t_start, clip.t_end, count, endpoint=False)
    try:
        images = _frames(clip, times, fps=2.0)
    except (ClipError, UserError) as error:
        return [], str(error)
    return [Still(_jpeg(i), float(t), True) for i, t in zip(images, times, strict=True)], ""


class Paths:
    """The paths of the object, ours and the true one, ready to be drawn into any frame."""

    def __init__(self, found: Extraction, truth: RigidTransform | None = None):
        self._object = RigidTransform.from_components(
            found.position, Rotation.from_quat(found.rotation)
        )
        self._camera = RigidTransform.from_components(
            found.camera_position, Rotation.from_quat(found.camera_rotation)
        )
        self._truth = truth

    def pixels(self, camera: Camera, step: int) -> tuple[Floats, Floats, Floats | None]:
        """What the camera sees at one step.

        Returns:
            (T, 2) pixels of our path, (4, 2) of the object's origin and the tips of its axes at
            that step, (T, 2) of the true path or None. NaN behind the camera.
        """
        view = self._camera[step].inv()
        axes = (view * self._object[step]).apply(np.vstack([np.zeros(3), np.eye(3) * AXIS]))
        truth = None
        if self._truth is not None:
            truth = camera.project(view.apply(self._truth.translation))
        path = camera.project(view.apply(self._object.translation))
        return path, camera.project(axes), truth

    def draw(self, image: Image, camera: Camera, step: int) -> None:
        """Draw the past path solid, the future faint and the object's axes into an RGB image."""
        path, axes, truth = self.pixels(camera, step)
        size = max(1.0, max(image.shape[:2]) / 400)
        faint = image.copy()
        if truth is not None:  # a band, of which the edges are seen where ours lies on it
            _line(faint, truth, TRUE, 4 * size)
        _line(faint, path[step:], FUTURE, size)
        cv2.addWeighted(faint, 0.6, image, 0.4, 0, dst=image)
        _line(image, path[: step + 1], OURS, 2.5 * size, outline=truth is None)
        for tip, colour in zip(axes[1:], AXES, strict=True):
            _line(image, np.stack([axes[0], tip]), colour, 2 * size, outline=True)
        if truth is not None:
            _dot(image, truth[step], TRUE, 3 * size)
        _dot(image, axes[0], OURS, 2.5 * size)


def _pictures(
    found: Extraction, clip: Clip | None, steps: Sequence[int]
) -> tuple[list[Image], Camera, str]:
    """Pictures at `steps`, the camera that took them, and why they are not from the video."""
    source = source_camera(found)
    why = "the manifest that names its video is not at hand"
    if clip is not None:
        try:
            images = _frames(clip, found.timestamps[steps], found.fps)
            return images, source.scaled(images[0].shape[1], images[0].shape[0]), ""
        except (ClipError, UserError) as error:
            why = str(error)
    if not found.frames:
        return [], source, f"{why}; the shards hold no pictures either"
    small = [cv2.imdecode(np.frombuffer(found.frames[s], np.uint8), 1) for s in steps]
    if any(image is None for image in small):
        return [], source, f"{why}; the pictures in the shards cannot be decoded"
    rgb = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) for image in small]
    return rgb, source.letterboxed(rgb[0].shape[0]), why


def _frames(clip: Clip, times: Floats, fps: float) -> list[Image]:
    """The frames nearest to `times`, each on its own, so that a long clip needs no memory."""
    try:
        recording = corpora.get(clip.corpus).recording(clip)
    except (ClipError, UserError):  # what failed for its recording can still be shown
        recording = None
    return [_frame(clip, recording, time, fps) for time in times.tolist()]


def _frame(clip: Clip, recording: Recording | None, time: float, fps: float) -> Image:
    window = (time, time + 1 / fps)
    if recording is None:
        frames = decode_window(clip.video, *window, fps=fps, max_side=WIDTH)
    else:
        frames, _ = pictures(clip, recording, window, fps=fps, max_side=WIDTH)
    return frames.images[0].copy()


def _jpeg(image: Image) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def _line(
    image: Image, points: Floats, colour: tuple[int, int, int], width: float, outline: bool = False
) -> None:
    """Draw through (N, 2) pixels; a NaN breaks the line."""
    good = np.asarray((np.abs(points) < 1e4).all(1))  # false for NaN
    runs = np.split(np.arange(len(points)), np.flatnonzero(np.diff(good)) + 1)
    for run in runs:
        if len(run) and good[run[0]]:
            # cv2 takes fixed point numbers: 4 bits of fraction.
            line = [np.round(points[run] * 16).astype(np.int32)]
            if outline:
                cv2.polylines(image, line, False, (0, 0, 0), round(width + 2), cv2.LINE_AA, 4)
            cv2.polylines(image, line, False, colour, max(1, round(width)), cv2.LINE_AA, 4)


def _dot(image: Image, at: Floats, colour: tuple[int, int, int], radius: float) -> None:
    if (np.abs(at) < 1e4).all():
        centre = tuple(np.round(at * 16).astype(int).tolist())
        cv2.circle(image, centre, round((radius + 1) * 16), (0, 0, 0), -1, cv2.LINE_AA, 4)
        cv2.circle(image, centre, round(radius * 16), colour, -1, cv2.LINE_AA, 4)
