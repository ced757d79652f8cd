"""Actions of a LeRobot dataset (v3), played again.

An episode of seed n plays the n-th of the dataset's episodes that have the task's instruction; of
what `egoscaler demonstrate` recorded, the one of that task and seed.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ego_ops.errors import UserError, hint
from ego_ops.lerobot_names import ACTION, FILLER, PLACE, SOURCE, VERSION
from sim_eval.policy import PolicyEnded, Request
from sim_eval.suite import Environment, Floats, Suite


class Replay:
    """One recorded episode.

    Raises:
        UserError: the dataset has none for that instruction and seed, or it cannot be read.
    """

    sees = False

    def __init__(self, folder: str, suite: Suite, task: str, seed: int):
        self._actions = _actions(folder, _found(folder, suite, task, seed))
        self._step = 0

    def act(self, environment: Environment, request: Request | None) -> Floats:
        """(1, n), the next action. Raises PolicyEnded: there is none left."""
        if self._step == len(self._actions):
            raise PolicyEnded
        self._step += 1
        return self._actions[self._step - 1, None]


def check(folder: str, suite: Suite) -> list[str]:
    """See that a dataset's actions fit a suite, and that it has episodes of its tasks.

    Returns:
        A line if there are tasks that it has none of.

    Raises:
        UserError: they do not, it has none of any task, or it cannot be read.
    """
    recorded = _recorded(folder)
    try:
        suite.padded(np.zeros((1, recorded.action_size)))
    except UserError as error:
        raise UserError(f"replay:{folder}: its actions do not fit: {error}") from error
    told = {name: task.instruction for name, task in suite.tasks.items()}
    missing = [name for name, said in told.items() if said not in recorded.episodes]
    if len(missing) == len(told):
        first = next(iter(told.values()))
        raise UserError(
            f"replay:{folder}: was told nothing that {suite.name} tells, such as {first!r}; "
            f"{hint(first, recorded.episodes)}"
        )
    return [f"replay:{folder}: has nothing for {', '.join(missing)}"] if missing else []


class _Episode(NamedTuple):
    number: int
    path: Path
    length: int


class _Recorded(NamedTuple):
    action_size: int
    filler: bool
    episodes: dict[str, list[_Episode]]
    """By instruction, in the order of the dataset."""
    sources: dict[str, _Episode]
    """By suite, version, task and seed, where the dataset says so."""


@functools.lru_cache(maxsize=4)
def _recorded(folder: str) -> _Recorded:
    root = Path(folder)
    try:
        info = json.loads((root / "meta/info.json").read_bytes())
        if info["codebase_version"] != VERSION:
            raise UserError(
                f"replay:{folder}: a LeRobot dataset of version {info['codebase_version']}; "
                f"this reads {VERSION}: convert it with LeRobot's converters"
            )
        action = info["features"][ACTION]
        files = sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet"))
        names = ["episode_index", "length", "tasks", *PLACE]
        rows = []
        for path in files:
            table = pq.read_table(path, columns=names)
            source = (table.schema.metadata or {}).get(SOURCE, b"").decode()
            rows += [{**row, "source": source} for row in table.to_pylist()]
        found: dict[str, list[_Episode]] = {}
        sources = {}
        for row in sorted(rows, key=lambda row: row["episode_index"]):
            episode = _Episode(row["episode_index"], root / _path(info, row), row["length"])
            found.setdefault(row["tasks"][0], []).append(episode)
            if row["source"]:
                sources[row["source"]] = episode
        filler = bool((action.get("info") or {}).get(FILLER))
        return _Recorded(int(action["shape"][0]), filler, found, sources)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"replay:{folder}: no LeRobot dataset v3 ({_line(error)})") from error


def _path(info: dict[str, Any], row: dict[str, Any]) -> str:
    chunk, file = (row[name] for name in PLACE)
    return str(info["data_path"]).format(chunk_index=chunk, file_index=file)


def _found(folder: str, suite: Suite, task: str, seed: int) -> _Episode:
    recorded = _recorded(folder)
    if recorded.sources:
        begin = f"{suite.name}/{suite.version}/{task}/"
        if f"{begin}{seed}" in recorded.sources:
            return recorded.sources[f"{begin}{seed}"]
        seeds = sorted(
            int(name.removeprefix(begin)) for name in recorded.sources if name.startswith(begin)
        )
        there = f"seeds {seeds[0]} to {seeds[-1]}: give --seeds" if seeds else "none of that task"
        raise UserError(f"replay:{folder}: {task} was not recorded of seed {seed}; it has {there}")
    instruction = suite.tasks[task].instruction
    episodes = recorded.episodes.get(instruction, [])
    if seed >= len(episodes):
        raise UserError(
            f"replay:{folder}: has {len(episodes)} episodes of {instruction!r}, none of number "
            f"{seed}"
        )
    return episodes[seed]


def _actions(folder: str, episode: _Episode) -> Floats:
    """(T, n) of one episode."""
    recorded = _recorded(folder)
    try:
        table = pq.read_table(
            episode.path,
            columns=[ACTION, "frame_index"],
            filters=[("episode_index", "=", episode.number)],
            use_threads=False,
        ).sort_by("frame_index")
        actions = np.array(table[ACTION].to_pylist(), np.float64)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise UserError(f"{episode.path}: cannot be read ({_line(error)})") from error
    if actions.shape != (episode.length, recorded.action_size):
        raise UserError(
            f"{episode.path}: actions {actions.shape} of episode {episode.number}, which has "
            f"{episode.length} of {recorded.action_size} numbers; download it again"
        )
    return actions[: len(actions) - recorded.filler]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
