"""A simulated arm in real time, in a process of its own, as an arm's controller is.

    controller   physics at the pace of the clock; holds when no command comes for 100 ms
    cameras      renders the controller's state as it is asked, however long that takes

`read` and `command` touch shared memory only: some tens of microseconds. What is simulated is
named, `module:name` of a `Simulation`, since this package knows none.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ego_ops.errors import UserError
from robot.robot import Floats, Image, Kind, Observation, RobotError
from robot.robots.board import POSE, Board, Now, Wanted
from robot.robots.simulated_process import Simulation, control, see

__all__ = ["Message", "SimulatedRobot", "Simulation"]

Message = Callable[[Observation, str, bytes], dict[str, Any]]
"""Makes a server's message of an observation, the instruction and the simulation's state."""
_START_S, _ANSWER_S, _END_S = 60.0, 1.0, 5.0


class SimulatedRobot:
    """See `robot.robot.Robot`. Commands are poses in the simulation's base frame.

    Args:
        factory: `module:name` of a `Simulation`.
        cameras: those to render, with their pictures' height and width.
    """

    name = "mujoco"
    kind: Kind = "pose"
    size = POSE

    def __init__(
        self,
        factory: str,
        task: str,
        cameras: Mapping[str, tuple[int, int]],
        state_size: int,
        message: Message,
    ):
        self.cameras, self.state_size = cameras, state_size
        self._factory, self._task, self._message = factory, task, message
        self._context = multiprocessing.get_context("spawn")
        self._board = Board(self._context)
        self._processes: list[Any] = []
        self._seeing, self._telling = threading.Lock(), threading.Lock()
        self._shown = b""

    def start(self, seed: int) -> None:
        """See `Robot.start`; the processes are kept from episode to episode."""
        self.hold()
        if not self._processes:
            self._control = self._begun(control, self._factory, self._board)
            self._see = self._begun(see, self._factory, tuple(self.cameras))
        for connection in (self._control, self._see):
            try:
                connection.send((self._task, seed))
            except OSError:
                continue  # what it has said before it ended says why
        for connection in (self._control, self._see):
            answer = _answer(connection, "start")
            if isinstance(answer, str) and answer:
                raise UserError(answer)

    def read(self) -> Floats:
        return self._now().position

    def observe(self) -> Observation:
        now = self._now()
        images = self.render(now.state)
        self._shown = now.state
        return Observation(images, now.proprioception, now.target, now.time)

    def message(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """Of the last observation."""
        return self._message(observation, instruction, self._shown)

    def command(self, target: Floats) -> None:
        self._now()
        with self._telling:
            self._board.command(Wanted(time.monotonic(), np.asarray(target, np.float64)))

    def hold(self) -> None:
        with self._telling:
            self._board.command(Wanted(0.0, np.zeros(POSE)))

    def solved(self) -> bool:
        return self._now().solved

    def state(self) -> bytes:
        """The simulation's state now. Raises RobotError: it does not answer."""
        return self._now().state

    def render(self, state: bytes) -> dict[str, Image]:
        """What the cameras see at a state of this episode. Raises RobotError: they fail."""
        with self._seeing:
            try:
                self._see.send(state)
                found = _answer(self._see, "render")
            except (OSError, UserError) as error:
                raise RobotError(f"the simulated cameras: {error}") from error
        if isinstance(found, str):
            raise RobotError(f"the simulated cameras: {found}")
        return found

    @property
    def behind(self) -> float:
        """Seconds by which the simulation is behind real time: the machine is too slow for it."""
        return self._now().behind

    def close(self) -> None:
        with self._telling:
            self._board.command(Wanted(-1.0, np.zeros(POSE)))
        for process, connection in self._processes:
            connection.close()
            process.join(_END_S)
            if process.is_alive():
                process.kill()
        self._processes = []

    def _begun(self, run: Callable[..., None], *given: object) -> Any:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run, args=(*given, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes.append((process, ours))
        return ours

    def _now(self) -> Now:
        try:
            now = self._board.now()
        except TimeoutError as error:
            raise RobotError("the simulated arm's process ended") from error
        if time.monotonic() - now.time > _ANSWER_S:
            raise RobotError(f"the simulated arm has not answered for {_ANSWER_S:g} s")
        return now


def _answer(connection: Any, what: str) -> Any:
    try:
        if connection.poll(_START_S):
            return connection.recv()
    except (EOFError, OSError) as error:
        raise UserError(f"the simulation ended as it was to {what}") from error
    raise UserError(f"the simulation did not {what} within {_START_S:g} s")
