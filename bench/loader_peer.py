"""LeRobot's side of `bench/loader.py`: its dataset and PyTorch's DataLoader, as lerobot-train has.

Prints one JSON line. Runs in an interpreter that has lerobot[dataset] 0.6.1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from importlib.metadata import version
from itertools import islice

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def main() -> None:
    """Time batches of a dataset, in an order of chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the dataset's folder")
    parser.add_argument("--fps", type=int, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    backend = "torchcodec" if importlib.util.find_spec("torchcodec") else "pyav"
    data = LeRobotDataset(
        "bench/loader",
        root=args.root,
        delta_timestamps={"action": [step / args.fps for step in range(args.horizon)]},
        video_backend=backend,
        return_uint8=True,
    )
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=args.batch,
        shuffle=True,
        num_workers=args.workers,
        prefetch_factor=4,
        persistent_workers=True,
        generator=torch.Generator().manual_seed(0),
    )
    batches = iter(loader)
    for _ in islice(batches, 2 * args.workers):
        pass  # workers start, files open
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < args.seconds:
        done += len(next(batches)["action"])
    spent = time.perf_counter() - begin
    found = {"samples_s": done / spent, "backend": backend, "lerobot": version("lerobot")}
    print(json.dumps(found), flush=True)
    del batches, loader


if __name__ == "__main__":
    main()
