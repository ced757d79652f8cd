"""The tabletop's arm, simulated in real time, as `egoscaler robot --robot mujoco` drives it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ego_ops.errors import UserError, hint
from robot.limits import Limits
from robot.robot import Observation
from robot.robots.simulated import SimulatedRobot
from sim_eval import suite
from sim_eval.suites.tabletop import CAMERAS, Tabletop
from sim_eval.suites.tabletop.scene import SIZE
from sim_eval.suites.tabletop.tasks import CHORES, FPS

_LIVE = "sim_eval.suites.tabletop.live"
NEEDS = ("simulation/task", "simulation/seed", "simulation/state")


class Tabled:
    """The arm and what it tells a server.

    Args:
        wrist: whether the wrist's camera is shown, too.
        plain: whether all episodes have one look and one camera, see `Tabletop`.

    Raises:
        UserError: there is no such task.
    """

    seconds = math.inf
    fps = FPS
    """Actions a second of those that act here."""

    def __init__(self, task: str, wrist: bool, plain: bool, limits: Limits):
        if task not in CHORES:
            raise UserError(f"--task {task}: the tabletop has none; {hint(task, CHORES)}")
        cameras = CAMERAS if wrist else CAMERAS[:1]
        self._suite, self._task = Tabletop(cameras, plain), task
        self.needs: list[str] = []
        """What the server says that it needs beyond an observation: the script needs all."""
        self.seed = 0
        self.robot = SimulatedRobot(
            f"{_LIVE}:{'plain' if plain else 'LiveTabletop'}",
            task,
            dict.fromkeys(cameras, (SIZE, SIZE)),
            Tabletop.state_size,
            self._message,
        )
        self.instruction = CHORES[task].task.instruction
        self.limits, self.what = limits, task

    def _message(self, seen: Observation, instruction: str, state: bytes) -> dict[str, Any]:
        message = self._suite.message(suite.Observation(seen.images, seen.state, instruction))
        truth = (self._task, self.seed, np.frombuffer(state, np.uint8))
        told = dict(zip(NEEDS, truth, strict=True))
        return message | {name: told[name] for name in self.needs if name in told}
