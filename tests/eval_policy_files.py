"""Folders of small policies with random weights, and requests for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ego_ops.errors import UserError
from sim_eval.policy import Request
from sim_eval.suite import Environment, Floats, Observation, Task
from training import policy_folder, tokeniser
from training.config import SourceConfig, TrainConfig
from training.data.norm import NormStats, Statistics
from training.pi0.config import Pi0Config
from training.pi0.model import Pi0


@dataclasses.dataclass(frozen=True)
class Robot:
    """What a policy's folder says of what it was trained on."""

    name: str = "arm"
    state_size: int = 4
    action_size: int = 5
    cameras: tuple[str, ...] = ("base_0_rgb", "left_wrist_0_rgb")


@dataclasses.dataclass(frozen=True)
class Suite:
    """Enough of a suite to ask policies: see `sim_eval.suite.Suite`. It has no simulator."""

    cameras: tuple[str, ...] = ("base_0_rgb", "left_wrist_0_rgb")
    state_size: int = 4
    action_size: int = 5
    name: str = "paper"
    version: str = "1"
    fps: float = 10.0
    replan: int = 4
    seeds: int | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    tasks = {name: Task(name, f"{name} it", 50) for name in ("push", "lift")}  # noqa: RUF012

    def environment(self) -> Environment:
        raise UserError("it is a suite on paper")

    def message(self, observation: Observation) -> dict[str, Any]:
        images = {f"observation/{name}": image for name, image in observation.images.items()}
        state = observation.state.astype(np.float32)
        return {**images, "observation/state": state, "prompt": observation.instruction}

    def padded(self, actions: Floats) -> Floats:
        if actions.shape[-1] != self.action_size:
            raise UserError(
                f"{self.name}: actions of {actions.shape[-1]} numbers; they have {self.action_size}"
            )
        return actions


def save(
    folder: Path, model: Pi0Config, robots: Sequence[Robot] = (Robot(),), seed: int = 0
) -> str:
    """Write a policy with random weights, none of them zero, and statistics to match."""
    torch.manual_seed(seed)
    pi0 = Pi0(model)
    with torch.no_grad():
        for parameter in pi0.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    config = TrainConfig(
        name="random",
        model=model,
        sources=tuple(SourceConfig(robot.name) for robot in robots),
        tokeniser="bytes",
    )
    stats = [NormStats(_around(robot.state_size), _around(robot.action_size)) for robot in robots]
    words = tokeniser.load("bytes")
    policy_folder.save(folder, config, pi0.state_dict(), words, robots, stats, 1)  # type: ignore[arg-type]
    return str(folder)


def _around(size: int) -> Statistics:
    mean = np.linspace(-1, 1, size)
    return Statistics(mean, np.full(size, 0.5), mean - 1, mean + 1, mean - 2, mean + 2, 1000)


def requests(count: int, suite: Suite = Suite(), first: int = 0, side: int = 32) -> list[Request]:
    """Of as many episodes, with texts of different lengths."""
    return [_request(number, suite, side) for number in range(first, first + count)]


def _request(number: int, suite: Suite, side: int) -> Request:
    chance = np.random.default_rng(number)
    images: dict[str, NDArray[np.uint8]] = {
        camera: chance.integers(0, 256, (side, side, 3), np.uint8) for camera in suite.cameras
    }
    words = "pick up " + "the very " * (number % 4) + f"thing {number}"
    seen = Observation(images, chance.normal(size=suite.state_size), words)
    return Request(seen, f"episode{number}", number)
