"""Real-time chunking (arXiv 2506.07339): a chunk that goes on from the one that is being done.

While a policy computes, the robot does what is left of its last chunk. Of the new chunk the first
`delay` actions will have been done by then, and the others should not contradict the old ones: so
each step of sampling is led towards the old actions, by the gradient of the weighted error of what
the step would end at (ΠGDM; here with π0's direction of time, 1 is noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from training.batch import Observation
from training.pi0.model import Pi0

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Of noisy actions (B, horizon, n) and times (B,): (B, horizon, n)."""

STRENGTH = 5.0
"""Most that an error is weighed with in a step: the paper's beta."""


def overlap_weights(horizon: int, delay: int, overlap: int) -> Tensor:
    """(horizon,) how much each action is to be as in the last chunk: 1 for those that will have
    been done, then falling to nothing where the last chunk ends.

    Args:
        delay: actions that will have been done.
        overlap: actions that are left of the last chunk, `delay` or more.
    """
    share = (overlap - torch.arange(horizon)) / (overlap - delay + 1)
    share = share.clamp(0, 1)
    share[:delay] = 1
    return share * share.expm1() / math.expm1(1)


def sample_with_prefix(
    model: Pi0,
    observation: Observation,
    prefix: Tensor,
    weights: Tensor,
    noise: Tensor | None = None,
    steps: int = 10,
    strength: float = STRENGTH,
) -> Tensor:
    """Actions as `Pi0.sample`, (B, horizon, action_size) fp32, led towards others.

    Args:
        prefix: (B, horizon, action_size) normalised actions; of no matter where the weight is 0.
        weights: of the same shape, see `overlap_weights`. A sample with none is as `Pi0.sample`
            makes it.
        noise, steps: as of `Pi0.sample`.
        strength: see `STRENGTH`.
    """
    if noise is None:
        noise = torch.randn_like(prefix)
    with torch.inference_mode(False):  # which knows no gradients
        with torch.no_grad():
            seen = model._see(observation)
        return led(
            lambda actions, time: model._denoise(seen, actions, time),
            noise, prefix, weights, steps, strength,
        )  # fmt: skip


def led(
    velocity: Velocity,
    noise: Tensor,
    prefix: Tensor,
    weights: Tensor,
    steps: int = 10,
    strength: float = STRENGTH,
) -> Tensor:
    """As `sample_with_prefix`, of any velocity field."""
    actions = noise.clone()
    for step in range(steps):
        at = 1 - step / steps
        time = torch.full_like(actions[:, 0, 0], at)
        with torch.enable_grad():
            noisy = actions.detach().requires_grad_()
            moved = velocity(noisy, time)
            end = noisy - at * moved  # where a straight line leads from here
        error = (prefix - end.detach()) * weights
        (pull,) = torch.autograd.grad(end, noisy, error)
        moved = moved.detach() - _strength(at, strength) * pull
        actions = torch.sub(actions, moved, alpha=1 / steps)
    return actions


def _strength(time: float, most: float) -> float:
    """What an error is weighed with: (t² + (1 - t)²) / (t (1 - t)), at most that."""
    rest = 1 - time
    return min(most, (time**2 + rest**2) / (time * rest)) if rest > 0 else most
