"""What makes a LeRobot dataset of its files: `meta/`, written when all of them are made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.lerobot_names import EPISODES
from training.data.lerobot_layout import (
    COLUMNS,
    DATA,
    DATA_MB,
    ORIGIN,
    as_array,
    hand_held,
    info,
    place,
)
from training.export import video as export_video
from training.export.file import DATASET, DONE, PIXELS
from training.export.plan import Plan
from training.export.stats import LEVELS, NAMES, Total


def write_meta(work: str, plan: Plan, origin: dict[str, Any], card: str) -> None:
    """Write everything beside data and videos. Holds what is said of one file at a time.

    Args:
        work: folder of the export that is under way, with all its files made.
        origin: what `ORIGIN` shall say.
        card: the dataset's README.md.
    """
    root = Path(work, DATASET)
    done = [Path(work, DONE, f"{number:06d}.parquet") for number in range(plan.files)]
    form = hand_held(plan.fps)
    head = info(form, export_video.CODEC, len(plan.ids), plan.frames, len(plan.tasks))
    with _Episodes(root) as episodes:
        write_whole(root, done, plan.tasks, head, episodes.write)
    clips = {"episode_index": np.arange(len(plan.ids)), "clip_id": plan.ids.astype(str)}
    pq.write_table(pa.table(clips), root / "meta/clips.parquet")
    _json(root / ORIGIN, origin)
    (root / "README.md").write_text(card, encoding="utf-8")


def write_whole(
    root: Path,
    said: Sequence[Path],
    tasks: Sequence[str],
    head: dict[str, Any],
    look: Callable[[pa.Table], None] = lambda table: None,
) -> None:
    """Write what is said of a whole dataset: `meta/stats.json`, `tasks.parquet` and `info.json`.

    Args:
        said: a file for each of data, in their order: what is said of its episodes.
        head: `info.json`.
        look: called with each table of `said`.
    """
    cameras = [name for name, one in head["features"].items() if one["dtype"] == "video"]
    totals = {name: Total() for name in (*cameras, *COLUMNS)}
    levels = {camera: np.zeros((3, LEVELS), np.int64) for camera in cameras}
    for path in said:
        table = pq.read_table(path)
        pixels = json.loads(table.schema.metadata[PIXELS])
        for camera in cameras:
            levels[camera] += np.array(pixels[camera], np.int64)
        for feature, total in totals.items():
            total.add(_statistics(table, feature))
        look(table.replace_schema_metadata(None))
    stats = {camera: totals[camera].with_levels(levels[camera]) for camera in cameras}
    for name in COLUMNS:
        stats[name] = totals[name].with_values(_columns(root, len(said), name))
    plain = {
        feature: {name: values.tolist() for name, values in one.items()}
        for feature, one in stats.items()
    }
    _json(root / "meta/stats.json", plain)
    _tasks(root / "meta/tasks.parquet", tasks)
    _json(root / "meta/info.json", head)


class _Episodes:
    """Writes `meta/episodes`, a new file where the last has grown to its limit."""

    def __init__(self, root: Path):
        self._root = root
        self._number = 0
        self._writer: pq.ParquetWriter | None = None
        self._path = root

    def __enter__(self) -> _Episodes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        if self._writer and self._path.stat().st_size > DATA_MB * 2**20 * 0.9:
            self._writer.close()
            self._writer = None
            self._number += 1
        for name, value in place(self._number).items():
            column = pa.array(np.full(len(table), value))
            table = table.append_column(f"meta/episodes/{name}", column)
        if self._writer is None:
            self._path = self._root / EPISODES.format(**place(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table)


def _statistics(table: pa.Table, feature: str) -> list[dict[str, Any]]:
    columns = [table[f"stats/{feature}/{name}"].to_pylist() for name in NAMES]
    return [dict(zip(NAMES, values, strict=True)) for values in zip(*columns, strict=True)]


def _columns(root: Path, files: int, name: str) -> Iterator[NDArray]:
    for number in range(files):
        path = root / DATA.format(**place(number))
        yield as_array(pq.read_table(path, columns=[name])[name])


def _tasks(path: Path, tasks: Sequence[str]) -> None:
    """As pandas writes a frame whose index is the task, which is how LeRobot reads it."""
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
         "numpy_type": "int64", "metadata": None},
        {"name": "task", "field_name": "task", "pandas_type": "unicode",
         "numpy_type": "object", "metadata": None},
    ]  # fmt: skip
    head = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "creator": {}}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": list(tasks)})
    pandas = json.dumps({**head, "pandas_version": "2.0.0"}).encode()
    pq.write_table(table.replace_schema_metadata({b"pandas": pandas}), path)


def _json(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)
