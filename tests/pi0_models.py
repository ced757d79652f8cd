"""A π0 so small that tests can train it, and observations for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from training.batch import Batch, Observation
from training.pi0.config import GemmaSize, Pi0Config, SiglipSize
from training.pi0.model import Pi0

MINUTE = Pi0Config(
    vision=SiglipSize(width=16, depth=2, mlp=32, heads=2, patch=14, image=28),
    language=GemmaSize(width=24, mlp=48),
    expert=GemmaSize(width=16, mlp=32),
    depth=3,
    heads=4,
    head_size=8,
    vocabulary=300,
    text_tokens=12,
    action_size=10,
    horizon=5,
)


def minute(seed: int = 0, **changes: object) -> Pi0:
    """The model with random weights, none of them zero."""
    torch.manual_seed(seed)
    model = Pi0(replace(MINUTE, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def observation(
    lengths: tuple[int, ...] = (8, 5, 3), cameras: int = 2, seed: int = 1, padded: bool = True
) -> Observation:
    """One sample for every length of text, all cameras there."""
    draw = torch.Generator().manual_seed(seed)
    samples, side = len(lengths), MINUTE.vision.image
    return Observation(
        images=torch.randint(
            256, (samples, cameras, side, side, 3), generator=draw, dtype=torch.uint8
        ),
        image_mask=torch.ones(samples, cameras, dtype=torch.bool),
        tokens=torch.randint(MINUTE.vocabulary, (samples, max(lengths)), generator=draw),
        token_mask=torch.arange(max(lengths)) < torch.tensor(lengths)[:, None],
        state=torch.randn(samples, MINUTE.action_size, generator=draw),
        padded=padded,
    )


def batch(seen: Observation, seed: int = 2) -> Batch:
    """Actions, noise and times for an observation."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(seen.state), MINUTE.horizon, MINUTE.action_size)

    def normal() -> Tensor:
        return torch.randn(shape, generator=draw)

    return Batch(
        observation=seen,
        actions=normal(),
        action_mask=torch.ones(shape, dtype=torch.bool),
        noise=normal(),
        time=torch.rand(len(seen.state), generator=draw),
    )
