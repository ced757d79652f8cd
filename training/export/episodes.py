"""The files of some episodes of a LeRobot dataset: their numbers, and what is said of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.lerobot_names import ACTION, STATE
from training.data.lerobot_layout import COLUMNS, as_array, place
from training.export import video as export_video
from training.export.plan import Planned
from training.export.stats import LEVELS, NAMES, Stats, of_pixels, of_values


def numbers(planned: Planned, state: NDArray, action: NDArray) -> pa.Table:
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


def write_numbers(path: Path, table: pa.Table, lengths: NDArray[np.int64]) -> None:
    """One row group an episode: what a reader of episodes reads at a time."""
    with pq.ParquetWriter(path, table.schema, compression="snappy") as writer:
        for begin, count in zip((np.cumsum(lengths) - lengths).tolist(), lengths, strict=True):
            writer.write_table(table.slice(begin, int(count)))


def pixel_levels(video: Path, planned: Planned) -> NDArray[np.int64]:
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


def about_episodes(
    planned: Planned, table: pa.Table, counts: Mapping[str, NDArray[np.int64]]
) -> pa.Table:
    """What `meta/episodes` says of the file's episodes, but where it says so.

    Args:
        table: the rows of the data file.
        counts: by camera: see `pixel_levels`.
    """
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
    }
    stats: dict[str, list[Stats]] = {}
    for camera, levels in counts.items():
        columns |= {f"videos/{camera}/{name}": np.full(many, value) for name, value in at.items()}
        columns[f"videos/{camera}/from_timestamp"] = begins / planned.fps
        columns[f"videos/{camera}/to_timestamp"] = ends / planned.fps
        each = zip(levels, planned.lengths, strict=True)
        stats[camera] = [of_pixels(level, int(length)) for level, length in each]
    spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
    for name in COLUMNS:
        values = as_array(table[name])
        stats[name] = [of_values(values[a:b]) for a, b in spans]
    for feature, found in stats.items():
        for name in NAMES:
            columns[f"stats/{feature}/{name}"] = [one[name].tolist() for one in found]
    return pa.table(columns)


def sync(path: Path) -> None:
    """Have it survive a power cut."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
