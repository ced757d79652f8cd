"""How long LIBERO's simulation takes, ours against its own environment as openpi drives it.

    python bench/libero_speed.py [--suite libero_spatial] [--task NAME] [--steps 20] [--replan 5]

Each runs in a fresh process: load a task, go through 3 resets to different initial states with the
10 steps of rest that follow, do `--steps` random actions, look whenever a policy would be asked.
Prints one JSON line: seconds of each (medians) and megabytes of memory, and how many times as fast
ours is: `episode` is a reset and as many steps as the suite's horizon, looked at every `--replan`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sim_eval import suites
from sim_eval.suites import libero_package, libero_scene

RESETS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--task", default="")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--replan", type=int, default=5)
    parser.add_argument("--only", choices=["ours", "plain"])
    args = parser.parse_args()
    tasks = suites.get(args.suite).tasks
    args.task = args.task or next(iter(tasks))
    if args.only:
        print(json.dumps((ours if args.only == "ours" else plain)(args)))
        return
    figures = {kind: _alone(kind, args) for kind in ("ours", "plain")}
    for each in figures.values():
        steps = tasks[args.task].horizon
        looks = steps / args.replan
        each["episode"] = round(each["reset"] + steps * each["step"] + looks * each["observe"], 3)
    ratios = {
        what: round(figures["plain"][what] / figures["ours"][what], 2)
        for what in ("load", "reset", "step", "episode", "rss_mb")
    }
    head = {"bench": "libero", "suite": args.suite, "task": args.task, "replan": args.replan}
    print(json.dumps({**head, **figures, "plain_over_ours": ratios}))


def ours(args: argparse.Namespace) -> dict[str, float]:
    environment = suites.get(args.suite).environment()
    load = _seconds(environment.reset, args.task, 0)
    resets = [_seconds(environment.reset, args.task, seed) for seed in range(1, RESETS + 1)]
    environment.observe()
    steps, looks = [], []
    for number, action in enumerate(_actions(args.steps)):
        if number % args.replan == 0:
            looks.append(_seconds(environment.observe))
        steps.append(_seconds(environment.step, action))
    return _figures(load - resets[0], resets, steps, looks)


def plain(args: argparse.Namespace) -> dict[str, float]:
    """LIBERO's own: it renders within every step, whoever looks."""
    place = libero_package.tasks(args.suite)[args.task]
    make = libero_package.environment_class()
    with np.load(place.states) as file:
        starts = file["states"]
    begun = time.perf_counter()
    env = make(bddl_file_name=place.scene, camera_heights=256, camera_widths=256)
    load = time.perf_counter() - begun
    env.seed(libero_scene.RANDOM_SEED)

    def reset(seed: int) -> None:
        env.reset()
        env.set_init_state(starts[seed])
        for _ in range(libero_scene.REST):
            env.step(libero_scene.REST_ACTION)

    resets = [_seconds(reset, seed) for seed in range(1, RESETS + 1)]
    steps = [_seconds(env.step, action) for action in _actions(args.steps)]
    return _figures(load, resets, steps, [0.0])


def _actions(count: int) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (count, 7))


def _figures(
    load: float, resets: list[float], steps: list[float], looks: list[float]
) -> dict[str, float]:
    import psutil

    each = {"load": [load], "reset": resets, "step": steps, "observe": looks}
    return {
        **{name: round(statistics.median(times), 4) for name, times in each.items()},
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6),
    }


def _seconds(do: Callable[..., object], *args: object) -> float:
    begun = time.perf_counter()
    do(*args)
    return time.perf_counter() - begun


def _alone(kind: str, args: argparse.Namespace) -> dict[str, float]:
    flags = [f"--{name}={getattr(args, name)}" for name in ("suite", "task", "steps", "replan")]
    done = subprocess.run(
        [sys.executable, __file__, "--only", kind, *flags],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if kind == "plain" else None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
