"""The tabletop: who solves it, and what an episode costs.

    python bench/tabletop.py [--episodes 100]

Prints one JSON line: episodes that the script and chance solve in each task (seeds from 0),
milliseconds of a reset, of the physics of a step, of a picture; and what an episode played through
the suite (reset apart, a picture every `replan` steps) takes beyond the same physics and pictures
by MuJoCo alone. Times are of the processor, in one process, each the least of several: whatever
else the machine does only adds to them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scipy.spatial.transform import Rotation

from sim_eval.suite import Floats
from sim_eval.suites.tabletop import Tabletop, robot
from sim_eval.suites.tabletop.environment import TabletopEnvironment

ROUNDS = 15


def by_chance(rng: np.random.Generator) -> Floats:
    """Steps of 2 cm and 0.1 rad."""
    turn = Rotation.from_rotvec(rng.normal(scale=0.1, size=3)).as_matrix()
    return np.concatenate(
        [rng.normal(scale=0.02, size=3), turn[:, 0], turn[:, 1], rng.uniform(size=1)]
    )


def solved(environment: TabletopEnvironment, act: Callable[[], Floats], horizon: int) -> int:
    """Steps until it is solved, 0 if it is not."""
    return next((step + 1 for step in range(horizon) if environment.step(act())), 0)


def score(suite: Tabletop, environment: TabletopEnvironment, episodes: int) -> dict[str, Any]:
    """Solved episodes of each task, and the script's mean steps."""
    found: dict[str, Any] = {}
    for name, task in suite.tasks.items():
        steps, luck = [], 0
        for seed in range(episodes):
            environment.reset(name, seed)
            steps.append(solved(environment, environment.expert, task.horizon))
            environment.reset(name, seed)
            rng = np.random.default_rng(seed)
            luck += solved(environment, lambda rng=rng: by_chance(rng), task.horizon) > 0
        done = [count for count in steps if count]
        found[name] = {
            "expert": len(done),
            "random": luck,
            "expert_steps": round(float(np.mean(done)), 1) if done else None,
        }
    return found


def milliseconds(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return 1e3 * (time.process_time() - began)


def costs(suite: Tabletop, environment: TabletopEnvironment, name: str) -> dict[str, float]:
    """What an episode of the script costs, in milliseconds, and its parts."""
    import mujoco

    environment.reset(name, 0)
    script = []
    for _ in range(24):
        script.append(environment.expert())
        environment.step(script[-1])
    environment.picture()
    model, data = environment.model, environment.data

    def play() -> None:
        for step, action in enumerate(script):
            if step % suite.replan == 0:
                environment.observe()
            environment.step(action)

    environment.reset(name, 0)
    controls = []
    for action in script:  # what the suite tells MuJoCo, to be told again without it
        controls.append(list(environment.sight.gripper.path(action)))
        environment.step(action)

    def bare() -> None:
        for control in controls:
            for pose, grip in control:
                data.mocap_pos[0], data.mocap_quat[0], data.ctrl[:] = *pose, grip
                mujoco.mj_step(model, data, nstep=robot.SUBSTEPS // robot.PIECES)

    times: dict[str, list[float]] = {key: [] for key in ("reset", "play", "physics", "render")}
    for seed in range(ROUNDS):
        times["reset"].append(milliseconds(lambda seed=seed: environment.reset(name, seed)))
        environment.reset(name, 0)
        times["play"].append(milliseconds(play))
        environment.reset(name, 0)
        times["physics"].append(milliseconds(bare))
        times["render"].append(milliseconds(environment.picture))
    least = {key: min(values) for key, values in times.items()}
    asked = -(-len(script) // suite.replan)
    pure = least["physics"] + asked * least["render"]
    return {
        "reset_ms": round(least["reset"], 2),
        "physics_ms_per_step": round(least["physics"] / len(script), 3),
        "render_ms_per_frame": round(least["render"], 2),
        "overhead": round(least["play"] / pure - 1, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100)
    args = parser.parse_args()
    suite = Tabletop()
    environment = suite.environment()
    assert isinstance(environment, TabletopEnvironment)
    tasks = score(suite, environment, args.episodes)
    for name in suite.tasks:
        tasks[name] |= costs(suite, environment, name)
    environment.close()
    print(json.dumps({"bench": "tabletop", "episodes": args.episodes, "tasks": tasks}))


if __name__ == "__main__":
    main()
