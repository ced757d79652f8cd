"""What a simulated arm and its controller's process tell each other, in memory that both see.

Either side only writes its own part, and never waits for the other: a number that is odd while a
part is written, and has changed once it is, says whether what was read is whole (a seqlock).
"""

from __future__ import annotations

import time
from multiprocessing.context import SpawnContext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POSE, _STATES, _BYTES = 8, 64, 1 << 16
_PATIENCE_S = 0.5


class Now(NamedTuple):
    """What the controller tells."""

    time: float
    """`time.monotonic()`; 0: nothing yet."""
    episode: int
    solved: bool
    behind: float
    """Seconds of simulated time that were left out, since the machine was too slow."""
    position: Floats
    """(8,) as measured."""
    target: Floats
    """(8,) that the arm is led to."""
    proprioception: Floats
    state: bytes


class Wanted(NamedTuple):
    """What the controller is told."""

    time: float
    """Of the command, `time.monotonic()`; 0: none, hold; -1: the robot ends."""
    target: Floats


class Board:
    """Both parts; handed to the other process as it is started."""

    def __init__(self, context: SpawnContext):
        size = 6 + 2 * POSE + _STATES
        self._memory = [context.RawArray("d", count) for count in (1 + size, 2 + POSE)]
        self._bytes = context.RawArray("B", _BYTES)
        self._view()

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory, "_bytes": self._bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    def _view(self) -> None:
        self._now, self._wanted = (np.frombuffer(part, np.float64) for part in self._memory)
        self._state = np.frombuffer(self._bytes, np.uint8)

    @property
    def closed(self) -> bool:
        """Whether the robot ended as it meant to."""
        return bool(self._wanted[1] < 0)

    def tell(self, now: Now) -> None:
        """By the controller."""
        numbers = [now.time, now.episode, now.solved, now.behind, len(now.state)]
        sizes = [len(now.proprioception)]
        values = np.concatenate([numbers, sizes, now.position, now.target, now.proprioception])
        self._now[0] += 1
        self._now[1 : 1 + len(values)] = values
        self._state[: len(now.state)] = np.frombuffer(now.state, np.uint8)
        self._now[0] += 1

    def now(self) -> Now:
        """For the robot. Raises TimeoutError: the controller ended amid writing."""
        values, state = _whole(self._now, self._state)
        count, size = int(values[5]), int(values[6])
        position, target, rest = np.split(values[7:], [POSE, 2 * POSE])
        numbers = values[1], int(values[2]), bool(values[3]), values[4]
        return Now(*numbers, position, target, rest[:size], state[:count].tobytes())

    def command(self, wanted: Wanted) -> None:
        """By the robot."""
        self._wanted[0] += 1
        self._wanted[1] = wanted.time
        self._wanted[2:] = wanted.target
        self._wanted[0] += 1

    def wanted(self) -> Wanted | None:
        """For the controller; None: the robot is writing it just now."""
        values = self._wanted.copy()
        if values[0] % 2 or values[0] != self._wanted[0]:
            return None
        return Wanted(values[1], values[2:])


def _whole(numbers: Floats, more: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.uint8]]:
    end = time.monotonic() + _PATIENCE_S
    while True:
        values = numbers.copy()
        state = more[: max(0, int(values[5]))].copy()
        if values[0] % 2 == 0 and values[0] == numbers[0]:
            return values, state
        if time.monotonic() > end:
            raise TimeoutError
