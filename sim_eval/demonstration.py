"""What a suite's script does in an episode, seen and recorded as a policy would see it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ego_ops.jpeg import encode_jpegs
from ego_ops.pipeline import Extraction
from sim_eval.suite import Environment, Floats, Image, Suite


class Demonstration(NamedTuple):
    """T steps, to the one in which the task was solved."""

    suite: str
    version: str
    task: str
    seed: int
    instruction: str
    fps: float
    images: dict[str, list[Image]]
    """By camera: T pictures, each from before the step's action."""
    states: Floats
    """(T, state_size), from before the actions."""
    actions: Floats
    """(T, action_size)."""


def demonstrate(
    suite: Suite, environment: Environment, task: str, seed: int
) -> Demonstration | None:
    """An episode by the suite's script; None if it does not solve the task in time.

    Raises:
        UserError: there is no such task or seed, or no script.
    """
    environment.reset(task, seed)
    told = suite.tasks[task]
    seen, actions = [], []
    for _ in range(told.horizon):
        seen.append(environment.observe())
        actions.append(environment.expert())
        if environment.step(actions[-1]):
            return Demonstration(
                suite.name, suite.version, task, seed, told.instruction, suite.fps,
                {camera: [one.images[camera] for one in seen] for camera in suite.cameras},
                np.array([one.state for one in seen]), np.array(actions),
            )  # fmt: skip
    return None


def trajectory(found: Demonstration, intrinsics: tuple[float, float, float, float]) -> Extraction:
    """A demonstration as a clip's trajectory: the gripper's, seen by `base_0_rgb`, which stands
    still.

    Args:
        intrinsics: fx, fy, cx, cy of that camera, pixels. States begin with T_camera_gripper.
    """
    count = len(found.states)
    x, y = found.states[:, 3:6], found.states[:, 6:9]
    turned = Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=-1))
    images = found.images["base_0_rgb"]
    height, width = images[0].shape[:2]
    return Extraction(
        fps=found.fps,
        timestamps=np.arange(count) / found.fps,
        position=found.states[:, :3],
        rotation=turned.as_quat(),
        camera_position=np.zeros((count, 3)),
        camera_rotation=np.tile([0.0, 0.0, 0.0, 1.0], (count, 1)),
        visible=np.ones(count, bool),
        intrinsics=np.array(intrinsics),
        image_size=(width, height),
        frames=encode_jpegs(images),
        quality={},
    )
