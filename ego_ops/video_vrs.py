"""The RGB camera of a Project Aria recording (`.vrs`), read with projectaria-tools.

Times are seconds from the first RGB frame, by the capture times on the device's clock. Pictures
are as the sensor took them: a fisheye on its side (see `ego_ops.lens`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import rigid
from ego_ops.errors import DecodeError, MissingFileError, UserError
from ego_ops.fisheye import Fisheye624
from ego_ops.video_pyav import is_remote

LABEL = "camera-rgb"
STRAY = 0.5
"""Seconds between a frame's capture time and its place in the file's index: more is damage."""

TOOLS_ERRORS = (RuntimeError, ValueError, IndexError, KeyError, TypeError)
"""What projectaria-tools raises at damaged files."""


def is_vrs(path: str) -> bool:
    return path.lower().endswith(".vrs")


@contextmanager
def open_video(path: str, where: str) -> Iterator[VrsVideo]:
    """Open the RGB stream of the local file `path`; `where` begins every error's message.

    Raises:
        MissingFileError: the file does not exist, is a directory or may not be read.
        DecodeError: it is no VRS file, is damaged, or has no RGB frames.
        UserError: it is remote, or projectaria-tools is not installed.
    """
    yield VrsVideo(path, where)


def vrs_start_ns(path: str) -> int:
    """When the first RGB frame was captured, in nanoseconds on the device's clock: second 0 of
    the video. Raises as `open_video` does."""
    return VrsVideo(path, path).start_ns


def vrs_calibration(path: str) -> tuple[Fisheye624, RigidTransform]:
    """(lens, T_device_camera) of the RGB camera as calibrated in the factory.

    Raises as `open_video` does; a DecodeError where the file holds no calibration.
    """
    return VrsVideo(path, path).calibration()


class VrsVideo:
    """The RGB stream of an open VRS file. Times are seconds from its first frame.

    Attributes:
        fps: average frame rate.
        start_ns: capture time of the first frame on the device's clock.
    """

    def __init__(self, path: str, where: str):
        self._where = where
        self._provider = _open(path, where)
        with self._reading("the RGB stream"):
            self._stream = self._provider.get_stream_id_from_label(LABEL)
            records, self.start_ns = self._index()
        # From the file's index: the capture times proper lie in the frames themselves.
        self._times: NDArray[np.float64] = (records - records[0]) / 1e9
        if len(records) > 1 and self._times[-1] > 0:
            self.fps = float((len(records) - 1) / self._times[-1])
        else:
            with self._reading("the frame rate"):
                self.fps = float(self._provider.get_nominal_rate_hz(self._stream))

    def frames_from(self, t: float) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (pts in seconds, frame) with increasing pts, from a frame at or before `t` on.

        Every frame is a picture of its own, so a damaged one costs no other.
        """
        first = max(0, int(np.searchsorted(self._times, t, "right")) - 2)
        newest = -np.inf
        for k in range(first, len(self._times)):
            stamp, pixels = self._picture(k)
            pts = (stamp - self.start_ns) / 1e9
            # At a damaged record the reader gives the one before it, or none, once more.
            if pixels is not None and pts > newest and abs(pts - self._times[k]) < STRAY:
                newest = pts
                yield pts, VideoFrame.from_ndarray(pixels, "rgb24")

    def calibration(self) -> tuple[Fisheye624, RigidTransform]:
        """See `vrs_calibration`."""
        with self._reading("the calibration"):
            device = self._provider.get_device_calibration()
            camera = device and device.get_camera_calib(LABEL)
            if not camera:
                raise DecodeError(f"{self._where}: the file has no calibration of {LABEL}")
            width, height = (int(side) for side in camera.get_image_size())
            fisheye = Fisheye624.from_params(
                camera.get_projection_params(), width, height, camera.get_valid_radius()
            )
            return fisheye, rigid(camera.get_transform_device_camera().to_matrix())

    def _index(self) -> tuple[NDArray[np.int64], int]:
        """(N,) times of the RGB frames as the file's index has them; the first's capture time."""
        from projectaria_tools.core.sensor_data import TimeDomain

        provider, stream = self._provider, self._stream
        records: list[int] = []
        if stream is not None and provider.check_stream_is_active(stream):
            records = provider.get_timestamps_ns(stream, TimeDomain.RECORD_TIME)
        if not records:
            raise DecodeError(f"{self._where}: the file has no RGB frames ({LABEL})")
        start = int(provider.get_first_time_ns(stream, TimeDomain.DEVICE_TIME))
        near = abs(start - records[0]) < STRAY * 1e9
        return np.array(records, np.int64), start if near else records[0]

    def _picture(self, k: int) -> tuple[int, NDArray[np.uint8] | None]:
        """Capture time in ns and (H, W, 3) pixels of frame `k`; None where it is damaged."""
        try:
            with _quiet():
                image, record = self._provider.get_image_data_by_index(self._stream, k)
                # A copy: the reader uses the memory again for the next picture.
                pixels = np.array(image.to_numpy_array()) if image.is_valid() else None
                stamp = int(record.capture_timestamp_ns)
        except TOOLS_ERRORS:
            return 0, None
        if pixels is None or pixels.ndim not in (2, 3) or pixels.dtype != np.uint8:
            return 0, None
        return stamp, np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except TOOLS_ERRORS as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DecodeError(f"{self._where}: cannot read {what} ({reason})") from error


def _open(path: str, where: str) -> Any:
    if is_remote(path):
        raise UserError(f"{where}: VRS files are read from local disks only; copy it to one")
    try:
        from projectaria_tools.core import data_provider
    except ImportError as error:
        raise UserError(
            f"{where}: VRS files need projectaria-tools: pip install 'egoscaler-ray[aria]'"
        ) from error
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise MissingFileError(f"{where}: cannot open the file ({error.strerror})") from error
    try:
        with _quiet():
            provider = data_provider.create_vrs_data_provider(path)
    except TOOLS_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DecodeError(f"{where}: not a readable VRS file ({reason})") from error
    if provider is None:
        raise DecodeError(f"{where}: not a readable VRS file")
    return provider


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep projectaria-tools' C++ log, which has no level to set from Python, off the console.

    What goes wrong is raised, in one line.
    """
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
