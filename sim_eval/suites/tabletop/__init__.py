"""A gripper at a table, with four tasks after SIMPLER's: small, in the project, on MuJoCo.

An action is 10 numbers. The first 9 are a step of the gripper's pose as a shard's action is one of
an object's (see `ego_ops.geometry.actions`): translation, metres, and the first two columns of the
rotation, in the gripper's own frame at the start of the step. The last is the opening that is asked
for, from 0 (closed) to 1. What the robot cannot do is cut off: see `robot`.

A state is 10 numbers: T_camera_gripper of the camera `base_0_rgb` (translation and two columns, as
in a shard's states), and the opening.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ego_ops.errors import UserError
from sim_eval.suite import Environment, Floats, Observation, Task
from sim_eval.suites.tabletop.scene import INTRINSICS
from sim_eval.suites.tabletop.tasks import CHORES, FPS

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
_KEYS = {"base_0_rgb": "observation/image", "left_wrist_0_rgb": "observation/wrist_image"}


class Tabletop:
    """See `sim_eval.suite.Suite`. Any seed will do.

    Args:
        cameras: the fixed one, and the wrist's if that is wanted too: every picture takes its time.
        plain: one look and one camera for all episodes of a task, as in a lab that changes nothing;
            only where things lie differs.
    """

    name = "tabletop"
    version = "1"
    action_size = state_size = 10
    fps = FPS
    replan = 8
    seeds: int | None = None
    intrinsics: tuple[float, float, float, float] | None = INTRINSICS

    def __init__(self, cameras: tuple[str, ...] = CAMERAS[:1], plain: bool = False):
        self.cameras, self._plain = cameras, plain
        self.tasks: Mapping[str, Task] = {name: chore.task for name, chore in CHORES.items()}
        if "left_wrist_0_rgb" in cameras:
            self.name = "tabletop_wrist"
        if plain:
            self.name = "tabletop_plain"

    def environment(self) -> Environment:
        from sim_eval.suites.tabletop import variation
        from sim_eval.suites.tabletop.environment import TabletopEnvironment

        draw = variation.plain if self._plain else variation.draw
        return TabletopEnvironment(self.cameras, draw)

    def message(self, observation: Observation) -> dict[str, Any]:
        """An observation under the keys of openpi's robots with one arm."""
        images = {_KEYS[name]: image for name, image in observation.images.items()}
        return {
            **images,
            "observation/state": observation.state.astype(np.float32),
            "prompt": observation.instruction,
        }

    def padded(self, actions: Floats) -> Floats:
        """Actions of 9 numbers, those of a policy that has only seen things move, keep the gripper
        open; those of 10 are taken as they are."""
        size = actions.shape[-1]
        if size == self.action_size:
            return actions
        if size == self.action_size - 1:
            return np.concatenate([actions, np.ones_like(actions[..., :1])], axis=-1)
        raise UserError(
            f"{self.name}: actions of {size} numbers; they have 10 (3 of translation, 6 of "
            "rotation, 1 of the gripper), or 9 without the gripper"
        )
