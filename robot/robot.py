"""What a control loop drives.

A command is a target, never a step: sent twice or late it does no harm.

    kind `pose`    (8,) T_base_gripper: x, y, z [m], quaternion x, y, z, w; opening, 0 closed to 1
    kind `joints`  (J,) positions [rad], the gripper's among them, as the robot's driver has them

The control thread calls `read`, `command` and `hold`, which return within a millisecond or so;
`observe` may take as long as cameras do and is called from another thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
Kind = Literal["pose", "joints"]


class Observation(NamedTuple):
    """What a policy is shown."""

    images: Mapping[str, Image]
    """(H, W, 3) RGB by camera, under π0's names (`base_0_rgb`, `left_wrist_0_rgb`)."""
    state: Floats
    """(S,) proprioception, in the units that the policy was trained with."""
    position: Floats
    """The robot's position, as a command, when the pictures were taken: steps begin from here."""
    time: float
    """When they were taken, `time.monotonic()`."""


class Robot(Protocol):
    """An arm with its cameras."""

    name: str
    kind: Kind
    size: int
    """Numbers of a command."""
    cameras: Mapping[str, tuple[int, int]]
    """Height and width of each camera's pictures."""
    state_size: int

    def start(self, seed: int) -> None:
        """Connect, and go to where an episode begins; `seed` is for simulated ones.

        Raises:
            UserError: it is not there: what to do about it.
        """

    def read(self) -> Floats:
        """The position now, as a command.

        Raises:
            RobotError: it does not answer.
        """

    def observe(self) -> Observation:
        """See the class. Raises RobotError: a camera or the arm does not answer."""

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """An observation as the policy's server is sent it: openpi's keys for this robot."""

    def command(self, target: Floats) -> None:
        """Go there now. The robot itself holds when no command comes for 100 ms.

        Raises:
            RobotError: it does not answer.
        """

    def hold(self) -> None:
        """Stay where it is. Never raises; works whatever failed before."""

    def solved(self) -> bool:
        """Whether the task is done, where the robot can know (a simulated one); else False."""

    def close(self) -> None:
        """Hold and disconnect. Never raises."""


class RobotError(Exception):
    """The robot does not answer; the loop stops."""
