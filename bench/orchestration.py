"""What Ray, the shards and the commits cost: clips/s of `extract` over clips/s of plain loops.

    python bench/orchestration.py [--clips 600] [--clip-ms 100] [--clips-per-shard 16]

The pipeline burns a fixed CPU time on each clip, so the plain loops (one process a worker, nothing
written) are the most that the cores can give. The rate of `extract` is taken from the times in
its commit records, first to last; starting Ray and its actors is reported apart. `cpu_share` is
the part of all CPU time that the pipeline got, Ray's processes and the start of the actors
counted: unlike the ratio it holds on a busy machine too. With --clip-ms 0 both say nothing, and
the rate is what the machinery can do at best. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ego_ops import shards
from tests.pipelines import Burn, clips, write_manifest
from workflows import cluster, extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--clip-ms", type=float, default=100.0)
    parser.add_argument("--clips-per-shard", type=int, default=16)
    args = parser.parse_args()
    workers = os.cpu_count() or 1
    seconds = {"perceive_s": args.clip_ms * 0.8e-3, "solve_s": args.clip_ms * 0.2e-3}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = extract.ExtractConfig(
            manifest=write_manifest(folder, args.clips),
            out=str(folder / "shards"),
            perception="tests.pipelines:Burn",
            option=tuple(f"{key}={value}" for key, value in seconds.items()),
            workers=workers,
            clips_per_shard=args.clips_per_shard,
            quiet=True,
        )
        with cluster.connect(config):
            begun = time.time()
            with _CpuTime() as cpu:
                extract.run(config)
            wall = time.time() - begun
        first, rate = _rate(config.out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with multiprocessing.Pool(workers) as pool:
        plain = sum(pool.map(_plain, [(seconds, min(args.clips, 200) // workers)] * workers))
    result = {
        "bench": "orchestration",
        "workers": workers,
        "clips": args.clips,
        "clip_ms": args.clip_ms,
        "clips_per_shard": args.clips_per_shard,
        "clips_per_s": round(rate, 2),
        "plain_clips_per_s": round(plain, 2),
        "ratio": round(rate / plain, 3),
        "cpu_ms_per_clip": round(1000 * cpu.seconds / args.clips, 2),
        "cpu_share": round(args.clips * args.clip_ms / 1000 / cpu.seconds, 3),
        "start_s": round(first - begun, 1),
        "wall_s": round(wall, 1),
        "driver_peak_mb": round(peak),
    }
    print(json.dumps(result))


class _CpuTime:
    """CPU time that this process and its descendants spend in a `with` block."""

    def __enter__(self) -> _CpuTime:
        self._used: dict[psutil.Process, float] = {}
        self._look()
        self._before = sum(self._used.values())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        self.seconds = sum(self._used.values()) - self._before

    def _watch(self) -> None:
        while not self._done.wait(0.5):  # a worker's last half second is missed
            self._look()

    def _look(self) -> None:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                self._used[process] = used.user + used.system


def _rate(out: str) -> tuple[float, float]:
    """When the first part was committed, and the clips per second from then on."""
    by_time: dict[float, int] = {}
    for _, view in shards.committed(out):
        for entry in view.values():
            by_time[entry.time] = by_time.get(entry.time, 0) + 1
    first, last = min(by_time), max(by_time)
    return first, (sum(by_time.values()) - by_time[first]) / (last - first)


def _plain(task: tuple[dict[str, float], int]) -> float:
    options, count = task
    pipe = Burn(**options)
    begun = time.perf_counter()
    for clip in clips(count):
        pipe.solve(clip, pipe.perceive(clip))
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
