"""Episodes of one of LIBERO's tasks as openpi runs them, in LIBERO's own environment, which loads
the task anew at every reset and renders at every step.

    python tests/libero_oracle.py SUITE TASK ACTIONS.npy OUT.npz

ACTIONS is (episodes, steps, 7). Writes, of every step after those of rest, `states` (time,
positions, velocities), `image` and `wrist_image` (224 x 224), `pictures` (256 x 256), `numbers`
(8,) and `done`; and of every episode `start`, the state before the steps of rest.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

os.environ["MUJOCO_GL"] = "egl"
os.environ["LIBERO_CONFIG_PATH"] = tempfile.gettempdir()


def main(suite: str, task: str, actions: str, out: str) -> None:
    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs import OffScreenRenderEnv

    with contextlib.redirect_stdout(io.StringIO()):
        tasks = benchmark.get_benchmark_dict()[suite]()
    number = tasks.get_task_names().index(task)
    place, starts = tasks.get_task(number), tasks.get_task_init_states(number)
    scene = Path(get_libero_path("bddl_files")) / place.problem_folder / place.bddl_file
    env = OffScreenRenderEnv(bddl_file_name=scene, camera_heights=256, camera_widths=256)
    env.seed(7)
    seen: dict[str, list[Any]] = defaultdict(list)
    for episode, planned in enumerate(np.load(actions)):
        env.reset()
        env.set_init_state(starts[episode])
        seen["start"].append(env.get_sim_state())
        for _ in range(10):
            env.step([0.0] * 6 + [-1.0])
        for action in planned:
            for name, value in look(*env.step(action.tolist())).items():
                seen[name].append(value)
            seen["states"].append(env.get_sim_state())
    np.savez(out, **{name: np.array(values) for name, values in seen.items()})


def look(seen: dict[str, Any], _: float, done: bool, __: object) -> dict[str, Any]:
    """An observation as openpi sends it."""
    from openpi_client.image_tools import convert_to_uint8, resize_with_pad
    from robosuite.utils.transform_utils import quat2axisangle

    image, wrist = (
        np.ascontiguousarray(seen[name][::-1, ::-1])
        for name in ("agentview_image", "robot0_eye_in_hand_image")
    )
    turn = quat2axisangle(seen["robot0_eef_quat"].copy())
    return {
        "image": convert_to_uint8(resize_with_pad(image, 224, 224)),
        "wrist_image": convert_to_uint8(resize_with_pad(wrist, 224, 224)),
        "pictures": image,
        "numbers": np.concatenate([seen["robot0_eef_pos"], turn, seen["robot0_gripper_qpos"]]),
        "done": done,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
