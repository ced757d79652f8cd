"""A π0 that has learnt to lead a gripper in circles, and its server: `python -m tests.circling
FOLDER PORT NOTES`.

What it sees does not tell where on a circle it is to begin: successive chunks disagree, unless one
goes on from the other. It learns in some seconds.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robot.policy import Answer, PolicyError, Request
from robot.server import ServerConfig, run
from tests import eval_policy_files, pi0_models
from training import policy_folder, tokeniser
from training.config import SourceConfig, TrainConfig
from training.data.norm import NormStats, Statistics
from training.pi0.config import GemmaSize
from training.pi0.model import Pi0
from workflows.served_checkpoint import CheckpointPolicy

HORIZON, TURN, STRIDE = 16, 0.35, 0.006
"""Actions, radians and metres an action, of 0.1 s."""
STEPS, ROWS, SIGHTS = 400, 32, 3
ROBOT = eval_policy_files.Robot("tabletop", 10, 10, ("base_0_rgb",))


def drawn(count: int, draw: torch.Generator) -> Tensor:
    """(count, HORIZON, 2) normalised x and y of the way, from anywhere on the circle."""
    angle = 2 * math.pi * torch.rand(count, 1, generator=draw) + TURN * torch.arange(HORIZON)
    return torch.stack([angle.cos(), angle.sin()], dim=-1) * math.sqrt(2)


def learnt() -> Pi0:
    """The model: of an action's ten numbers, all but x and y are the same at all times. What it
    has been shown is noise, which tells nothing."""
    model = pi0_models.minute(horizon=HORIZON, depth=2, expert=GemmaSize(width=32, mlp=64))
    with torch.no_grad():
        model.action_in_proj.weight[:, 2:] = 0
        sights = [
            model._see(pi0_models.observation((8,) * ROWS, 1, seed, padded=False))
            for seed in range(SIGHTS)
        ]
    draw = torch.Generator().manual_seed(4)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, 8e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        actions, time = drawn(ROWS, draw), torch.rand(ROWS, generator=draw)
        noise = torch.randn(actions.shape, generator=draw)
        noisy = F.pad(torch.lerp(actions, noise, time[:, None, None]), (0, 8))
        optimiser.zero_grad()
        error = model._denoise(sights[step % SIGHTS], noisy, time) - F.pad(noise - actions, (0, 8))
        error.square().mean().backward()
        optimiser.step()
        rate.step()
    return model


def save(folder: Path) -> str:
    """Teach it, and write its folder."""
    model = learnt()
    config = TrainConfig(
        name="circling", model=model.config, sources=(SourceConfig(ROBOT.name),), tokeniser="bytes"
    )
    mean = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0.5])
    spread = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) * STRIDE / math.sqrt(2)
    actions = Statistics(mean, spread, mean - spread, mean + spread)
    state = Statistics(np.zeros(10), np.ones(10), -np.ones(10), np.ones(10))
    words = tokeniser.load("bytes")
    policy_folder.save(
        folder, config, model.state_dict(), words, [ROBOT], [NormStats(state, actions)], STEPS
    )  # type: ignore[arg-type]
    return str(folder)


class Noted(CheckpointPolicy):
    """Writes a line for each request: what it goes on from, and what the answer is."""

    def __init__(self, folder: str, notes: Path):
        super().__init__(folder, "tabletop", batch=1)
        self._notes = notes

    def infer(self, requests: Sequence[Request]) -> list[Answer | PolicyError]:
        """See `Policy.infer`."""
        answers = super().infer(requests)
        with self._notes.open("a") as file:
            for request, answer in zip(requests, answers, strict=True):
                file.write(json.dumps(_note(request, answer)) + "\n")
        return answers


def _note(request: Request, answer: Answer | PolicyError) -> Mapping[str, Any]:
    prefix = None if request.prefix is None else _listed(request.prefix)
    actions = _listed(answer.actions) if isinstance(answer, Answer) else None
    return {"prefix": prefix, "delay": request.delay, "actions": actions}


def _listed(values: NDArray[np.floating]) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Noted(sys.argv[1], Path(sys.argv[3])), ServerConfig(port=int(sys.argv[2])))
