"""AdamW, its learning rate over a run, and the gradient's norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ego_ops.errors import UserError
from training.config import OptimiserConfig

_FUSED = ("cpu", "cuda")


class Diverged(UserError):
    """The gradient is not finite: no later step can repair the weights."""


def adamw(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over the parameters that require a gradient.

    On CPU and CUDA the update of all weights is one fused kernel; on CPU it gives the same bits
    every time for one number of threads.

    Raises:
        UserError: nothing requires a gradient.
    """
    trained = _trained(model)
    if not trained:
        raise UserError("nothing is left to train: take a part out of `freeze`")
    return torch.optim.AdamW(
        trained,
        lr=config.peak,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=trained[0].device.type in _FUSED,
    )


def rate(config: OptimiserConfig, steps: int, step: int) -> float:
    """The learning rate of a step, as openpi's: a line from `peak / (warmup + 1)` at step 0 to
    `peak` at step `warmup`, then a half cosine to `end` at step `decay`, and `end` after it.

    Args:
        steps: of the run, for which `decay` stands if it is None.
        step: counted from 0.
    """
    if step < config.warmup:
        first = config.peak / (config.warmup + 1)
        return first + (config.peak - first) * step / config.warmup
    last = steps if config.decay is None else config.decay
    done = min(1.0, (step - config.warmup) / max(1, last - config.warmup))
    return config.end + (config.peak - config.end) * (1 + math.cos(math.pi * done)) / 2


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Let the next steps have that learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = value


def clip(model: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients so that their global norm is at most `max_norm`.

    Nothing waits for the device: see `check`.

    Returns:
        The norm that they had, over all workers' shards where weights are sharded: () fp32.
    """
    norm = nn.utils.clip_grad_norm_(_trained(model), max_norm, foreach=True)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def check(norm: Tensor, step: int) -> float:
    """The norm as a number. It waits for the device, so call it when there is something to log or
    to save: weights that an infinite gradient has spoilt give no finite one later.

    Raises:
        Diverged: it is not finite.
    """
    value = float(norm)
    if not math.isfinite(value):
        raise Diverged(
            f"step {step}: the norm of the gradient is {value}; likely causes: a learning rate too "
            "high (optimiser.peak), numbers that hardly vary and so are huge once normalised (look "
            "at norm_stats.json), or damaged weights to begin with; resume from the last checkpoint"
        )
    return value


def _trained(model: nn.Module) -> list[nn.Parameter]:
    parameters: Iterable[nn.Parameter] = model.parameters()
    return [parameter for parameter in parameters if parameter.requires_grad]
