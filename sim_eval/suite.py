"""What a simulator must offer to have policies evaluated in it.

A suite is a set of tasks for one simulated robot; an environment is one such robot in one process.
All that happens in an episode follows from its task, its seed and the actions: `reset` leaves
nothing of the episode before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Floats = NDArray[np.float64]


class Task(NamedTuple):
    """Something that a robot is told to do."""

    name: str
    """Unique in its suite; a word of a file's name."""
    instruction: str
    horizon: int
    """Steps after which an episode has failed."""


class Observation(NamedTuple):
    """What a policy is shown."""

    images: Mapping[str, Image]
    """By camera, under π0's names (`base_0_rgb`, `left_wrist_0_rgb`)."""
    state: Floats
    """(state_size,) proprioception in the suite's units."""
    instruction: str


class Environment(Protocol):
    """A simulated robot, for one episode after another."""

    def reset(self, task: str, seed: int) -> None:
        """Begin an episode.

        Raises:
            UserError: the suite has no such task or seed.
        """

    def observe(self) -> Observation:
        """What is seen now. It renders: call it when a policy is asked, not at every step."""

    def picture(self) -> Image:
        """What a person is to see of it, for videos."""

    def step(self, action: Floats) -> bool:
        """Do an action (action_size,) for one step of 1 / fps seconds; whether the task is solved.

        The action is finite: who calls has seen to that.
        """

    def state(self) -> bytes:
        """All of the simulation's state; equal for equal episodes at equal steps."""

    def expert(self) -> Floats:
        """(action_size,) what solves the task from here, by a script that knows where all things
        are.

        Raises:
            UserError: the suite has no script.
        """

    def close(self) -> None:
        """Let go of the renderer."""


class Suite(Protocol):
    """Tasks for one simulated robot. Its attributes need no simulator; `environment` does."""

    name: str
    tasks: Mapping[str, Task]
    """By name, in the order that they are reported in."""
    version: str
    """Changes whenever the same task, seed and actions would give another episode."""
    action_size: int
    state_size: int
    cameras: tuple[str, ...]
    fps: float
    """Steps of an environment, thus actions, a second of simulated time."""
    replan: int
    """Actions of a chunk that are done before the policy is asked again, unless told otherwise."""
    seeds: int | None
    """Seeds go from 0 to one less than this; None if any will do."""

    # A suite may also have `memory_gb: float`, what one environment needs: where it does, no more
    # episodes are in flight by default than there is memory for.

    intrinsics: tuple[float, float, float, float] | None
    """fx, fy, cx, cy of the camera `base_0_rgb`, pixels, where states begin with the pose
    T_camera_gripper as a shard's do (translation, two columns of the rotation); else None."""

    def environment(self) -> Environment:
        """A new one, in this process.

        Raises:
            UserError: what it needs is not installed, or there is nothing to render with.
        """

    def message(self, observation: Observation) -> dict[str, Any]:
        """An observation as openpi's clients of this robot send it to a server."""

    def padded(self, actions: Floats) -> Floats:
        """Actions (H, n) of a policy as this robot's (H, action_size).

        Raises:
            UserError: actions of n numbers mean nothing to this robot.
        """
