"""Where everything is in a LeRobot dataset, v2.0 to v3.0, in a few numbers an episode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ego_ops.errors import UserError
from ego_ops.lerobot_names import EPISODES

_VERSIONS = ("v2.0", "v2.1", "v3.0")
_CODE = np.dtype([("chunk", np.int32), ("file", np.int32)])


@dataclass(frozen=True)
class Videos:
    """Of one camera."""

    file: NDArray
    """(E,) of chunk and file."""
    begins: NDArray[np.float64]
    """(E,) seconds in the file at which each episode begins."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of E episodes."""

    root: Path
    info: dict[str, Any]
    """`meta/info.json`."""
    episodes: NDArray[np.int64]
    """(E,) their indices, rising."""
    lengths: NDArray[np.int64]
    """(E,) frames."""
    data: NDArray
    """(E,) of chunk and file."""
    videos: dict[str, Videos]
    """By feature."""
    tasks: tuple[NDArray[np.int64], pa.Array]
    """Task indices, rising, and their texts."""

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    def data_path(self, at: int) -> Path:
        """The Parquet file of the episode at that place."""
        return self.root / self._path("data_path", self.data[at], at)

    def video_path(self, at: int, feature: str) -> Path:
        """The video of the episode at that place."""
        return self.root / self._path("video_path", self.videos[feature].file[at], at, feature)

    def instruction(self, task: int) -> str:
        """The text of a task.

        Raises:
            UserError: there is no such task.
        """
        numbers, texts = self.tasks
        at = int(np.searchsorted(numbers, task))
        if at == len(numbers) or numbers[at] != task:
            raise UserError(f"{self.root}: task {task} is not in meta/tasks; download it again")
        return str(texts[at].as_py())

    def _path(self, kind: str, file: np.void, at: int, feature: str = "") -> str:
        chunk, number = int(file["chunk"]), int(file["file"])
        return str(self.info[kind]).format(
            chunk_index=chunk,
            file_index=number,
            episode_chunk=chunk,
            episode_index=int(self.episodes[at]),
            video_key=feature,
        )


def read_index(folder: str, cameras: tuple[str, ...]) -> Dataset:
    """Read what `meta/` says.

    Args:
        cameras: features whose videos are wanted, where they are videos.

    Raises:
        UserError: it is no LeRobot dataset, one of another version, or not whole.
    """
    root = Path(folder)
    info = read_info(folder)
    videos = tuple(name for name in cameras if info["features"][name]["dtype"] == "video")
    try:
        old = info["codebase_version"].startswith("v2")
        data = _old(root, info, videos) if old else _new(root, info, videos)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not there; download the whole dataset") from error
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{root}/meta: cannot be read ({_line(error)})") from error
    wanted = info.get("total_episodes", len(data.episodes))
    if len(data.episodes) != wanted or not wanted:
        raise UserError(
            f"{root}/meta: describes {len(data.episodes)} of {wanted} episodes; "
            "download the whole dataset"
        )
    return data


def read_info(folder: str) -> dict[str, Any]:
    """`meta/info.json`.

    Raises:
        UserError: there is none, or none that can be read.
    """
    path = Path(folder, "meta/info.json")
    try:
        info = json.loads(path.read_bytes())
        version = info["codebase_version"]
        if version not in _VERSIONS:
            raise UserError(
                f"{folder}: a LeRobot dataset of version {version}; this program reads "
                f"{', '.join(_VERSIONS)}: convert it with LeRobot's converters"
            )
        if not float(info["fps"]) > 0 or not info["features"] or not info["data_path"]:
            raise ValueError("fps, features or data_path say nothing")
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no LeRobot dataset (there is no meta/info.json)") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({_line(error)})") from error
    return dict(info)


def _new(root: Path, info: dict[str, Any], videos: tuple[str, ...]) -> Dataset:
    """v3: files of many episodes."""
    places = ["data", *(f"videos/{name}" for name in videos)]
    names = ["episode_index", "length"]
    names += [f"{place}/{what}_index" for place in places for what in ("chunk", "file")]
    names += [f"videos/{name}/from_timestamp" for name in videos]
    folder = root / EPISODES.split("/chunk", maxsplit=1)[0]
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        raise FileNotFoundError(2, "no such file", str(folder))
    table = pa.concat_tables([pq.read_table(path, columns=names) for path in files])
    table = table.sort_by("episode_index")
    columns = {name: table[name].to_numpy() for name in names}
    tasks = pq.read_table(root / "meta/tasks.parquet")
    text = next(name for name in tasks.column_names if name != "task_index")
    return Dataset(
        root=root,
        info=info,
        episodes=columns["episode_index"].astype(np.int64),
        lengths=columns["length"].astype(np.int64),
        data=_files(columns, "data"),
        videos={
            name: Videos(
                _files(columns, f"videos/{name}"),
                columns[f"videos/{name}/from_timestamp"].astype(np.float64),
            )
            for name in videos
        },
        tasks=_tasks(tasks["task_index"].to_numpy(), tasks[text]),
    )


def _old(root: Path, info: dict[str, Any], videos: tuple[str, ...]) -> Dataset:
    """v2: an episode has files of its own, and begins at second 0 of its videos."""
    rows = [(one["episode_index"], one["length"]) for one in _lines(root / "meta/episodes.jsonl")]
    episodes, lengths = np.array(sorted(rows), np.int64).reshape(-1, 2).T
    tasks = list(_lines(root / "meta/tasks.jsonl"))
    numbers = np.array([one["task_index"] for one in tasks], np.int64)
    files = np.zeros(len(episodes), _CODE)
    files["chunk"] = episodes // int(info["chunks_size"])
    begins = np.zeros(len(episodes))
    return Dataset(
        root=root,
        info=info,
        episodes=episodes,
        lengths=lengths,
        data=files,
        videos={name: Videos(files, begins) for name in videos},
        tasks=_tasks(numbers, pa.chunked_array([[one["task"] for one in tasks]], pa.string())),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _files(columns: dict[str, NDArray], place: str) -> NDArray:
    files = np.zeros(len(columns["length"]), _CODE)
    for what in _CODE.names or ():
        files[what] = columns[f"{place}/{what}_index"]
    return files


def _tasks(numbers: NDArray[np.int64], texts: pa.ChunkedArray) -> tuple[NDArray[np.int64], Any]:
    order = np.argsort(numbers)
    return numbers[order], texts.combine_chunks().take(pa.array(order))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
