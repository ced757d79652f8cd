"""How long `egoscaler curate` takes on shards with a million clips, and how much memory.

    python bench/curate.py [--clips 1000000]

Writes shards of 500 clips with random scores, one in eight rejected or failed; selects from them
in a fresh process, without and with a fence; then reads the selection back. Prints one JSON line:
seconds (and of them CPU's) and peak memory of each, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ego_ops import rows, shards
from ego_ops.quality import SCORES
from ego_ops.storage import store

ROOT = Path(__file__).resolve().parents[1]
A_SHARD, A_BUCKET = 500, 4
VERBS = ("pick", "put", "move", "cut", "open", "wash", "pour", "stir")
MIDDLES = {
    **dict.fromkeys(SCORES, 0.5),
    **{name: 0.8 for name in SCORES if name.endswith("_share")},
    **{name: 0.0 for name in SCORES if name.startswith("is_")},
    "position_sd_m": 0.008,
    "rotation_sd_rad": 0.1,
    "longest_gap_s": 0.2,
    "depth_scale_spread": 0.05,
    "jerk_rms_m_s3": 40.0,
}
"""About what each score is drawn."""
PEAK = """
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) // 1024)
"""
CURATE = """
import sys
from workflows.cli import main
assert main(sys.argv[1:]) == 0
"""
READ = """
import sys
from ego_ops.curation import selected
chosen = selected(sys.argv[1])
assert len(chosen) == sum(len(ids) for _, ids in chosen.parts()) > 0
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url, out = f"{name}/shards", f"{name}/selection.parquet"
        write_shards(url, args.clips)
        flags = ["curate", "--shards", url, "--out", out]
        result = {
            "bench": "curate",
            "clips": args.clips,
            "default": run(CURATE, *flags),
            "strict_with_page": run(
                CURATE, *flags, "--policy", "strict", "--html", f"{name}/curation.html"
            ),
            "read_back": run(READ, out),
            "selection_mb": round(Path(out).stat().st_size / 1e6, 1),
        }
    print(json.dumps(result))


def write_shards(url: str, clips: int) -> None:
    rng, where = np.random.default_rng(0), store(url)
    for shard in range(0, clips // A_SHARD):
        made = table(rng, shard)
        status, ids = made["status"].to_pylist(), made["clip_id"].to_pylist()
        outcomes = [
            shards.Outcome(clip_id, end, "" if end == "ok" else "why", 1, False)
            for clip_id, end in zip(ids, status, strict=True)
        ]
        shards.commit(where, shard // A_BUCKET, rows.parquet(made), {"toy": outcomes}, "run")


def table(rng: np.random.Generator, shard: int) -> pa.Table:
    """One shard's rows: scores about plausible medians, no trajectories, since none is read."""
    status = rng.choice(["ok", "rejected", "failed"], A_SHARD, p=[0.875, 0.1, 0.025])
    good = status == "ok"
    ids = np.sort(rng.integers(0, 1 << 63, A_SHARD, np.int64))
    columns: dict[str, object] = {
        "clip_id": [f"{number:016x}" for number in ids],
        "corpus": ["toy"] * A_SHARD,
        "verb": rng.choice(VERBS, A_SHARD),
        "object": [f"thing {number}" for number in rng.integers(0, 1000, A_SHARD)],
        "status": status,
        "reason": np.where(status == "rejected", "why", None),
        "error_class": np.where(status == "failed", "why", None),
        "frames": [[rng.bytes(64)] if ok else None for ok in good],
    }
    for name in SCORES:
        values = MIDDLES[name] * np.exp(rng.normal(0, 0.4, A_SHARD))
        values = np.minimum(values, 1) if name.endswith("_share") else values
        columns[name] = pa.array(np.where(good, values, np.nan), pa.float32(), from_pandas=True)
    arrays = [
        pa.array(columns.get(field.name, [None] * A_SHARD), field.type) for field in rows.SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=rows.SCHEMA)


def run(code: str, *args: str) -> dict[str, float]:
    """Seconds, seconds of CPU and peak megabytes of a program in a process of its own."""
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK, *args],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    spent, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {
        "s": round(spent, 1),
        "cpu_s": round(cpu, 1),
        "peak_mb": int(done.stdout.split()[-1]),
    }


if __name__ == "__main__":
    main()
