"""The tabletop's tasks as pictures: their start, the thing in the gripper, and their end.

    python bench/tabletop_picture.py --out bench/pictures/tabletop.jpg [--seeds 0,1,2,3]

One row for each task, each with its own seed, done by the script.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sim_eval.suite import Environment, Image, Task
from sim_eval.suites import get

COLUMNS = 5


def film(environment: Environment, task: Task, seed: int) -> list[Image]:
    """A picture of every step of the script's episode."""
    environment.reset(task.name, seed)
    shown = [_seen(environment)]
    for _ in range(task.horizon):
        solved = environment.step(environment.expert())
        shown.append(_seen(environment))
        if solved:
            return shown
    raise SystemExit(f"the script did not solve {task.name}, seed {seed}")


def _seen(environment: Environment) -> Image:
    return np.hstack(list(environment.observe().images.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", default="0,1,2,3", help="one for each task")
    parser.add_argument("--suite", default="tabletop", help="or tabletop_wrist")
    args = parser.parse_args()
    suite = get(args.suite)
    environment = suite.environment()
    rows = []
    for task, seed in zip(suite.tasks.values(), args.seeds.split(","), strict=True):
        shown = film(environment, task, int(seed))
        chosen = np.linspace(0, len(shown) - 1, COLUMNS).round().astype(int)
        rows.append(np.hstack([shown[k] for k in chosen]))
    environment.close()
    cv2.imwrite(args.out, np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    main()
