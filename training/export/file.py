"""One file of a LeRobot dataset, from shards: its video, its numbers, what is said of each episode.

Files do not depend on each other, so any number of processes can make them. What is said of the
episodes is written last, whole: a file without it counts as not made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.jpeg import decode
from ego_ops.storage import store
from ego_ops.storage_errors import unwritable
from training.data.lerobot_layout import CAMERA, DATA, SIDE, VIDEO, place
from training.data.shard_unit import ShardUnit, read_unit
from training.export import video as export_video
from training.export.episodes import (
    about_episodes,
    numbers,
    pixel_levels,
    sync,
    write_numbers,
)
from training.export.plan import Planned

DATASET, DONE = "dataset", "done"
"""Folders of an export that is under way."""
PIXELS = b"pixels"
"""Key of the metadata of a file in DONE: by camera, how many pixels have each
value, (3, LEVELS), as JSON."""


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
        export_video.encode(str(video), clips, planned.fps, (SIDE, SIDE))
        state, action = np.concatenate(clips.state), np.concatenate(clips.action)
        table = numbers(planned, state, action)
        write_numbers(data, table, planned.lengths)
        counts = pixel_levels(video, planned)
        said = about_episodes(planned, table, {CAMERA: counts})
        pixels = json.dumps({CAMERA: counts.sum(0).tolist()}).encode()
        aside = done.with_suffix(".aside")
        pq.write_table(said.replace_schema_metadata({PIXELS: pixels}), aside)
        for path in (video, data, aside):
            sync(path)
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
