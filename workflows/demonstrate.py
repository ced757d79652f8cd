"""A suite's script at work, recorded to train on: a Ray task an episode.

    seeds -> episodes (tasks) -> those that solved their task -> a LeRobot dataset, or shards

The first so many seeds of each task whose episodes succeed are recorded, in the same order however
many workers there are. Run the same command again after any stop: it goes on.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ego_ops import rows, shards
from ego_ops.clip import Clip, clip_id
from ego_ops.errors import UserError, hint
from ego_ops.storage import store
from sim_eval import suites
from sim_eval.demonstration import Demonstration, demonstrate, trajectory
from sim_eval.suite import Environment, Suite
from workflows import cluster, flags

_TRIES = 3
"""Seeds that are tried for each episode that is wanted, before the script is given up."""
_STUCK_S = 900.0
"""What an episode may take from the moment that all before it have ended."""


@dataclass(frozen=True)
class DemonstrateConfig:
    """Record demonstrations of a suite's tasks, by its script."""

    suite: str = "tabletop"
    """Suite of tasks; it must have a script, as `tabletop` does."""
    tasks: tuple[str, ...] = ()
    """Tasks; by default all of the suite."""
    episodes: int = 10
    """Demonstrations of each task."""
    first_seed: int = 100_000
    """Seed of the first. `evaluate` counts from 0: what is evaluated was not demonstrated."""
    out: str = "demonstrations"
    """Folder of the dataset; of shards it may be an fsspec URL."""
    format: Literal["lerobot", "shards"] = "lerobot"
    """`lerobot`: a LeRobotDataset v3.0 with states and actions as the suite has them; `shards`: as
    `extract` writes them, 9 numbers without the gripper's opening."""
    workers: int | None = None
    """Episodes at a time; by default one a core."""
    address: str | None = None
    """Ray cluster to join: see `egoscaler evaluate --help`."""
    quiet: bool = False
    """Print nothing but the last line."""


class Sink(Protocol):
    """Where demonstrations go."""

    done: set[str]
    """The names of those that are there: see `_name`."""

    def add(self, found: Demonstration) -> None:
        """Keep one more, for good."""


def run(config: DemonstrateConfig) -> None:
    """Record what is not recorded yet.

    Raises:
        UserError: the suite has no such task or no script, its script fails too often, or `out`
            holds something else or cannot be written.
    """
    suite = suites.get(config.suite)
    tasks = _tasks(config, suite)
    with _sink(config, suite) as sink, cluster.interruptible(config.out):
        there = _counts(sink, suite, tasks).values()
        left = sum(max(0, config.episodes - count) for count in there)
        if left > 0:
            cpus = config.workers or cluster.cores()
            stays = f"what is recorded in {config.out}"
            with cluster.session(config.address, cpus, stays) as nodes:
                at_once = cluster.at_once(config.workers, config.address, nodes)
                for found in _episodes(config, suite, tasks, sink, at_once):
                    sink.add(found)
                    left -= 1
                    if not config.quiet:
                        print(f"{found.task} {found.seed}: recorded, {left} left", flush=True)
        total = _counts(sink, suite, tasks).total()
        print(f"{total} demonstrations of {len(tasks)} tasks in {config.out}")


def _tasks(config: DemonstrateConfig, suite: Suite) -> list[str]:
    flags.at_least(config, {"episodes": 1, "workers": 1, "first_seed": 0})
    for task in config.tasks:
        if task not in suite.tasks:
            raise UserError(f"{suite.name} has no task {task}: {hint(task, suite.tasks)}")
    return list(config.tasks or suite.tasks)


def _counts(sink: Sink, suite: Suite, tasks: list[str]) -> Counter[str]:
    """How many are recorded of each task."""
    begin = f"{suite.name}/{suite.version}/"
    named = (name.removeprefix(begin).split("/") for name in sink.done if name.startswith(begin))
    found = Counter(dict.fromkeys(tasks, 0))
    found.update(task for task, _ in named if task in tasks)
    return found


def _episodes(
    config: DemonstrateConfig, suite: Suite, tasks: list[str], sink: Sink, at_once: int
) -> Iterator[Demonstration]:
    """Demonstrations that are wanted, in the order of seeds and tasks."""
    import ray

    play = ray.remote(num_cpus=1, max_retries=3)(_play)
    counts = _counts(sink, suite, tasks)
    waiting: deque[tuple[str, Any]] = deque()
    last = config.first_seed + _TRIES * config.episodes + _TRIES
    for seed in range(config.first_seed, last):
        for task in tasks:
            if counts[task] < config.episodes and _name(suite, task, seed) not in sink.done:
                waiting.append((task, play.remote(config.suite, task, seed)))
            while len(waiting) > (at_once if seed < last - 1 else 0):
                yield from _next(waiting, counts, config.episodes)
        if not waiting and all(counts[task] >= config.episodes for task in tasks):
            return
    few = next(task for task in tasks if counts[task] < config.episodes)
    raise UserError(
        f"{suite.name}: its script solved {few} {counts[few]} times with the seeds "
        f"{config.first_seed} to {last - 1}: ask for fewer, or give another --first-seed"
    )


