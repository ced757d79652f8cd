"""One file of a LeRobot dataset, from shards: its video, its numbers, what is said of each episode.

Files do not depend on each other, so any number of processes can make them. What is said of the
episodes is written last, whole: a file without it counts as not made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.jpeg import decode
from ego_ops.storage import store
from ego_ops.storage_errors import unwritable
from training.data.lerobot_layout import (
    ACTION,
    CAMERA,
    COLUMNS,
    DATA,
    SIDE,
    STATE,
    VIDEO,
    as_array,
    place,
)
from training.data.shard_unit import ShardUnit, read_unit
from training.export import video as export_video
from training.export.plan import Planned
from training.export.stats import LEVELS, NAMES, Stats, of_pixels, of_values

DATASET, DONE = "dataset", "done"
"""Folders of an export that is under way."""
PIXELS = b"pixels"
"""Key of the metadata of a file in DONE: how many pixels have each value, (3, LEVELS) as JSON."""


def export_file(url: str, work: str, planned: Planned) -> None:
    """Make one file, unless it is made.

    Args:
        url: the shards.
        work: folder of the export that is under way.

    Raises:
        UserError: a shard cannot be read, a picture is damaged, or the file cannot be written.
    """
    done = Path(work, DONE, f"{planned.number:06d}.parquet")
    if done.exists():
        return
    root = Path(work, DATASET)
    video = root / VIDEO.format(video_key=CAMERA, **place(planned.number))
    data = root / DATA.format(**place(planned.number))
    try:
        for path in (video, data, done):
            path.parent.mkdir(parents=True, exist_ok=True)
        clips = _Clips(url, planned)
        export_video.encode(str(video), clips, planned.fps)
        table = _numbers(planned, np.concatenate(clips.state), np.concatenate(clips.action))
        _write(data, table, planned.lengths)
        counts = _levels(video, planned)
        said = _episodes(planned, table, counts)
        pixels = json.dumps(counts.sum(0).tolist()).encode()
        aside = done.with_suffix(".aside")
        pq.write_table(said.replace_schema_metadata({PIXELS: pixels}), aside)
        for path in (video, data, aside):
            _sync(path)
        os.replace(aside, done)
    except (OSError, av.error.FFmpegError) as error:
        raise unwritable(work, error) from error


class _Clips:
    """The pictures of a file, one after the other; keeps the numbers as it goes."""

    def __init__(self, url: str, planned: Planned):
        self._where, self._planned = store(url), planned
        self.state: list[NDArray[np.float32]] = []
        """(T, 9) of each part."""
        self.action: list[NDArray[np.float32]] = []

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for part, ids in self._planned.parts:
            unit = read_unit(self._where, part, ids, horizon=1, smooth=1, pictures=True)
            self.state.append(unit.state)
            self.action.append(unit.action)
            yield from _pictures(unit)


def _pictures(unit: ShardUnit) -> Iterator[NDArray[np.uint8]]:
    assert unit.frames is not None
    for step, jpeg in enumerate(unit.frames):
        image = decode(jpeg.as_buffer())
        if image is None or image.shape != (SIDE, SIDE, 3):
            clip = int(np.searchsorted(unit.first, step, side="right")) - 1
            what = "no whole JPEG" if image is None else f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(
                f"{unit.place}: clip {unit.ids[clip]}: the frame of step "
                f"{step - int(unit.first[clip])} is {what}, not {SIDE} x {SIDE} pixels; delete the "
                "part and run `extract` again, or leave the clip out by a selection"
            )
        yield image


def _numbers(planned: Planned, state: NDArray, action: NDArray) -> pa.Table:
    """The rows of the data file."""
    lengths = planned.lengths
    first = np.cumsum(lengths) - lengths
    frame = np.arange(lengths.sum()) - np.repeat(first, lengths)
    episode = planned.first_episode + np.arange(len(lengths))
    columns = {
        STATE: _lists(state),
        ACTION: _lists(action),
        "timestamp": (frame / planned.fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(episode, lengths),
        "index": planned.first_frame + np.arange(len(frame)),
        "task_index": np.repeat(planned.tasks, lengths),
    }
    return pa.table({name: columns[name] for name in COLUMNS})


def _lists(values: NDArray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _write(path: Path, table: pa.Table, lengths: NDArray[np.int64]) -> None:
    """One row group an episode: what a reader of episodes reads at a time."""
    with pq.ParquetWriter(path, table.schema, compression="snappy") as writer:
        for begin, count in zip((np.cumsum(lengths) - lengths).tolist(), lengths, strict=True):
            writer.write_table(table.slice(begin, int(count)))


def _levels(video: Path, planned: Planned) -> NDArray[np.int64]:
    """(E, 3, LEVELS) how many pixels of each episode have each value, in the file as it is."""
    counts = np.zeros((len(planned.lengths), 3, LEVELS), np.int64)
    episode = np.repeat(np.arange(len(planned.lengths)), planned.lengths)
    number = 0
    for image in export_video.decode(str(video), planned.fps):
        if number < len(episode):
            for channel in range(3):
                found = cv2.calcHist([image], [channel], None, [LEVELS], [0, LEVELS])
                counts[episode[number], channel] += found.reshape(-1).astype(np.int64)
        number += 1
    if number != len(episode):
        raise UserError(f"{video}: {number} frames came out of {len(episode)}; is the disk full?")
    return counts


def _episodes(planned: Planned, table: pa.Table, counts: NDArray) -> pa.Table:
    """What `meta/episodes` says of the file's episodes, but where it says so."""
    ends = np.cumsum(planned.lengths)
    begins = ends - planned.lengths
    at, many = place(planned.number), len(ends)
    columns: dict[str, Any] = {
        "episode_index": planned.first_episode + np.arange(many),
        "tasks": [[text] for text in planned.instructions],
        "length": planned.lengths,
        **{f"data/{name}": np.full(many, value) for name, value in at.items()},
        "dataset_from_index": planned.first_frame + begins,
        "dataset_to_index": planned.first_frame + ends,
        **{f"videos/{CAMERA}/{name}": np.full(many, value) for name, value in at.items()},
        f"videos/{CAMERA}/from_timestamp": begins / planned.fps,
        f"videos/{CAMERA}/to_timestamp": ends / planned.fps,
    }
    numbers = {name: as_array(table[name]) for name in COLUMNS}
    stats: dict[str, list[Stats]] = {
        CAMERA: [of_pixels(c, int(n)) for c, n in zip(counts, planned.lengths, strict=True)]
    }
    spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
    for name, values in numbers.items():
        stats[name] = [of_values(values[a:b]) for a, b in spans]
    for feature, each in stats.items():
        for name in NAMES:
            columns[f"stats/{feature}/{name}"] = [one[name].tolist() for one in each]
    return pa.table(columns)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
