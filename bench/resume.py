"""How long it takes to find out that nothing is left, and how much memory: cold start to answer.

    python bench/resume.py [--clips 1000000] [--clips-per-shard 16]

Makes a manifest and the commit records of a finished run (parts of the right size, but empty),
then runs `extract` on it in a fresh process, which must say that nothing is left; twice, since the
first, like the end of every run, takes snapshots of the records. Prints one JSON line: seconds
(and of them CPU's) and peak memory of each process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ego_ops import job, manifest
from ego_ops.clip import Clip
from tests.pipelines import clips

ROOT = Path(__file__).resolve().parents[1]
BYTES = 1000
RESUME = """
import sys
from workflows.extract import ExtractConfig, run
run(ExtractConfig(manifest=sys.argv[1], out=sys.argv[2], perception="tests.pipelines:Burn"))
assert "ray" not in sys.modules
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) // 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--clips-per-shard", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        listed, out = f"{name}/manifest", f"{name}/shards"
        begun = time.perf_counter()
        manifest.write(listed, many(args.clips))
        indexed = time.perf_counter()
        records = finish(listed, out, args.clips_per_shard)
        runs = [resume(listed, out, args.clips) for _ in range(2)]
    result = {
        "bench": "resume",
        "clips": args.clips,
        "commit_records": records,
        "without_snapshots": runs[0],
        "with_snapshots": runs[1],
        "manifest_s": round(indexed - begun, 1),
    }
    print(json.dumps(result))


def resume(listed: str, out: str, clips: int) -> dict[str, float]:
    """Run `extract` where nothing is left. Returns what that took."""
    before, begun = os.times(), time.perf_counter()
    command = [sys.executable, "-c", RESUME, listed, out]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, after = time.perf_counter() - begun, os.times()
    said, peak = done.stdout.splitlines()
    assert said.startswith(f"nothing left to do: all {clips} clips"), said
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"s": round(seconds, 2), "cpu_s": round(cpu, 2), "peak_mb": int(peak)}


def many(count: int) -> Iterator[Clip]:
    """Clips with made-up ids that are spread like digests."""
    (one,) = clips(1)
    for i in range(count):
        number = i * 0x9E3779B97F4A7C15 % 2**64
        yield replace(one, clip_id=f"{number:016x}", video_path=f"videos/{i // 50:07d}.mp4")


def finish(listed: str, out: str, size: int) -> int:
    """Leave `out` as a run that committed every clip would. Returns the number of records."""
    found = manifest.Manifest(listed)
    begun = job.begin(out, found, "tests.pipelines:Burn", {})
    records = 0
    for bucket in range(found.buckets):
        folder = f"bucket={bucket:05d}"
        os.makedirs(f"{out}/{folder}")
        os.makedirs(f"{out}/commits/{folder}")
        ids = found.ids(bucket)
        for at in range(0, len(ids), size):
            some, digest = ids[at : at + size], f"{records:016x}"
            part = f"{folder}/part-{digest}.parquet"
            with open(f"{out}/{part}", "wb") as file:
                file.truncate(BYTES)
            record = {
                "file": part,
                "sha256": digest * 4,
                "bytes": BYTES,
                "rows": len(some),
                "run": begun.run,
                "time": time.time(),
                "clips": {"toy": [[i, "ok", "", 1, False] for i in some]},
            }
            name = f"{some[0]}-{some[-1]}-{digest}.json"
            with open(f"{out}/commits/{folder}/{name}", "w") as file:
                json.dump(record, file, separators=(",", ":"))
            records += 1
    return records


if __name__ == "__main__":
    main()