def _next(
    waiting: deque[tuple[str, Any]], counts: Counter[str], wanted: int
) -> Iterator[Demonstration]:
    """The episode that was begun first, if it is one to record."""
    import ray

    task, reference = waiting.popleft()
    try:
        found = ray.get(reference, timeout=_STUCK_S)
    except ray.exceptions.WorkerCrashedError:
        print(f"{task}: its simulator crashed again and again; another seed is taken", flush=True)
        return
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        print(f"{task}: its simulator is stuck; another seed is taken", flush=True)
        return
    if isinstance(found, str):
        raise UserError(found)
    if found is not None and counts[task] < wanted:
        counts[task] += 1
        yield found


def _play(name: str, task: str, seed: int) -> Demonstration | str | None:
    """`demonstrate`; an error as its text, which Ray would bury in a traceback."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        suite = suites.get(name)
        return demonstrate(suite, _environment(name), task, seed)
    except UserError as error:
        return str(error)


@functools.lru_cache(maxsize=1)
def _environment(name: str) -> Environment:
    """The process's own."""
    return suites.get(name).environment()


def _name(suite: Suite, task: str, seed: int) -> str:
    return f"{suite.name}/{suite.version}/{task}/{seed}"


@contextmanager
def _sink(config: DemonstrateConfig, suite: Suite) -> Iterator[Sink]:
    if config.format == "shards":
        yield _Shards(config.out, suite)
        return
    if "://" in config.out:
        raise UserError(
            f"--out {config.out}: a LeRobot dataset is written to a folder; --format shards takes "
            "URLs"
        )
    from training.data.lerobot_layout import POSE, Form
    from training.export.recorder import opened

    def names(size: int, prefix: str) -> list[str]:
        pose = size == len(POSE) + 1
        return [f"{prefix}{name}" for name in POSE] + ["gripper"] if pose else [
            f"{prefix}{number}" for number in range(size)
        ]  # fmt: skip

    if suite.fps != int(suite.fps):
        raise UserError(f"{suite.name}: {suite.fps:g} steps a second; a dataset has a whole number")
    cameras = {f"observation.images.{camera}": (224, 224) for camera in suite.cameras}
    form = Form(
        suite.name, int(suite.fps), cameras, names(suite.state_size, ""),
        names(suite.action_size, "d"),
    )  # fmt: skip
    with opened(config.out, form) as recorder:
        yield _Dataset(recorder, suite)


class _Dataset:
    """A LeRobot dataset."""

    def __init__(self, recorder: Any, suite: Suite):
        self._recorder, self._suite = recorder, suite
        self.done = set(recorder.sources)

    def add(self, found: Demonstration) -> None:
        from training.export.recorder import Recorded

        images = {f"observation.images.{name}": each for name, each in found.images.items()}
        name = _name(self._suite, found.task, found.seed)
        self._recorder.add(Recorded(found.instruction, images, found.states, found.actions, name))
        self.done.add(name)


class _Shards:
    """Shards, a part for each episode."""

    def __init__(self, url: str, suite: Suite):
        if suite.intrinsics is None:
            raise UserError(f"{suite.name}: its states are no poses in a camera's frame: no shards")
        self._where, self._suite = store(url), suite
        self._intrinsics = suite.intrinsics
        self.done = {
            name
            for part, ids in shards.parts(url)
            for name in shards.read_part(self._where, part, ids, ["video_uid"])[0].to_pylist()
        }

    def add(self, found: Demonstration) -> None:
        name = _name(self._suite, found.task, found.seed)
        clip = Clip(
            clip_id=clip_id("simulated", found.version, name, 0.0, len(found.states), ""),
            corpus="simulated", corpus_version=found.version, video_uid=name, root="",
            video_path="", annotation_path="", t_start=0.0,
            t_end=(len(found.states) - 1) / found.fps, narration=found.instruction,
        )  # fmt: skip
        row = rows.Row(clip, 1, trajectory(found, self._intrinsics), "", 0.0, 0.0)
        version = importlib.metadata.version("egoscaler-ray")
        data = rows.parquet(rows.table([row], "", version))
        outcome = shards.Outcome(clip.clip_id, "ok", "", 1, False)
        shards.commit(self._where, 0, data, {"simulated": [outcome]}, "demonstrate")
        self.done.add(name)
