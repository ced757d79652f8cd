"""How a control loop runs, and what it tells of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import UserError, hint
from robot.chunk import ACTIONS
from robot.plan import JOINS, Join

Floats = NDArray[np.float64]
State = Literal["waiting", "running", "holding", "stopped"]
"""Waiting: for the first chunk; holding: chunks are used up or stale, the arm comes to rest and
stays; stopped: the loop has ended."""
Reason = Literal["solved", "time", "asked", "emergency", "hold", "impossible", "robot"]
"""The task was solved, its time was over, it was asked to end; the emergency stop; it held for too
long; a target that no program means; the robot does not answer."""


@dataclass(frozen=True)
class LoopConfig:
    """See `robot.loop.Loop`.

    Raises:
        UserError: a number makes no sense.
    """

    instruction: str = ""
    """What the robot is to do, in words."""
    rate: float = 50.0
    """Commands a second."""
    join: Join = "latest"
    """How chunks follow each other: see `robot.plan`."""
    actions: str | None = None
    """What actions are, of `robot.chunk.ACTIONS`; None: as the server says."""
    fps: float | None = None
    """Actions a second; None: as the server says."""
    grasp: RigidTransform | None = None
    """T_gripper_object, for `object_step`."""
    every_s: float = 0.4
    """An observation is made and asked about this often at most; one is under way at a time."""
    blend_s: float = 0.2
    """How long the difference of two chunks takes to go."""
    stale_s: float = 3.0
    """Nothing of a chunk is done so long after its observation."""
    stop_after_s: float = 10.0
    """Holding for so long ends the loop."""
    decay: float = 0.01
    """The ensemble's k: see `robot.plan`."""

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise UserError(
                f"no such way to join chunks as {self.join!r}; {hint(self.join, JOINS)}"
            )
        if self.actions is not None and self.actions not in ACTIONS:
            raise UserError(f"no such actions as {self.actions!r}; {hint(self.actions, ACTIONS)}")
        for name in ("rate", "every_s", "stale_s", "stop_after_s"):
            _check(name, getattr(self, name), getattr(self, name) > 0)
        for name in ("blend_s", "decay"):
            _check(name, getattr(self, name), getattr(self, name) >= 0)
        if self.fps is not None:
            _check("fps", self.fps, self.fps > 0)


def _check(name: str, value: float, good: bool) -> None:
    if not (good and math.isfinite(value)):
        raise UserError(f"{name}={value}: must be a number, and more than 0")


class Tick(NamedTuple):
    """What was done in a control tick."""

    time: float
    """`time.monotonic()`, as the robot was commanded."""
    late: float
    """Seconds after the tick was due."""
    position: Floats
    """As it was read at the beginning of the tick."""
    command: Floats
    """The last command; while the robot holds by itself there is no new one."""
    clipped: tuple[str, ...]
    """What the chunk asked for beyond the limits: `robot.safety.Checked`."""
    chunk: int | None
    """Id of the newest chunk; None: there is none that is not over."""
    latency: float | None
    """Seconds from that chunk's observation to its answer."""
    state: State


class Ended(NamedTuple):
    """How a loop ended."""

    reason: Reason
    message: str
    ticks: int
    missed: int
    """Ticks that were left out because the one before took too long."""
    dropped: int
    """Chunks that were over as they came, or of an observation before the last."""
