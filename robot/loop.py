"""The control loop: commands at a fixed rate, whatever the network does.

    control thread    `Loop.run`'s: reads the robot, works out the next command, through
                      `robot.safety`, and gives it when it is due
    observations      a thread: pictures, requests, answers as chunks (`robot.loop_asker`)
    ticks             a thread: tells a listener (`robot.loop_teller`)
    client            a thread: the network (`robot.client`)

Where chunks are used up or stale, the arm comes to rest within its limits from the next tick on,
and goes on by itself when a chunk comes. Logs to `robot.loop`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable

from ego_ops.errors import UserError
from robot.chunk import difference
from robot.client import Client
from robot.loop_asker import Asker, meaning, offered
from robot.loop_clock import Clock, first, undisturbed
from robot.loop_config import Ended, Floats, LoopConfig, Reason, State, Tick
from robot.loop_teller import Teller
from robot.plan import Plan
from robot.robot import Robot, RobotError
from robot.safety import Impossible, Safety

__all__ = ["Ended", "Loop", "LoopConfig", "Tick"]

_LOG = logging.getLogger("robot.loop")
_BRAKE_S = 2.0
"""For coming to rest before the end."""
_MOVED = 0.02, 0.1
"""Metres and radians by which an arm that held may be off its last command; by more, somebody has
moved it."""


class Loop:
    """Moves one robot. `run` once.

    Args:
        robot: started.
        client: of the policy's server; it need not be connected yet.
        safety: what every command goes through; it is reset to where the robot is.
        listener: told of every tick, in a thread of its own.

    Raises:
        UserError: the server has said what it serves, and that is not to be made use of.
    """

    def __init__(
        self,
        robot: Robot,
        client: Client,
        safety: Safety,
        config: LoopConfig,
        listener: Callable[[Tick], object] | None = None,
    ):
        self._robot, self._client, self._safety, self._config = robot, client, safety, config
        self.emergency = threading.Event()
        """Set it from anywhere: the robot holds in the next tick, and the loop ends."""
        self._ending, self._listener = threading.Event(), listener
        self._asker = Asker(robot, client, config)
        join = config.join
        self._plan = Plan(robot.kind, join, config.blend_s, config.stale_s, config.decay)
        self._period = 1 / config.rate
        self._state: State = "waiting"
        self._held, self._ticks, self._dropped = False, 0, 0
        if client.metadata:
            meaning(config, client)
            if join == "rtc" and "prefix" not in offered(client).get("features", []):
                raise UserError("the server's policy knows no real-time chunking: join otherwise")

    def end(self) -> None:
        """Come to rest and end; from any thread."""
        self._ending.set()

    def run(self, seconds: float = math.inf) -> Ended:
        """Until it ends, for so long at most. The arm comes to rest first, but not after the
        emergency stop, which is at once; then it holds. The listener has been told of all ticks;
        the robot and the client are not closed.

        Raises:
            UserError: the robot is where it must not be: see `Safety.reset`.
            RobotError: the robot does not answer to begin with.
        """
        self._ready()
        teller = Teller(self._listener) if self._listener else None
        self._tell = teller.tell if teller else lambda tick: None
        # The first request has a deadline: it is made after the collection, not kept waiting by it.
        with undisturbed():
            self._asker.start()
            try:
                with first():
                    self._clock = Clock(self._period)
                    reason, message = self._go(seconds)
            finally:
                self._robot.hold()
                self._asker.close()
                if teller:
                    teller.close()
        _LOG.info("ended: %s: %s", reason, message)
        missed = self._clock.missed
        return Ended(reason, message, self._ticks, missed, self._dropped)

    def _ready(self) -> None:
        position = self._given = self._robot.read()
        self._safety.reset(position)
        self._safety.check(position, self._period)  # its tables take a while to make
        self._safety.brake(self._period)

    def _go(self, seconds: float) -> tuple[Reason, str]:
        """Tick until there is a reason to end: that, and a message."""
        self._before = self._since = began = time.monotonic()
        try:
            while True:
                due = self._clock.ahead()
                ended = self._asked_to_end(due - began, seconds) or self._tick(due)
                self._before = due
                if ended:
                    if ended[0] != "emergency":
                        self._brake()
                    return ended
        except RobotError as error:
            return "robot", str(error)
        except Impossible as error:
            self._brake()
            return "impossible", str(error)
        finally:
            self._robot.hold()
            self._state = "stopped"
            self._report(self._before, self._given, ())

    def _asked_to_end(self, elapsed: float, seconds: float) -> tuple[Reason, str] | None:
        if self.emergency.is_set():
            return self._stop()
        if self._ending.is_set():
            return "asked", "it was asked to end"
        if self._asker.solved:
            return "solved", "the task is done"
        return ("time", f"{seconds:g} s are over") if elapsed > seconds else None

    def _stop(self) -> tuple[Reason, str]:
        self._robot.hold()
        return "emergency", "the emergency stop"

    def _tick(self, due: float) -> tuple[Reason, str] | None:
        """One command. Returns why to end, if there is a reason.

        It is worked out before it is due: how long that takes, and how long other threads keep this
        one from it, is not seen in when it is given.
        """
        if self._asker.failure:
            raise RobotError(self._asker.failure)
        position = self._robot.read()
        chunks = self._asker.chunks
        while chunks:
            self._dropped += not self._plan.add(chunks.popleft(), due)
        if self._state != "running" and self._plan.newest:
            self._resume(position)
        target = self._plan.target(due, self._before, self._safety.position)
        self._asker.running = self._plan.newest
        clipped: tuple[str, ...] = ()
        if target is None:
            command = self._rest(due)
        else:
            command, clipped = self._safety.check(target, self._period)
            self._state = "running"
        self._clock.reach()
        if self.emergency.is_set():
            return self._stop()
        self._give(command)
        self._report(due, position, clipped)
        if target is None and due - self._since > self._config.stop_after_s:
            return "hold", f"no chunk for {self._config.stop_after_s:g} s: {self._asker.problem}"
        return None

    def _give(self, command: Floats | None) -> None:
        """None: to stay."""
        if command is not None:
            self._robot.command(command)
            self._given = command
        elif not self._held:
            self._robot.hold()
        self._held = command is None

    def _rest(self, due: float) -> Floats | None:
        """There is nothing to do: the command that brings it to rest, or None if it is."""
        if self._state == "running":
            _LOG.warning("holding: %s", self._asker.problem or "no new chunk in time")
            self._state, self._since = "holding", due
        return None if self._safety.resting else self._safety.brake(self._period)

    def _resume(self, position: Floats) -> None:
        """Go on where the arm is, which may have been moved by hand."""
        off = difference(self._robot.kind, self._safety.position, position)
        metres, radians = _MOVED
        if self._robot.kind == "joints":
            moved = bool(abs(off).max() > radians)
        else:
            moved = math.hypot(*off[:3]) > metres or math.hypot(*off[3:6]) > radians
        if self._held and moved:
            self._safety.reset(position)

    def _brake(self) -> None:
        """Come to rest within the limits, unless the robot fails or is to hold at once."""
        self._state, end = "holding", time.monotonic() + _BRAKE_S
        self._before = self._clock.reach()
        with contextlib.suppress(RobotError):
            while not (self._safety.resting or self.emergency.is_set()) and self._before < end:
                self._give(self._safety.brake(self._period))
                self._report(self._before, self._robot.read(), ())
                self._before = self._clock.wait()

    def _report(self, due: float, position: Floats, clipped: tuple[str, ...]) -> None:
        now, newest = time.monotonic(), self._plan.newest
        id, latency = (newest.id, newest.latency) if newest else (None, None)
        command, state = self._given, self._state
        self._tell(Tick(now, now - due, position, command, clipped, id, latency, state))
        self._ticks += 1
