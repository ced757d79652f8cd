"""A recorded episode as a robot: it sees and is what was recorded, whatever it is told. For trying
a policy, a server and limits on real observations, without an arm."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robot.chunk import difference
from robot.robot import Floats, Image, Kind, Observation
from robot.robots.messages import message


class Frame(NamedTuple):
    """Of a recording."""

    images: Mapping[str, Image]
    """By π0's names of cameras."""
    state: Floats
    position: Floats
    """As a command."""


class Recorded:
    """See `robot.robot.Robot`. After its last frame it stays there.

    Args:
        frames: at least one, all with the same cameras.
        fps: of the recording.
        layout: of `robot.robots.messages`.
    """

    name = "replay"

    def __init__(self, frames: Sequence[Frame], fps: float, kind: Kind, layout: str = "ours"):
        self._frames, self._fps, self._layout, self.kind = frames, fps, layout, kind
        first = frames[0]
        self.size, self.state_size = len(first.position), len(first.state)
        self.cameras = {name: image.shape[:2] for name, image in first.images.items()}
        self._began: float | None = None
        self._off: list[Floats] = []

    @property
    def seconds(self) -> float:
        """Of the recording."""
        return len(self._frames) / self._fps

    @property
    def said(self) -> str:
        """How far the commands were from the recorded positions of their times, median and most."""
        if not self._off:
            return "nothing was commanded"
        off = np.abs(np.array(self._off))
        if self.kind == "joints":
            of_all = off.max(axis=1)
            return f"off the recorded joints by {_both(of_all, 1, '')}"
        metres, turn = (np.linalg.norm(part, axis=1) for part in (off[:, :3], off[:, 3:6]))
        return (
            f"off the recorded way by {_both(metres, 100, ' cm')}, "
            f"{_both(turn, math.degrees(1), ' degrees')}"
        )

    def start(self, seed: int) -> None:
        """From the first frame on."""
        self._began = time.monotonic()
        self._off.clear()

    def read(self) -> Floats:
        """See `Robot.read`."""
        return self._now().position.copy()

    def observe(self) -> Observation:
        """See `Robot.observe`."""
        found = self._now()
        return Observation(found.images, found.state, found.position.copy(), time.monotonic())

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """See `Robot.message`."""
        return message(self._layout, observation, instruction)

    def command(self, target: Floats) -> None:
        """Compare it with what was recorded."""
        self._off.append(difference(self.kind, self._now().position, target))

    def hold(self) -> None:
        """It does what was recorded."""

    def solved(self) -> bool:
        """It is not known."""
        return False

    def close(self) -> None:
        """There is nothing."""

    def _now(self) -> Frame:
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        return self._frames[min(int(elapsed * self._fps), len(self._frames) - 1)]


def _both(values: Floats, scale: float, unit: str) -> str:
    return f"{scale * np.median(values):.2f}{unit} (at most {scale * values.max():.2f})"
