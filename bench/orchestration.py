"""What Ray, the shards and the commits cost, by number of clips.

    python bench/orchestration.py [--clips 10000 100000 1000000] [--steps 4 --frame-bytes 16]
    python bench/orchestration.py --clips 600 --clip-ms 100

By default the pipeline does nothing, and its rows are tiny: what is left is the machinery. With
`--steps 80 --frame-bytes 5000` rows are of the real size, some 400 kB a clip, and the disk is what
limits: its speed is measured in the same run. With `--clip-ms` the pipeline burns so much CPU time
on each clip, and `ratio` compares with plain loops, one process a worker, that write nothing.

Each number of clips is run in a process of its own, and gives one JSON line. The rate is taken
from the times in the commit records, first to last; the start of Ray and its actors is reported
apart. CPU time is that of all processes, Ray's and the start counted. Memory is each process's
peak, less what it shares with others (Ray's object store).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = sys.path[0]  # for Ray's workers, which load the pipeline

from bench.resume import many
from ego_ops import manifest, shards
from tests.pipelines import Burn, clips
from workflows import cluster, extract

DISK_BYTES = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--clip-ms", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--frame-bytes", type=int, default=16)
    parser.add_argument("--clips-per-shard", type=int, default=500)
    args = parser.parse_args()
    if len(args.clips) == 1:
        print(json.dumps(measure(args.clips[0], args)), flush=True)
        return
    for count in args.clips:
        others = [f"--{k.replace('_', '-')}={v}" for k, v in vars(args).items() if k != "clips"]
        subprocess.run([sys.executable, __file__, "--clips", str(count), *others], check=True)


def measure(count: int, args: argparse.Namespace) -> dict[str, Any]:
    workers = os.cpu_count() or 1
    burn = {"perceive_s": args.clip_ms * 0.8e-3, "solve_s": args.clip_ms * 0.2e-3}
    null = {"steps": args.steps, "frame_bytes": args.frame_bytes}
    options = burn if args.clip_ms else null
    with tempfile.TemporaryDirectory() as folder:
        config = extract.ExtractConfig(
            manifest=f"{folder}/manifest",
            out=f"{folder}/shards",
            perception="tests.pipelines:Burn" if args.clip_ms else "bench.null:Null",
            option=tuple(f"{key}={value}" for key, value in options.items()),
            workers=workers,
            clips_per_shard=args.clips_per_shard,
            quiet=True,
        )
        manifest.write(config.manifest, many(count))
        disk = _disk_mb_per_s(folder)
        with _Family() as family:
            begun = time.time()
            with cluster.connect(config), contextlib.redirect_stdout(sys.stderr):
                extract.run(config)
            wall = time.time() - begun
        first, rate, parts = _rate(config.out)
        written = sum(path.stat().st_size for path in Path(config.out).glob("bucket=*/*.parquet"))
    result = {
        "bench": "orchestration",
        "workers": workers,
        "clips": count,
        "row_kb": round(written / count / 1000, 1),
        "parts": parts,
        "clips_per_s": round(rate, 2),
        "cpu_ms_per_clip": round(1000 * family.cpu_s / count, 3),
        "start_s": round(first - begun, 1),
        "wall_s": round(wall, 1),
        "driver_peak_mb": family.peak_mb(own=True),
        "worst_worker_peak_mb": family.peak_mb(own=False),
        "disk_mb_per_s": disk,
    }
    if args.clip_ms:
        plain = _plain_rate(workers, min(count, 200), burn)
        result |= {
            "clip_ms": args.clip_ms,
            "plain_clips_per_s": round(plain, 2),
            "ratio": round(rate / plain, 3),
            "cpu_share": round(count * args.clip_ms / 1000 / family.cpu_s, 3),
        }
    return result


class _Family:
    """CPU time and memory of this process and its descendants in a `with` block."""

    def __enter__(self) -> _Family:
        self._cpu: dict[psutil.Process, float] = {}
        self._peak: dict[psutil.Process, int] = {}
        self._look()
        self._before = sum(self._cpu.values())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        self.cpu_s = sum(self._cpu.values()) - self._before

    def peak_mb(self, own: bool) -> int:
        """Of this process, or of the largest other one."""
        us = psutil.Process()
        return round(max(n for p, n in self._peak.items() if (p == us) == own) / 2**20)

    def _watch(self) -> None:
        while not self._done.wait(0.5):  # a worker's last half second is missed
            self._look()

    def _look(self) -> None:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used, memory = process.cpu_times(), process.memory_info()
                self._cpu[process] = used.user + used.system
                private = memory.rss - memory.shared
                self._peak[process] = max(self._peak.get(process, 0), private)


def _rate(out: str) -> tuple[float, float, int]:
    """When the first part was committed, the clips per second from then on, and the parts."""
    by_time: dict[float, int] = {}
    for _, view in shards.committed(out):
        for entry in view.values():
            by_time[entry.time] = by_time.get(entry.time, 0) + 1
    first, last = min(by_time), max(by_time)
    return first, (sum(by_time.values()) - by_time[first]) / (last - first), len(by_time)


def _disk_mb_per_s(folder: str) -> int:
    """Speed of writing a large file to where the shards go, until it is safe."""
    size = min(DISK_BYTES, shutil.disk_usage(folder).free // 10)
    chunk = os.urandom(2**24)
    begun = time.perf_counter()
    with open(f"{folder}/disk", "wb") as file:
        for _ in range(size // len(chunk)):
            file.write(chunk)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    os.unlink(f"{folder}/disk")
    return round(size / seconds / 1e6)


def _plain_rate(workers: int, count: int, options: dict[str, float]) -> float:
    with multiprocessing.Pool(workers) as pool:
        return sum(pool.map(_plain, [(options, count // workers)] * workers))


def _plain(task: tuple[dict[str, float], int]) -> float:
    options, count = task
    pipe = Burn(**options)
    begun = time.perf_counter()
    for clip in clips(count):
        pipe.solve(clip, pipe.perceive(clip))
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
