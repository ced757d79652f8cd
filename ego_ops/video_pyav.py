"""Reading a video with PyAV: open, seek, decode what can be trusted, scale, turn upright."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import av
import fsspec
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ego_ops.errors import DecodeError, MissingFileError, StorageError, UserError

FIRST_STEP_BACK = 1.0
"""Seconds by which a second attempt seeks earlier; every further attempt doubles the distance."""


STRICT = {"err_detect": "explode"}
"""Make the decoder refuse a damaged packet where it would paint over the damage in silence."""


def is_remote(path: str) -> bool:
    """Whether `path` is an fsspec URL (`s3://…`, `memory://…`) rather than a local file."""
    return "://" in path


@contextmanager
def open_video(path: str, where: str) -> Iterator[Video]:
    """Open the video at `path` (local file or fsspec URL); `where` begins every error's message.

    Errors of FFmpeg and of the storage, at opening and inside the `with` block, are raised as:

    Raises:
        MissingFileError: the file does not exist, is a directory or may not be read.
        StorageError: the storage failed or timed out while reading.
        DecodeError: this is no video, or FFmpeg cannot read it.
        UserError: the URL's protocol is unknown or its driver is not installed.
    """
    try:
        with (
            _open_source(path, where) as source,
            av.open(source, metadata_errors="replace") as container,
        ):
            yield Video(container, where)
    except av.error.FFmpegError as error:
        raise DecodeError(f"{where}: not a readable video (FFmpeg: {error.strerror})") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        reason = error.strerror or type(error).__name__
        raise MissingFileError(f"{where}: cannot open the file ({reason})") from error
    except OSError as error:
        raise StorageError(f"{where}: reading failed ({error or type(error).__name__})") from error


def _open_source(path: str, where: str) -> BinaryIO:
    """The file as Python reads it, so that a failing storage is not taken for a broken video."""
    if not is_remote(path):
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
        if os.fstat(file.fileno()).st_size == 0:
            file.close()
            raise DecodeError(f"{where}: the file is empty (0 bytes)")
        return file
    try:
        filesystem, name = fsspec.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UserError(f"{where}: cannot open this kind of URL ({error})") from error
    return filesystem.open(name, "rb")


class Video:
    """The video stream of an open file. Times are seconds from its first displayed frame.

    Attributes:
        fps: average frame rate.
        decoded: pts of every frame that came out of the decoder, trusted or not.
    """

    def __init__(self, container: av.container.InputContainer, where: str):
        self._container = container
        self._stream = _video_stream(container, where)
        # Workers run one to a core: a second thread would take its time from another worker.
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.options = STRICT
        self._start: int = self._stream.start_time
        self._where = where
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.decoded: list[float] = []
        if self.fps <= 0:
            raise DecodeError(f"{where}: the video stream has no frame rate")

    def frames_from(self, t: float) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (pts in seconds, frame) with increasing pts, from a frame at or before `t` on.

        Reading begins at the keyframe before `t`, not at the start of the file. Where that
        keyframe does not lead to a good frame at or before `t` (an open group of pictures, a
        broken packet, a container that seeks imprecisely), an earlier one is tried.
        """
        back = 0.0
        while True:
            start = max(0.0, t - back)
            frames = self._trusted(start)
            first = next(frames, None)
            if start == 0.0 or (first is not None and first[0] <= t):
                break
            frames.close()
            back = 2 * back or FIRST_STEP_BACK
        if first is not None:
            yield first
            yield from frames

    def _trusted(self, start: float) -> Generator[tuple[float, VideoFrame]]:
        """Decode from the keyframe before `start`; yield frames that depend on no lost data.

        A frame is trusted if it is displayed at or after a keyframe from which on nothing was
        lost: frames before it in display order may refer to what was never decoded, and after
        a broken packet the decoder goes on from a wrong picture until the next keyframe.
        """
        self._seek(start)
        trusted_from: int | None = None
        last_key: int | None = None
        newest = -math.inf
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError:
                trusted_from = last_key = None
                continue
            if packet is not None and packet.is_corrupt:
                trusted_from = last_key = None
            elif packet is not None and packet.is_keyframe and packet.pts is not None:
                last_key = packet.pts
                trusted_from = last_key if trusted_from is None else trusted_from
            for frame in frames:
                if frame.pts is None:
                    continue
                self.decoded.append(self._seconds(frame.pts))
                if frame.is_corrupt:
                    after = last_key is not None and last_key > frame.pts
                    trusted_from = last_key if after else None
                elif trusted_from is not None and frame.pts >= trusted_from and frame.pts > newest:
                    newest = frame.pts
                    yield self._seconds(frame.pts), frame

    def _seek(self, start: float) -> None:
        self.decoded.clear()
        # Some containers compare with decoding times, which begin before the first frame's pts.
        seconds = start if start > 0 else -10.0
        target = self._start + int(seconds / self._stream.time_base)
        self._container.seek(target, stream=self._stream)

    def _packets(self) -> Iterator[av.Packet | None]:
        """Packets to the end of what is left of the file; None empties the decoder."""
        # Whatever ends the data early: the frames' pts tell how much is missing. (IndexError is
        # PyAV's answer at the end of a file in which damage looked like one more stream.)
        with suppress(av.error.FFmpegError, IndexError):
            yield from (packet for packet in self._container.demux(self._stream) if packet.size)
        yield None

    def _seconds(self, pts: int) -> float:
        return float((pts - self._start) * self._stream.time_base)


def _video_stream(container: av.container.InputContainer, where: str) -> av.VideoStream:
    """The first video stream that is not a cover picture."""
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None:
                raise DecodeError(f"{where}: FFmpeg has no decoder for the video stream")
            if stream.start_time is None:
                raise DecodeError(f"{where}: the video stream has no timestamps")
            return stream
    raise DecodeError(f"{where}: the file has no video stream")


def scaled_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """`size` (width, height) shrunk, aspect kept, so that no side is longer than `max_side`."""
    ratio = min(1.0, (max_side or max(size)) / max(size))
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


class Scaler:
    """Turns decoded frames into small upright RGB images, (H, W, 3) uint8.

    Attributes:
        source_size: (width, height) of the upright video before scaling, once a frame was seen.
    """

    def __init__(self, max_side: int | None):
        self._max_side = max_side
        self._shrink, self._colour = VideoReformatter(), VideoReformatter()
        self._matrix = (1, 0, 0, 1)
        self._coded = self.source_size = (0, 0)

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        if self._coded == (0, 0):
            self._begin(frame)
        # To scale the planes and convert the small ones costs a third of doing both at once.
        width, height = self._coded
        small = self._shrink.reformat(frame, width, height, interpolation="AREA", threads=1)
        pixels = self._colour.reformat(small, format="rgb24", threads=1).to_ndarray()
        return _turn_upright(np.asarray(pixels, np.uint8), self._matrix)

    def _begin(self, frame: VideoFrame) -> None:
        self._matrix = _display_matrix(frame)
        width, height = frame.width, frame.height
        self._coded = scaled_size((width, height), self._max_side)
        self.source_size = (height, width) if _swaps_sides(self._matrix) else (width, height)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: coded (x, y) is shown at (a x + c y, b x + d y)."""
    side_data: Mapping[Any, Any] = frame.side_data  # keyed otherwise than its stubs say
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    return int(a), int(b), int(c), int(d)


def _swaps_sides(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _turn_upright(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Apply the quarter turns and mirrorings of a display matrix, as players do."""
    a, b, c, d = matrix
    if _swaps_sides(matrix):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
