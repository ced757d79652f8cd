"""Shards to a LeRobotDataset v3.0: one Ray task a file, and what is said of all at the end.

    clips, cut into files -> a video, a Parquet file and what is said of its episodes, each
    (tasks) -> meta/ -> renamed to where it belongs

A dataset that is there is whole. Run the same command again after any stop: files that are made
are kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ego_ops.errors import UserError
from ego_ops.storage import LocalStore
from ego_ops.storage_errors import unwritable
from training.export.card import lerobot_card
from training.export.file import DATASET, DONE, export_file
from training.export.folder import begun, finished
from training.export.meta import write_meta
from training.export.plan import Plan, plan
from workflows import cluster


@dataclass(frozen=True)
class LerobotConfig:
    """Write trajectories as a LeRobotDataset v3.0, with their pictures as video.

    It holds pixels of the corpora's videos, so it is bound by their licences.
    """

    shards: str = "shards"
    """Folder (or fsspec URL) of the shards, from `extract`."""
    out: str = "lerobot"
    """Folder of the dataset. It must not be there yet; on a cluster, one that every node sees."""
    selection: str | None = None
    """Only the clips of this selection, from `curate`."""
    fps: int | None = None
    """Only the clips of this rate, where the shards have several; a dataset has one."""
    repo_id: str = "egoscaler/export"
    """The dataset's name on the hub, for its card."""
    file_seconds: float = 800.0
    """Most seconds of video in a file, up to 1000: from 1024 s on LeRobot cannot tell frames
    apart."""
    workers: int | None = None
    """Files made at a time; by default one a core (with an address: what the cluster has)."""
    address: str | None = None
    """Ray cluster to join: see `egoscaler extract --help`."""
    quiet: bool = False
    """Print nothing but the last line."""


def run(config: LerobotConfig) -> None:
    """Export what is committed, or what is selected of it.

    Raises:
        UserError: nothing to export, clips of several rates, a shard or a picture is damaged,
            something else is in `out`, or it cannot be written.
    """
    if not 0 < config.file_seconds <= 1000:
        raise UserError(f"--file-seconds {config.file_seconds:g}: not within 0 and 1000")
    planned = plan(config.shards, config.selection, config.fps, config.file_seconds)
    work = f"{config.out.rstrip('/')}.partial"
    if not finished(config.out, planned.digest):
        busy = f"{config.out}: another process is exporting there"
        with LocalStore(work).lock("lock", busy), cluster.interruptible(work):
            begun(work, planned.digest)
            _make(config, planned, work)
            _finish(config, planned, work)
            shutil.rmtree(work)
    left = [
        f"{count} clips of {why} left out"
        for count, why in ((planned.too_short, "one step"), (planned.other_rates, "other rates"))
        if count
    ]
    print(
        f"{len(planned.ids)} episodes, {planned.frames} frames at {planned.fps} Hz, "
        f"{len(planned.tasks)} tasks in {config.out}{''.join(f'; {text}' for text in left)}"
    )


def _make(config: LerobotConfig, planned: Plan, work: str) -> None:
    """Make every file that is not made."""
    done = {path.name for path in Path(work, DONE).glob("*.parquet")}
    left = [n for n in range(planned.files) if f"{n:06d}.parquet" not in done]
    made = planned.files - len(left)
    alone = not cluster.joined(config.address)
    if alone and (len(left) < 2 or config.workers == 1):
        each = _here(config, planned, work, left)
    else:
        each = _with_ray(config, planned, work, left)
    for _ in each:
        made += 1
        if not config.quiet:
            print(f"{made} of {planned.files} files", flush=True)


def _here(config: LerobotConfig, planned: Plan, work: str, left: list[int]) -> Iterator[None]:
    """One file after the other, in this process."""
    for number in left:
        export_file(config.shards, work, planned.file(number))
        yield


def _with_ray(config: LerobotConfig, planned: Plan, work: str, left: list[int]) -> Iterator[None]:
    """One task a file, so many at a time that none waits for the driver."""
    cpus = config.workers or cluster.cores()
    with cluster.session(config.address, cpus, f"what is made in {work}") as nodes:
        import ray

        workers = cluster.at_once(config.workers, config.address, nodes)
        task = ray.remote(num_cpus=1, max_retries=-1)(_export)
        running: list = []
        for number in left:
            if len(running) >= 2 * workers:
                yield from _wait(running)
            running.append(task.remote(config.shards, work, planned.file(number)))
        while running:
            yield from _wait(running)


def _export(*file) -> str:  # type: ignore[no-untyped-def]
    """`export_file`; an error as its text, which Ray would bury in a traceback."""
    try:
        export_file(*file)
    except UserError as error:
        return str(error)
    return ""


def _wait(running: list) -> Iterator[None]:
    import ray

    ready, running[:] = ray.wait(running)
    for error in ray.get(ready):
        if error:
            raise UserError(error)
        yield


def _finish(config: LerobotConfig, planned: Plan, work: str) -> None:
    origin = {
        "digest": planned.digest,
        "clips_of_one_step": planned.too_short,
        "clips_of_other_rates": planned.other_rates,
    }
    try:
        write_meta(work, planned, origin, lerobot_card(config.repo_id, planned))
        os.sync()
        os.rename(Path(work, DATASET), config.out)
    except OSError as error:
        raise unwritable(config.out, error) from error
