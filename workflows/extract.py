"""Clips to trajectories: the manifest less what is committed, through Ray Data, to shards.

    units of left clips -> perceive (actors; a GPU each, if asked for) -> solve and commit (tasks)

One row of the plan is one unit of work, and one row comes out for each that goes in: a summary of
what was committed. Everything that matters is in the shards' commit records, so any process here
may die at any moment, the driver too: run the same command again and it continues.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ego_ops import pipeline, records, work
from ego_ops.bucket import read_bucket
from ego_ops.errors import UserError
from ego_ops.job import Job, begin
from ego_ops.manifest import Manifest
from ego_ops.storage import store
from workflows import cluster, metrics
from workflows.pace import Pace
from workflows.progress import Progress

_WAVE = 8192
"""Units given to Ray at a time, so that the driver's memory does not grow with the manifest."""
_WAVE_CLIPS = 500_000
"""And clips at most, for the same reason."""


@dataclass(frozen=True)
class ExtractConfig:
    """Extract object trajectories from the clips of a manifest."""

    manifest: str = "manifest"
    """Folder (or fsspec URL) of the manifest, from `index`."""
    out: str = "shards"
    """Folder (or fsspec URL) for the shards. It is bound to one manifest and configuration. On a
    cluster both folders, and the corpora, must be ones that every node sees."""
    perception: str = "geometric"
    """Pipeline: a name, or module:Class for one of your own."""
    option: tuple[str, ...] = ()
    """Options of the pipeline, as key=value; values are read as JSON where they are."""
    workers: int | None = None
    """Perception actors; by default one a core (with an address: what the cluster has room for
    now). On a cluster that grows on demand, the number that it shall grow to."""
    cpus_per_worker: float = 1.0
    """CPUs of each perception actor."""
    solves_per_worker: float = 1.0
    """Solves at a time for each perception actor, a CPU each: more where a GPU perceives faster
    than one CPU can solve, a fraction where perceiving takes far longer. A worker takes
    cpus_per_worker + solves_per_worker CPUs in all."""
    gpus_per_worker: float = 0.0
    """GPUs that Ray sets aside for each perception actor; 0.5 puts two on one GPU."""
    clips_per_shard: int = 500
    """Most clips committed together. They are fewer where they take long: about a minute's work,
    which is what a crash costs each worker, or 64 MB, but at least 8."""
    clip_timeout_s: float = 600.0
    """Seconds after which a half of the work on one clip counts as hung."""
    retry: tuple[str, ...] = ()
    """Reasons and error classes to try once more although they are final, e.g. missing_file."""
    max_unexpected: float = 0.05
    """Share of `unexpected` failures above which the run ends as failed."""
    address: str | None = None
    """Ray cluster to join: "auto" on a machine of it, or host:port. By default that of
    RAY_ADDRESS, which a submitted job has; without it, Ray is started on this machine."""
    quiet: bool = False
    """Print nothing but the last line."""


def run(config: ExtractConfig) -> Progress:
    """Work on every clip that is left, and commit what becomes of it.

    Raises:
        UserError: the configuration does not fit, the storage refuses, the run was interrupted,
            or too much failed unexpectedly.
    """
    manifest = Manifest(config.manifest)
    retry = frozenset(label for text in config.retry for label in text.split(",") if label)
    options = dict(_option(text) for text in config.option)
    pipeline.load(config.perception, options)  # a typing error must not bind the folder to itself
    job = begin(config.out, manifest, config.perception, options, config.clip_timeout_s, retry)
    total = sum(manifest.totals.values())
    pace = Pace(config.clips_per_shard)
    count, wave = _left(manifest, job, pace.size)
    progress = Progress(done=total - count, left=count, quiet=config.quiet)
    if not count:
        print(f"nothing left to do: all {progress.done} clips are committed in {config.out}")
        return progress
    with cluster.connect(config) as workers, cluster.interruptible(config.out):
        while wave:
            before = progress.attempts, count
            units = _units(wave, pace.size, workers)
            if not pace.known:
                units = units[: 4 * workers]
            for summary in _plan(units, job, workers, config):
                if summary["fatal"]:
                    raise UserError(summary["fatal"])
                pace.learn(summary)
                progress.add(summary)
                progress.check(config.max_unexpected)
            # What was to be tried again (a storage that timed out) is left once more.
            count, wave = _left(manifest, job, pace.size)
            progress.done, progress.left = total - count, count
            if (progress.attempts, count) == before:
                raise UserError(
                    f"{config.out}: {count} clips stay undone: is it written by others?"
                )
    progress.close(config.max_unexpected)
    return progress


