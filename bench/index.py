"""How long `egoscaler index` takes on a corpus in Ego4D's form, and how much memory.

    python bench/index.py [--clips 1000000]

Writes ego4d.json and annotations/narration.json, 200 manipulations to a video and one narration in
eleven of something else, and a file for each video; then indexes it in a fresh process, and again,
when all is known. Prints one JSON line: seconds (and of them CPU's) and peak memory of each,
imports included. The limits are 60 s and 2 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
A_VIDEO = 200
THINGS = ("cup", "wooden spoon", "plate", "screwdriver", "paint brush", "left shoe", "red bowl")
DEEDS = ("picks up the {} from the table", "puts the {} in the sink", "moves the {} with his hand")
INDEX = """
import sys
from workflows.index import IndexConfig, run
written = run(IndexConfig("ego4d", sys.argv[1], sys.argv[2]))
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(written.new, written.known, int(peak) // 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name) / "ego4d", f"{name}/manifest"
        write_corpus(root, args.clips // A_VIDEO)
        size = (root / "annotations" / "narration.json").stat().st_size
        first, again = index(root, out), index(root, out)
    limits = first["s"] <= 60 and first["peak_mb"] <= 2048
    result = {
        "bench": "index",
        "narrations": args.clips + args.clips // 10,
        "annotations_mb": round(size / 1e6),
        "first": first,
        "again": again,
        "ok": limits,
    }
    print(json.dumps(result))


def write_corpus(root: Path, videos: int) -> None:
    """Ego4D's two files and empty-handed videos, streamed, so that any size fits."""
    (root / "annotations").mkdir(parents=True)
    (root / "full_scale").mkdir()
    uids = [
        str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128))
        for number in range(videos)
    ]
    for uid in uids:
        (root / "full_scale" / f"{uid}.mp4").write_bytes(b"video")
    with open(root / "ego4d.json", "w") as file:
        json.dump({"version": "2.0", "videos": [_video(uid) for uid in uids]}, file)
    with open(root / "annotations" / "narration.json", "w") as file:
        _stream(file, ((uid, _told(number)) for number, uid in enumerate(uids)))


def _stream(file: IO[str], entries: Iterator[tuple[str, Any]]) -> None:
    """A JSON object of many entries."""
    file.write("{")
    for number, (key, value) in enumerate(entries):
        file.write(f"{', ' if number else ''}{json.dumps(key)}: {json.dumps(value)}")
    file.write("}")


def _video(uid: str) -> dict[str, Any]:
    stream = {"fps": 30.0, "display_resolution_width": 1920, "display_resolution_height": 1080}
    return {
        "video_uid": uid,
        "duration_sec": 5.0 * A_VIDEO,
        "video_metadata": stream,
        "device": "GoPro Hero 4",
    }


def _told(video: int) -> dict[str, Any]:
    narrations = []
    for number in range(A_VIDEO):
        deed = DEEDS[number % len(DEEDS)].format(THINGS[(video + number) % len(THINGS)])
        narrations.append(_said(video, 5.0 * number + 2, f"#C C {deed}"))
        if number % 10 == 9:
            narrations.append(_said(video, 5.0 * number + 4.5, "#C C walks around the room"))
    return {"narration_pass_1": {"narrations": narrations, "summaries": []}, "status": "complete"}


def _said(video: int, t: float, text: str) -> dict[str, Any]:
    return {
        "timestamp_sec": t,
        "timestamp_frame": round(30 * t),
        "narration_text": text,
        "annotation_uid": f"{video:08x}-0000-4000-8000-000000000000",
    }


def index(root: Path, out: str) -> dict[str, Any]:
    before, begun = os.times(), time.perf_counter()
    command = [sys.executable, "-c", INDEX, str(root), out]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, after = time.perf_counter() - begun, os.times()
    new, known, peak = map(int, done.stdout.split()[-3:])
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {
        "new": new,
        "known": known,
        "s": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "peak_mb": peak,
    }


if __name__ == "__main__":
    main()
