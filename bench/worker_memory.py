"""Peak memory of a worker on a 4-second clip of 1408 x 1408 pixels at 30 Hz, Aria's format.

Renders the clip, works on it in a process of its own that has Ray loaded as a worker has, and
prints one JSON line. The limit is 1.5 GiB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ego_ops.synthetic import write_clip

LIMIT_GIB = 1.5
WORKER = r"""
import re, sys, time, ray.data
from dataclasses import replace
from ego_ops import corpora
from ego_ops.errors import Rejection
from ego_ops.perception.geometric import GeometricPipeline
(clip,) = corpora.get("egodex").index(sys.argv[1])
clip = replace(clip, t_end=min(clip.t_end, 4.0))
pipeline = GeometricPipeline()
def peak_kib():  # of this program alone; getrusage would count its parent's too
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
before = peak_kib()
began = time.process_time()
try:
    status = "ok" if pipeline.solve(clip, pipeline.perceive(clip)) else ""
except Rejection as error:
    status = error.reason
print(status, before, peak_kib(), time.process_time() - began)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder), 0, 0, (1408, 1408), 0.010)
        worker = [sys.executable, "-c", WORKER, folder]
        words = subprocess.run(worker, check=True, capture_output=True, text=True).stdout.split()
    status, before, peak = words[0], int(words[1]) / 2**20, int(words[2]) / 2**20
    figures = {
        "bench": "worker_memory",
        "clip": "1408x1408, 30 Hz, 4 s",
        "status": status,
        "idle_gib": round(before, 3),
        "peak_gib": round(peak, 3),
        "cpu_s": round(float(words[3]), 1),
        "limit_gib": LIMIT_GIB,
        "ok": peak <= LIMIT_GIB,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
