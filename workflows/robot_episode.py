"""One episode of a robot: the loop, what is said of it meanwhile, and its video."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ego_ops.errors import UserError
from ego_ops.storage_errors import unwritable
from robot.client import Client
from robot.loop import Ended, Loop, LoopConfig, Tick
from robot.robot import RobotError
from robot.safety import Safety
from sim_eval import video
from workflows.robot_record import Tape
from workflows.robot_signals import Stop

_SAY_S = 0.25
_FILM_FPS = 20


class Episode:
    """See `play`.

    Args:
        robot: see `robot.robot.Robot`.
        film: where to write a video, or none; simulated robots only have one.
        tape: what records it, or none.
    """

    def __init__(
        self,
        robot: Any,
        client: Client,
        safety: Safety,
        config: LoopConfig,
        film: Path | None,
        tape: Tape | None,
        quiet: bool,
    ):
        self._robot, self._client, self._safety, self._config = robot, client, safety, config
        self._film, self._tape = film, tape
        self._live = not quiet and sys.stdout.isatty()
        self._clips: Counter[str] = Counter()
        self._latencies: dict[int, float] = {}
        self._ticks = 0
        self._shown = 0.0

    def play(self, seed: int, seconds: float, stop: Stop) -> Ended:
        """From the start to the end.

        Raises:
            UserError: the robot is not there, or the video cannot be written.
        """
        self._robot.start(seed)
        robot = self._tape.watched(self._robot) if self._tape else self._robot
        loop = Loop(robot, self._client, self._safety, self._config, self._tick)
        stop.watch(loop.emergency)
        began = time.monotonic()
        try:
            with self._filmed() as states:
                ended = loop.run(seconds)
        except RobotError as error:
            raise UserError(f"the robot does not answer: {error}") from error
        finally:
            if self._live:
                print()
            if self._tape:
                self._tape.end()
        self._took, self._missed = time.monotonic() - began, ended.missed
        if self._film is not None and states:
            self._write(self._film, states)
        return ended

    @property
    def said(self) -> str:
        """Of an episode that has ended."""
        found = list(self._latencies.values())
        latency = f"{1000 * np.median(found):.0f} ms" if found else "none"
        clipped = ", ".join(f"{what} {count}" for what, count in self._clips.most_common(3))
        behind = getattr(self._robot, "behind", 0.0)
        own = getattr(self._robot, "said", "")
        return (
            f"{self._took:.1f} s, {self._ticks} ticks, {self._missed} missed, {len(found)} chunks,"
            f" latency {latency}, clipped: {clipped or 'nothing'}"
            + (f", simulation {behind:.1f} s behind real time" if behind else "")
            + (f", {own}" if own else "")
        )

    def _tick(self, tick: Tick) -> None:
        self._ticks += 1
        self._clips.update(tick.clipped)
        if tick.chunk is not None and tick.latency is not None:
            self._latencies[tick.chunk] = tick.latency
        if self._tape:
            self._tape.tick(tick)
        if self._live and tick.time - self._shown > _SAY_S:
            self._shown = tick.time
            latency = (
                "no chunk" if tick.latency is None else f"latency {1000 * tick.latency:.0f} ms"
            )
            clips = sum(self._clips.values())
            print(f"\r{tick.state:8} {latency:16} clipped {clips:<6}", end="", flush=True)

    @contextmanager
    def _filmed(self) -> Iterator[list[bytes]]:
        """States of the simulation, for a video: it is rendered later, which takes no time now."""
        states: list[bytes] = []
        ended = threading.Event()

        def look() -> None:
            due = time.monotonic()
            while not ended.is_set():
                try:
                    states.append(self._robot.state())
                except RobotError:
                    return
                due += 1 / _FILM_FPS
                ended.wait(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=look, name="film", daemon=True)
        if self._film is not None:
            thread.start()
        try:
            yield states
        finally:
            ended.set()
            if self._film is not None:
                thread.join()

    def _write(self, path: Path, states: list[bytes]) -> None:
        frames = (self._picture(state) for state in states)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(video.encode(frames, _FILM_FPS))
        except (OSError, RobotError) as error:
            if isinstance(error, RobotError):
                raise UserError(f"{path}: {error}") from error
            raise unwritable(str(path), error) from error

    def _picture(self, state: bytes) -> np.ndarray:
        images = self._robot.render(state)
        return np.concatenate(list(images.values()), axis=1)
