"""The processes of a simulated arm: its controller, which goes on in real time, and its cameras.

They live as long as the robot's process: when it is gone, the controller holds and ends.
"""

from __future__ import annotations

import importlib
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ego_ops.errors import UserError
from robot.robot import Image
from robot.robots.board import Board, Floats, Now, Wanted

WATCHDOG_S = 0.1
"""Without a command for so long, the arm holds."""
SLICE = 2
"""Physics steps between looks at what is commanded."""
_LATE_S = 0.1
"""Further behind real time than this, time is left out rather than made up for."""
_REST_S = 0.2
"""For which the arm is held when the robot's process is gone."""


class Simulation(Protocol):
    """What is simulated. Commands are poses (8,): see `robot.robot`."""

    timestep: float
    """Seconds of a physics step."""

    def __init__(self, cameras: tuple[str, ...]):
        """Make one that renders these cameras; without any it renders nothing."""

    def reset(self, task: str, seed: int) -> None:
        """Begin an episode. Raises UserError: there is none such."""

    def position(self) -> Floats:
        """(8,) where the gripper is."""

    def target(self) -> Floats:
        """(8,) where it is led to."""

    def lead(self, command: Floats) -> None:
        """Lead it there."""

    def advance(self, steps: int) -> None:
        """Go on by so many physics steps."""

    def solved(self) -> bool:
        """Whether the task is done."""

    def proprioception(self) -> Floats:
        """(S,) as policies are shown it."""

    def state(self) -> bytes:
        """All that there is, for `restore`."""

    def restore(self, state: bytes) -> None:
        """Be at another moment of the same task and seed."""

    def pictures(self) -> dict[str, Image]:
        """(H, W, 3) RGB by camera."""

    def close(self) -> None:
        """Let go of renderers."""


def made(factory: str, cameras: tuple[str, ...]) -> Simulation:
    """A simulation, of `module:name` of what makes one."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(cameras)


def control(factory: str, board: Board, connection: Connection) -> None:
    """The controller's process. It is sent (task, seed) to begin an episode, and answers with what
    is wrong with that, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the robot's process says when to end
    simulation = made(factory, ())
    controller = _Controller(simulation, board)
    while (wanted := _received(connection, wait=not controller.episode)) is not _GONE:
        if wanted is not None:
            connection.send(controller.begin(*wanted))
        else:
            controller.go_on()
    if controller.episode and not board.closed:
        controller.hold()
        for _ in range(int(_REST_S / controller.period)):
            controller.go_on(obey=False)
        print("the simulated arm holds: who commanded it is gone", file=sys.stderr, flush=True)
    simulation.close()


_GONE = ("gone",)


def _received(connection: Connection, wait: bool) -> Any:
    try:
        return connection.recv() if wait or connection.poll(0) else None
    except (EOFError, OSError):
        return _GONE


class _Controller:
    def __init__(self, simulation: Simulation, board: Board):
        self._simulation, self._board = simulation, board
        self.period = SLICE * simulation.timestep
        self.episode = 0
        self._behind, self._held, self._last = 0.0, False, 0.0

    def begin(self, task: str, seed: int) -> str:
        try:
            self._simulation.reset(task, seed)
        except UserError as error:
            return str(error)
        self.episode += 1
        self._due, self._behind = time.monotonic(), 0.0
        self.hold()
        self._tell()
        return ""

    def go_on(self, obey: bool = True) -> None:
        """One slice, when it is due."""
        self._due += self.period
        pause = self._due - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        elif pause < -_LATE_S:
            self._behind -= pause
            self._due -= pause
        if obey and (wanted := self._board.wanted()) is not None:
            self._obey(wanted)
        self._simulation.advance(SLICE)
        self._tell()

    def hold(self) -> None:
        """Stay here, gripping as before."""
        if not self._held:
            self._simulation.lead(self._simulation.position())
            self._held = True

    def _obey(self, wanted: Wanted) -> None:
        if time.monotonic() - wanted.time > WATCHDOG_S:
            self.hold()
        elif wanted.time != self._last:
            self._last, self._held = wanted.time, False
            self._simulation.lead(wanted.target)

    def _tell(self) -> None:
        simulation = self._simulation
        self._board.tell(
            Now(
                time.monotonic(),
                self.episode,
                simulation.solved(),
                self._behind,
                simulation.position(),
                simulation.target(),
                simulation.proprioception(),
                simulation.state(),
            )
        )


def see(factory: str, cameras: tuple[str, ...], connection: Connection) -> None:
    """The cameras' process. It is sent (task, seed) or a state, and answers with pictures, or with
    what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        simulation = made(factory, cameras)
    except UserError as error:
        connection.send(str(error))
        return
    while (asked := _received(connection, wait=True)) is not _GONE:
        try:
            if isinstance(asked, bytes):
                simulation.restore(asked)
            else:
                simulation.reset(*asked)
            connection.send(simulation.pictures())
        except UserError as error:
            connection.send(str(error))
        except OSError:
            break
    simulation.close()
