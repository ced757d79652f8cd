"""Training samples a second from shards, against LeRobot's loader on the same episodes.

    python bench/loader.py --peer-python oracle/bin/python

Prints one JSON line. Makes shards of textured moving pictures (224 x 224 JPEGs, 60 steps a clip)
and exports them by `egoscaler export lerobot`; both sides then give batches of 32 windows in an
order of chance, each with its picture and 50 actions, with two workers, in processes of their own,
turn by turn. Ours are threads, and also tokenise, normalise, pad, and draw noise and time; with
`augmented` they augment too. LeRobot's are processes, set up as `lerobot-train` does. Peak memory
is then measured of our loader on 1,000 and on 100,000 clips.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ego_ops import rows
from ego_ops.clip import clip_id
from tests import shard_files
from training import tokeniser
from training.config import SIZES, SourceConfig
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.norm import NormStats, Statistics
from training.data.sources import open_source, order
from workflows.export_lerobot import LerobotConfig
from workflows.export_lerobot import run as export

ROOT = Path(__file__).resolve().parents[1]
BATCH, WORKERS, HORIZON, FPS, STEPS = 32, 2, 50, 10, 60


def scene_shards(url: str, clips: int) -> None:
    """Shards of pictures that are as hard to store and decode as a kitchen's."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3)).astype(np.float32)
    scene = sum(cv2.GaussianBlur(noise, (0, 0), 3 * 4**k) * 4.0**k for k in range(3))
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    parts: list[list] = [[] for _ in range(-(-clips // 20))]
    for number in range(clips):
        found = shard_files.trajectory(number, STEPS, 8)
        x, y = number * 37 % 300, number * 53 % 300
        images = (scene[y + t : y + t + 224, x + t // 2 : x + t // 2 + 224] for t in range(STEPS))
        found = replace(found, frames=shard_files.encode_jpegs(images, 224))
        parts[number // 20].append((shard_files.clip(number), found))
    shard_files.write(url, parts)


def many_shards(url: str, clips: int, steps: int = 12) -> None:
    """Shards of many clips with tiny pictures, all of the same trajectories."""
    base = [
        rows.Row(shard_files.clip(n), 1, shard_files.trajectory(n, steps, 16), "", 0, 0)
        for n in range(500)
    ]
    table = rows.table(base, "", "")
    for part in range(clips // 500):
        ids = sorted(clip_id("toy", "1", "video", part, part + 1, str(n)) for n in range(500))
        made = table.set_column(0, table.schema.field(0), pa.array(ids))
        shard_files.put(url, made, part)


def ours(url: str, seconds: float, augmented: bool) -> dict:
    """Time our loader in this process."""
    config = SourceConfig(url)
    begin = time.perf_counter()
    source = open_source(config, HORIZON)
    ready = time.perf_counter() - begin
    unit = Statistics(np.zeros(9), np.ones(9), -np.ones(9), np.ones(9))
    model = replace(SIZES["tiny"], horizon=HORIZON)
    mixer = Mixer(
        [source],
        [NormStats(unit, unit)],
        [config.normalise],
        tokeniser.load("bytes"),
        model,
        0,
        augmented,
    )
    queue = order([source], [config], 0)
    with Loader([source], queue, mixer, batch=BATCH, threads=WORKERS) as loader:
        for _ in range(2 * WORKERS):
            next(loader)
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            done += len(next(loader).actions)
        spent = time.perf_counter() - begin
    return {"samples_s": done / spent, "peak_mb": peak_mb(), "index_s": ready}


def peak_mb() -> float:
    """Most memory that this process ever held. What getrusage says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def apart(python: str, *words: str) -> dict:
    """The JSON line that a process of its own prints."""
    done = subprocess.run([python, *words], stdout=subprocess.PIPE, text=True, check=True)
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def ours_apart(url: str, seconds: float, *words: str) -> dict:
    return apart(sys.executable, __file__, "--ours", url, "--seconds", str(seconds), *words)


def against(peer: str | None, folder: Path, args: argparse.Namespace) -> dict:
    """Both sides on the same episodes, turn by turn."""
    url, data = str(folder / "shards"), str(folder / "lerobot")
    scene_shards(url, args.clips)
    sides: dict[str, list[dict]] = {"ours": [], "augmented": [], "lerobot": []}
    if peer:
        export(LerobotConfig(shards=url, out=data, workers=1, quiet=True))
    for _ in range(args.turns):
        sides["ours"].append(ours_apart(url, args.seconds))
        sides["augmented"].append(ours_apart(url, args.seconds, "--augment"))
        if peer:
            words = {"--fps": FPS, "--horizon": HORIZON, "--batch": BATCH, "--workers": WORKERS}
            flat = [str(word) for pair in words.items() for word in pair]
            script = str(ROOT / "bench" / "loader_peer.py")
            sides["lerobot"].append(
                apart(peer, script, data, *flat, "--seconds", str(args.seconds))
            )
    found: dict = {
        name: round(statistics.median(each["samples_s"] for each in turns), 1)
        for name, turns in sides.items()
        if turns
    }
    if peer:
        found["lerobot_reads_video_by"] = sides["lerobot"][0]["backend"]
        found["lerobot_version"] = sides["lerobot"][0]["lerobot"]
        for name in ("ours", "augmented"):
            pairs = zip(sides[name], sides["lerobot"], strict=True)
            ratios = [a["samples_s"] / b["samples_s"] for a, b in pairs]
            found[f"times_lerobot_{name}"] = round(statistics.median(ratios), 2)
    return found


def memory(folder: Path, sizes: tuple[int, ...], seconds: float) -> dict:
    """Peak memory of our loader by number of clips, and seconds to open the source."""
    found: dict = {}
    for clips in sizes:
        url = str(folder / f"many-{clips}")
        many_shards(url, clips)
        one = ours_apart(url, seconds)
        found[str(clips)] = {name: round(one[name], 2) for name in ("peak_mb", "index_s")}
    return found


def main() -> None:
    """Make shards, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="a Python that has lerobot[dataset] 0.6.1")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each timing")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    parser.add_argument("--augment", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(ours(args.ours, args.seconds, args.augment)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"samples_s": against(args.peer_python, folder, args)}
        found["memory"] = memory(folder, (1000, 100_000), args.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
