"""An arm that goes along x at 0.1 m/s to where it is led, and writes down where it is."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

SPEED = 0.1


class SlowArm:
    """See `robot.robots.simulated.Simulation`. The task is the file to write to; the state is x."""

    timestep = 0.002

    def __init__(self, cameras: tuple[str, ...]):
        self._cameras = cameras

    def reset(self, task: str, seed: int) -> None:
        self._trace = None if self._cameras else open(task, "a", buffering=1)  # noqa: SIM115
        self._x = self._goal = float(seed)

    def position(self) -> NDArray[np.float64]:
        return np.array([self._x, 0, 0, 0, 0, 0, 1, 1])

    def target(self) -> NDArray[np.float64]:
        return np.array([self._goal, 0, 0, 0, 0, 0, 1, 1])

    def lead(self, command: NDArray[np.float64]) -> None:
        self._goal = float(command[0])

    def advance(self, steps: int) -> None:
        most = steps * self.timestep * SPEED
        self._x += min(max(self._goal - self._x, -most), most)
        assert self._trace is not None
        self._trace.write(f"{time.monotonic()} {self._x}\n")

    def solved(self) -> bool:
        return self._x > 5

    def proprioception(self) -> NDArray[np.float64]:
        return np.array([self._x])

    def state(self) -> bytes:
        return np.float64(self._x).tobytes()

    def restore(self, state: bytes) -> None:
        self._x = float(np.frombuffer(state)[0])

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        time.sleep(0.3)  # as if it were hard to render
        return {"top": np.full((8, 8, 3), round(self._x * 100) % 256, np.uint8)}

    def close(self) -> None:
        pass