def _plan(units: list[work.Unit], job: Job, workers: int, config: ExtractConfig) -> Iterator[dict]:
    import ray

    rows = [vars(unit) for unit in units]
    plan = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            Perceive,
            fn_constructor_args=(job,),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cluster.cpus(config),
            num_gpus=config.gpus_per_worker,
            batch_size=1,
            batch_format="pyarrow",
        )
        .map_batches(
            solve_and_commit,
            fn_args=(job,),
            compute=ray.data.TaskPoolStrategy(size=math.ceil(workers * config.solves_per_worker)),
            num_cpus=cluster.SOLVE_CPUS,
            batch_size=1,
            batch_format="pyarrow",
        )
    )
    yield from plan.iter_rows()


class Perceive:
    """The actor of the first stage. What it returns travels as bytes; frames stay small JPEGs."""

    def __init__(self, job: Job):
        self._job = job

    def __call__(self, batch: pa.Table) -> pa.Table:
        unit = work.Unit(**batch.to_pylist()[0])
        fatal, perceived = "", []
        try:
            perceived = work.perceive(self._job, unit)
        except UserError as error:
            fatal = str(error)
        columns = {**vars(unit), "perceived": pickle.dumps(perceived, -1), "fatal": fatal}
        return pa.table({name: [value] for name, value in columns.items()}, schema=_BETWEEN)


def solve_and_commit(batch: pa.Table, job: Job) -> pa.Table:
    (row,) = batch.drop_columns("perceived").to_pylist()
    fatal, done = row.pop("fatal"), None
    try:
        if not fatal:
            perceived = pickle.loads(batch["perceived"][0].as_buffer())
            done = work.solve(job, work.Unit(**row), perceived)
            metrics.committed(done)
    except UserError as error:
        fatal = str(error)
    return pa.table({name: [value] for name, value in _summary(done, fatal).items()})


def _summary(done: work.Done | None, fatal: str) -> dict[str, Any]:
    """What the driver hears of a unit: counts as `Progress` has them, and what it took."""
    columns: dict[str, Any] = dict.fromkeys(Progress.COUNTED, 0)
    columns |= {"fatal": fatal, "clips": 0, "seconds": 0.0, "bytes": 0}
    if done:
        columns["clips"] = done.counts.total()
        for (_, status, label), count in done.counts.items():
            columns[status] += count
            columns["unexpected"] += count * (label == "unexpected")
        columns["seconds"] = done.seconds["perceive"] + done.seconds["solve"]
        columns["bytes"] = done.bytes
    return columns


_BETWEEN = pa.schema(
    {
        "bucket": pa.int64(),
        "first": pa.string(),
        "last": pa.string(),
        "perceived": pa.large_binary(),
        "fatal": pa.string(),
    }
)


def _left(manifest: Manifest, job: Job, size: int) -> tuple[int, list[tuple[int, pa.Array]]]:
    """How many clips are left, and by bucket the ids of the first of them, as many as a wave has.

    Also takes a snapshot of the commit records of a bucket where that spares the next to look.
    """
    where = store(job.out)

    def look(bucket: int) -> pa.Array:
        done = read_bucket(where, bucket)
        if done.records.loose > records.ENOUGH:
            records.save(where, bucket, done.records)
        return done.left(manifest.id_column(bucket), job.retry, job.run)

    count, wave, most = 0, [], min(size * _WAVE, _WAVE_CLIPS)
    for bucket, ids in enumerate(where.each(look, range(manifest.buckets))):
        if len(ids) and count < most:
            wave.append((bucket, ids))
        count += len(ids)
    return count, wave


def _units(wave: list[tuple[int, pa.Array]], most: int, workers: int) -> list[work.Unit]:
    """Cut what is left into units of at most `most` clips, small enough to busy every worker."""
    share = math.ceil(sum(len(ids) for _, ids in wave) / (4 * workers))
    size = max(1, min(most, share))
    units = []
    for bucket, ids in wave:
        for at in range(0, len(ids), size):
            last = min(at + size, len(ids)) - 1
            units.append(work.Unit(bucket, ids[at].as_py(), ids[last].as_py()))
    return units


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--option {text}: not of the form key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
