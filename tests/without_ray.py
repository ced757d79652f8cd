"""An `extract` job in a few processes one after the other, without Ray: what a run should come to
that is disturbed."""

from __future__ import annotations

import multiprocessing

import pyarrow as pa

from ego_ops import work
from ego_ops.bucket import read_bucket
from ego_ops.job import Job, begin
from ego_ops.manifest import Manifest
from ego_ops.storage import store
from workflows.extract import ExtractConfig

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["ego_ops.work", "tests.pipelines"])
_UNIT = 50
"""Clips."""


def run(config: ExtractConfig) -> None:
    """Do all that there is to do. Clips may kill their process: another one goes on."""
    manifest = Manifest(config.manifest)
    options = dict(one.split("=", 1) for one in config.option)
    given = {name: float(text) if name == "seconds" else text for name, text in options.items()}
    job = begin(config.out, manifest, config.perception, given, config.clip_timeout_s)
    while units := _left(manifest, job):
        process = _PROCESSES.Process(target=_do, args=(job, units))
        process.start()
        process.join()


def _left(manifest: Manifest, job: Job) -> list[work.Unit]:
    units = []
    for bucket in range(manifest.buckets):
        done = read_bucket(store(job.out), bucket)
        ids: pa.Array = done.left(manifest.id_column(bucket), job.retry, job.run)
        for at in range(0, len(ids), _UNIT):
            part = ids[at : at + _UNIT].to_pylist()
            units.append(work.Unit(bucket, part[0], part[-1]))
    return units


def _do(job: Job, units: list[work.Unit]) -> None:
    for unit in units:
        work.solve(job, unit, work.perceive(job, unit))
