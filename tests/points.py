"""The smallest simulator: a point that is to reach a goal. It can be slow, crash, hang and raise.

Also policies for it, which answer in batches.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ego_ops.errors import UserError, hint
from sim_eval.policy import PolicyError, Request
from sim_eval.suite import Floats, Image, Observation, Task

REACH = 0.1
"""The longest way of a step, and the distance at which the goal is reached."""


@dataclass(frozen=True)
class Points:
    """A suite.

    Args:
        faults: what happens in the fifth step, by seed: `segfault`, `exit`, `hang` or `raise`; and
            how often, counted in files of `folder`.
        step_s, render_s: what a step and an observation take.
    """

    name: str = "points"
    tasks: Mapping[str, Task] = field(
        default_factory=lambda: {
            "near": Task("near", "go to the goal", 40),
            "far": Task("far", "go to the far goal", 40),
        }
    )
    version: str = "1"
    action_size: int = 2
    state_size: int = 2
    cameras: tuple[str, ...] = ("base_0_rgb",)
    fps: float = 10.0
    replan: int = 5
    seeds: int | None = None
    image: int = 64
    faults: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    folder: str = ""
    step_s: float = 0.0
    render_s: float = 0.0

    def environment(self) -> Point:
        return Point(self)

    def message(self, observation: Observation) -> dict[str, Any]:
        return {
            "observation/image": observation.images["base_0_rgb"],
            "observation/state": observation.state,
            "prompt": observation.instruction,
        }

    def padded(self, actions: Floats) -> Floats:
        if actions.shape[1] != self.action_size:
            raise UserError(f"actions of {actions.shape[1]} numbers: a point takes 2")
        return actions


class Point:
    """An environment. It drifts a little, as its seed has it."""

    def __init__(self, suite: Points):
        self._suite = suite

    def reset(self, task: str, seed: int) -> None:
        if task not in self._suite.tasks:
            raise UserError(f"task {task}: {hint(task, self._suite.tasks)}")
        self._task, self._seed, self._step = self._suite.tasks[task], seed, 0
        self._draw = np.random.default_rng([seed, len(task)])
        angle = self._draw.uniform(0, 2 * np.pi)
        way = 0.7 if task == "near" else 2.0
        self.goal = way * np.array([np.cos(angle), np.sin(angle)])
        self.place = np.zeros(2)

    def observe(self) -> Observation:
        time.sleep(self._suite.render_s)
        state = np.concatenate([self.goal - self.place])
        return Observation({"base_0_rgb": self.picture()}, state, self._task.instruction)

    def picture(self) -> Image:
        size = self._suite.image
        image = np.zeros((size, size, 3), np.uint8)
        for channel, point in enumerate((self.place, self.goal)):
            row, column = np.clip((point + 2.5) / 5 * size, 0, size - 1).astype(int)
            image[row, column, channel] = 255
        return image

    def step(self, action: Floats) -> bool:
        self._step += 1
        if self._step == 5:
            self._suffer()
        time.sleep(self._suite.step_s)
        length = np.linalg.norm(action)
        self.place += action * min(1.0, REACH / max(length, 1e-9))
        self.place += 0.01 * self._draw.standard_normal(2)
        return bool(np.linalg.norm(self.goal - self.place) < REACH)

    def state(self) -> bytes:
        return self.place.tobytes() + self.goal.tobytes()

    def expert(self) -> Floats:
        return self.goal - self.place

    def close(self) -> None:
        return

    def _suffer(self) -> None:
        fault, times = self._suite.faults.get(self._seed, ("", 0))
        count = Path(self._suite.folder) / f"{self._task.name}-{self._seed}"
        before = len(count.read_bytes()) if fault and count.exists() else 0
        if before >= times:
            return
        with open(count, "ab") as file:
            file.write(b"x")
        if fault == "segfault":
            signal.raise_signal(signal.SIGSEGV)  # in this thread, as a bad access is
        elif fault == "exit":
            os._exit(3)
        elif fault == "hang":
            time.sleep(1000)
        elif fault == "raise":
            raise ValueError("the constraint solver diverged")


@dataclass(frozen=True)
class BrokenPoints(Points):
    """A suite whose simulator fails in every episode."""

    name: str = "broken"

    def environment(self) -> Point:
        return _BrokenPoint(self)


class _BrokenPoint(Point):
    def _suffer(self) -> None:
        raise ValueError("the constraint solver diverged")


@dataclass
class Walker:
    """Goes to the goal, with a little chance, in chunks of 8 actions.

    Args:
        call_s, request_s: what a call takes, and each request of it.
        wrong: answers by step: `nan`, `shape`, `size`, `error`.
    """

    batch: int = 4
    call_s: float = 0.0
    request_s: float = 0.0
    wrong: Mapping[int, str] = field(default_factory=dict)
    die_after: int = 0
    """The process ends at this call."""
    deaths: str = ""
    """Folder in which deaths are counted; only the first `most_deaths` happen."""
    most_deaths: int = 1
    digest: str = "walker"

    def __post_init__(self) -> None:
        self._calls = 0

    def act(self, requests: Sequence[Request]) -> list[Floats | PolicyError]:
        self._calls += 1
        if self._calls == self.die_after:
            self._die()
        time.sleep(self.call_s + self.request_s * len(requests))
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        return

    def _answer(self, request: Request) -> Floats | PolicyError:
        noise = request.generator().normal(0, 0.02, (8, 2))
        way = request.observation.state
        steps = np.outer(np.ones(8), way / max(np.linalg.norm(way), 1e-9) * 0.8 * REACH)
        actions = steps + noise
        wrong = self.wrong.get(request.step, "")
        if wrong == "nan":
            actions[2, 1] = np.nan
        if wrong == "error":
            return PolicyError("the server has no answer")
        return {"shape": actions[0], "size": actions[:, :1]}.get(wrong, actions)

    def _die(self) -> None:
        count = Path(self.deaths) / "deaths"
        before = len(count.read_bytes()) if count.exists() else 0
        if before < self.most_deaths:
            with open(count, "ab") as file:
                file.write(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
