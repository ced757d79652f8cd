"""One episode of a LeRobot dataset in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops import video_pyav
from ego_ops.errors import ClipError, UserError
from ego_ops.jpeg import decode
from ego_ops.lerobot_names import ACTION, STATE
from training.data.lerobot_index import Dataset
from training.data.lerobot_layout import SIDE, as_array
from training.data.sample import Window

Floats = NDArray[np.float32]
Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class LeRobotUnit:
    """An episode of L frames."""

    instructions: list[str]
    """L of them."""
    state: Floats
    """(L, S)."""
    action: Floats
    """(L, A)."""
    recorded: int
    """How many of the actions were recorded: L, or L - 1 where the last is filler. A window begins
    at each."""
    pictures: Mapping[str, Pictures]
    """By camera, L of them."""
    horizon: int

    def window(self, number: int) -> Window:
        """The window that begins at that frame. Past the end, the episode's last action repeats."""
        step = number + np.arange(self.horizon)
        return Window(
            {camera: each[number] for camera, each in self.pictures.items()},
            self.instructions[number],
            self.state[number],
            self.action[np.minimum(step, len(self.action) - 1)],
            step < self.recorded,
        )

    def states(self) -> Floats:
        """(windows, S)."""
        return self.state[: self.recorded]

    def steps(self) -> Floats:
        """(windows, A)."""
        return self.action[: self.recorded]


def read_episode(
    data: Dataset, at: int, cameras: Mapping[str, str], horizon: int, filler: bool
) -> LeRobotUnit:
    """Read the episode at that place of the index.

    Args:
        cameras: of features, whose pictures to read.
        filler: whether an episode's last action was not recorded.

    Raises:
        UserError: a file is missing or damaged, or holds another number of frames than the index
            says, numbers that are not finite, or frames at other times.
    """
    path = data.data_path(at)
    stored = [name for name in cameras if name not in data.videos]
    table = _rows(data, at, [STATE, ACTION, "timestamp", "task_index", *stored])
    where = f"{path}: episode {data.episodes[at]}"
    numbers = {name: _numbers(table[name], f"{where}: {name}") for name in (STATE, ACTION)}
    pictures: dict[str, Pictures] = {}
    for feature, camera in cameras.items():
        if feature in stored:
            pictures[camera] = _Stored(table[feature].combine_chunks(), f"{where}: {feature}")
        else:
            times = data.videos[feature].begins[at] + _times(table, data.fps, where)
            pictures[camera] = _filmed(data.video_path(at, feature), times, data.fps)
    texts = {task: data.instruction(task) for task in set(table["task_index"].to_pylist())}
    return LeRobotUnit(
        instructions=[texts[task] for task in table["task_index"].to_pylist()],
        state=numbers[STATE],
        action=numbers[ACTION],
        recorded=len(table) - filler,
        pictures=pictures,
        horizon=horizon,
    )


def _rows(data: Dataset, at: int, names: list[str]) -> pa.Table:
    path, episode = data.data_path(at), int(data.episodes[at])
    try:
        table = pq.read_table(
            path, columns=names, filters=[("episode_index", "=", episode)], use_threads=False
        )
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; download the whole dataset") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if len(table) != data.lengths[at]:
        raise UserError(
            f"{path}: has {len(table)} of the {data.lengths[at]} frames of episode {episode}; "
            "download it again"
        )
    return table


def _numbers(column: pa.ChunkedArray, where: str) -> Floats:
    try:
        values = as_array(column).astype(np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    wrong = np.flatnonzero(~np.isfinite(values).all(1))
    if len(wrong):
        raise UserError(f"{where} of frame {wrong[0]} is not finite; leave the dataset out")
    return values


def _times(table: pa.Table, fps: float, where: str) -> NDArray[np.float64]:
    """(L,) seconds from the beginning of the episode."""
    times = as_array(table["timestamp"])[:, 0].astype(np.float64)
    off = np.abs(times - np.arange(len(times)) / fps) * fps
    wrong = np.flatnonzero(~(off <= 0.5))
    if len(wrong):
        raise UserError(
            f"{where}: frame {wrong[0]} is at {times[wrong[0]]:g} s, more than half a frame from "
            f"where it is at {fps:g} Hz; leave the dataset out"
        )
    return times


class _Stored(Sequence[NDArray[np.uint8]]):
    """Pictures that lie in the Parquet file, decoded where they are used."""

    def __init__(self, column: pa.StructArray, where: str):
        self._files, self._where = column.field("bytes"), where

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        image = decode(self._files[number].as_buffer())
        if image is None:
            raise UserError(f"{self._where}: the picture of frame {number} cannot be read")
        return image


def _filmed(path: Path, times: NDArray[np.float64], fps: float) -> Pictures:
    """The frames of a video at `times`, in one pass; larger ones shrunk to SIDE pixels.

    Raises:
        UserError: the video cannot be read, or no frame lies within half a frame of a time.
    """
    images: list[NDArray[np.uint8]] = []
    scaler = video_pyav.Scaler(SIDE)  # an episode of two 640 x 480 cameras is 7 times smaller
    shown = before = -np.inf
    frame = None

    def take(time: float) -> None:
        nonlocal shown
        if frame is None or abs(before - time) > 0.5 / fps:
            last = "no frame" if frame is None else f"the nearest frame is at {before:.4f} s"
            raise UserError(f"{path}: nothing at {time:.4f} s ({last}); is the dataset whole?")
        images.append(images[-1] if shown == before else scaler(frame))
        shown = before

    try:
        with video_pyav.open_video(str(path), str(path)) as video:
            for pts, after in video.frames_from(float(times[0])):
                while len(images) < len(times) and abs(pts - times[len(images)]) >= abs(
                    before - times[len(images)]
                ):
                    take(times[len(images)])
                if len(images) == len(times):
                    break
                before, frame = pts, after
            for time in times[len(images) :]:
                take(time)
    except ClipError as error:
        raise UserError(f"{error}; download the whole dataset") from error
    return images
