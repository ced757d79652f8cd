"""Observes and asks, in a thread of its own, as the arm moves."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from ego_ops.errors import UserError
from robot import chunk
from robot.chunk import Chunk
from robot.client import Client, Reply
from robot.loop_config import LoopConfig
from robot.robot import Observation, Robot, RobotError

_LOG = logging.getLogger("robot.loop")
_RETRY_S, _PATIENCE_S, _JOIN_S = 0.1, 0.5, 5.0
_LATENCIES = 5
"""Of the last answers, of which the longest is expected next."""


class Asker:
    """Makes chunks of what a policy says, one observation after another.

    Args:
        running: the chunk that the arm does now, for real-time chunking: set by the control loop.
    """

    def __init__(self, robot: Robot, client: Client, config: LoopConfig):
        self._robot, self._client, self._config = robot, client, config
        self.chunks: deque[Chunk] = deque()
        """Those that came and were not taken yet, the newest last."""
        self.running: Chunk | None = None
        self.solved = False
        """Whether the robot said that its task is done."""
        self.failure = ""
        """Why the robot cannot be observed; empty while it can."""
        self.problem = "no answer has come yet"
        """Why the last request has brought no chunk; empty if it has."""
        self._fresh, self._latencies = True, deque[float](maxlen=_LATENCIES)
        self._ended = threading.Event()
        self._replies = SimpleQueue[Reply]()
        self._thread = threading.Thread(target=self._run, name="observations", daemon=True)

    def start(self) -> None:
        """Begin to observe and ask."""
        self._thread.start()

    def close(self) -> None:
        """End; a request that is under way is left to itself."""
        self._ended.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                began = time.monotonic()
                found = self._ask()
                self.solved = self._robot.solved()
                if found is not None:
                    self.chunks.append(found)
                pause = self._config.every_s if found else _RETRY_S
                self._ended.wait(max(0.0, began + pause - time.monotonic()))
        except RobotError as error:
            self.failure = f"it cannot be observed: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the arm is to stop
            _LOG.exception("observing failed")
            self.failure = f"it cannot be observed: {type(error).__name__}: {error}"

    def _ask(self) -> Chunk | None:
        seen = self._robot.observe()
        message = self._robot.message(seen, self._config.instruction)
        try:
            fps, what = self._said()
            horizon = offered(self._client).get("horizon", math.inf)
        except UserError:  # there has been no connection yet
            fps, what, horizon = 1.0, "", math.inf
        within = min(self._config.stale_s, horizon / fps)
        id = self._client.ask(
            message, self._replies.put, within, reset=self._fresh, **self._prefix(seen, what)
        )
        reply = self._reply(id, within)
        if reply is None:
            return None
        try:
            return self._chunk(reply, seen)
        except UserError as error:
            self._complain(str(error))
            return None

    def _reply(self, id: int, within: float) -> Reply | None:
        """The reply to a request; None: it is an error, or the loop has ended."""
        end = time.monotonic() + within + _PATIENCE_S
        while not self._ended.is_set() and time.monotonic() < end:
            try:
                reply = self._replies.get(timeout=0.05)
            except Empty:
                continue
            if reply.id == id:
                if reply.error is not None:
                    self._complain(": ".join(reply.error))
                return reply if reply.error is None else None
        return None

    def _chunk(self, reply: Reply, seen: Observation) -> Chunk:
        if reply.actions is None:
            raise UserError("the answer has no actions")
        fps, what = self._said()
        commands = chunk.targets(reply.actions, what, seen.position, self._config.grasp)
        self._fresh, self.problem = False, ""
        self._latencies.append(reply.heard - seen.time)
        return Chunk(
            reply.id,
            seen.time,
            fps,
            reply.actions,
            commands,
            self._robot.kind,
            reply.heard - seen.time,
        )

    def _prefix(self, seen: Observation, what: str) -> Mapping[str, Any]:
        """What the arm is going to do, from the observation on and in the time of its actions, and
        how much of that will be done."""
        running = self.running
        if self._config.join != "rtc" or running is None:
            return {}
        commands = running.left(seen.time, seen.position)
        if len(commands) == 1:
            return {}
        size = running.actions.shape[1]
        prefix = chunk.actions_through(commands, what, size, self._config.grasp)
        expected = max(self._latencies, default=0.0)
        return {"prefix": prefix, "delay": min(len(prefix), math.ceil(expected * running.fps))}

    def _said(self) -> tuple[float, str]:
        return meaning(self._config, self._client)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            _LOG.warning("no chunk: %s", problem)
        self.problem = problem


def offered(client: Client) -> Mapping[str, Any]:
    """What the server offers; nothing if it speaks openpi's protocol only."""
    return {**client.offer} if client.offer else {}


def meaning(config: LoopConfig, client: Client) -> tuple[float, str]:
    """A chunk's actions a second, and what they are.

    Raises:
        UserError: neither the configuration nor the server says it.
    """
    said = {**client.metadata, **offered(client)}
    fps, what = config.fps or said.get("fps"), config.actions or said.get("actions")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise UserError("the server does not say how many actions a second it means: give fps")
    if what not in chunk.ACTIONS:
        raise UserError(
            f"the server says of its actions {what!r}: give what they are,"
            f" one of {', '.join(chunk.ACTIONS)}"
        )
    return float(fps), str(what)
