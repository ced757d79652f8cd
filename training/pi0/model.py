"""π0 (arXiv 2410.24164): PaliGemma reads pictures and instruction, an expert makes the actions.

    pictures -> SigLIP -> projector ─┐
    instruction -> embedding ────────┴─ language tokens ─┐
    state -> state_proj ─────────────── state token ─────┤ JointBlock x depth -> velocity
    noisy actions, time -> MLP ──────── action tokens ───┘

Attention is causal over three blocks: language tokens see each other, the state sees those and
itself, actions see everything. So nothing but the action tokens depends on the noise, and when
actions are sampled the rest is computed once.

π0.5 (arXiv 2504.16054) has no state token, since the text tells the state, and adds no time to the
actions: the expert's norms follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batch import Batch, Observation
from training.pi0.block import AdaRMSNorm, Cache, JointBlock, RMSNorm, Rope, bias
from training.pi0.config import Pi0Config
from training.pi0.siglip import Siglip

_PERIODS = (4e-3, 4.0)
"""Shortest and longest of the time embedding, in units of time."""


class Pi0(nn.Module):
    """The model. Its parameters are named for what they are; `training.pi0.checkpoint` knows what
    openpi and LeRobot call them."""

    def __init__(self, config: Pi0Config):
        super().__init__()
        self.config = config
        width, inner = config.language.width, config.expert.width
        self.vision = Siglip(config.vision)
        self.projector = nn.Linear(config.vision.width, width)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.blocks = nn.ModuleList(JointBlock(config) for _ in range(config.depth))
        self.language_norm = RMSNorm(width)  # PaliGemma's; π0 has no use for it
        self.expert_norm = AdaRMSNorm(inner) if config.pi05 else RMSNorm(inner)
        self.action_in_proj = nn.Linear(config.action_size, inner)
        if config.pi05:
            self.time_mlp_in = nn.Linear(inner, inner)
            self.time_mlp_out = nn.Linear(inner, inner)
        else:
            self.state_proj = nn.Linear(config.action_size, inner)
            self.action_time_mlp_in = ActionTime(2 * inner, inner)
            self.action_time_mlp_out = nn.Linear(inner, inner)
        self.action_out_proj = nn.Linear(inner, config.action_size)
        self.apply(_initialise)
        nn.init.normal_(self.vision.position, std=0.02)
        for parameter in self._idle():
            parameter.requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        """Squared errors of the velocity field, (B, horizon, action_size) fp32.

        At time t the noisy actions are t noise + (1 - t) actions, and the velocity to predict is
        noise - actions (openpi's direction of time: 1 is noise).
        """
        observation, time = batch.observation, batch.time[:, None, None]
        noisy = time * batch.noise + (1 - time) * batch.actions
        language, mask = self._read(observation)
        state = self._state(observation)
        actions, moment = self._actions(noisy, batch.time)
        expert = torch.cat([state, actions], dim=1).to(language.dtype)
        blind = torch.ones(expert.shape[1], dtype=torch.bool, device=mask.device)
        blind[: state.shape[1]] = False  # the state, which does not see the actions
        seen = blind[:, None] | ~blind
        expert_mask = torch.cat(
            [mask[:, None].expand(-1, len(seen), -1), seen.expand(len(mask), -1, -1)], dim=-1
        )
        _, expert, _ = self._blocks(
            language,
            expert,
            Rope.at(_positions(mask, len(seen)), self.config.head_size),
            self._bias(mask[:, None], language) if observation.padded else None,
            self._bias(expert_mask, language),
            moment,
        )
        velocity = self._velocity(expert[:, state.shape[1] :], moment)
        return (batch.noise - batch.actions - velocity).square()

    @torch.no_grad()
    def sample(
        self, observation: Observation, noise: Tensor | None = None, steps: int = 10
    ) -> Tensor:
        """Actions, (B, horizon, action_size) fp32, normalised.

        Args:
            noise: what to begin from, of the same shape; drawn if not given.
            steps: of Euler's method, from time 1 to 0.
        """
        if noise is None:
            shape = (len(observation.state), self.config.horizon, self.config.action_size)
            noise = torch.randn(shape, device=observation.state.device)
        seen = self._see(observation)
        actions = noise
        for step in range(steps):
            time = torch.full_like(noise[:, 0, 0], 1 - step / steps)
            actions = torch.sub(actions, self._denoise(seen, actions, time), alpha=1 / steps)
        return actions

    def _see(self, observation: Observation) -> _Seen:
        """Everything that does not depend on the noise."""
        language, mask = self._read(observation)
        state = self._state(observation).to(language.dtype)
        count = state.shape[1]
        rope = Rope.at(_positions(mask, count + self.config.horizon), self.config.head_size)
        own, later = rope.split(language.shape[1] + count)
        every = None
        if observation.padded:
            known = F.pad(mask, (0, count + self.config.horizon), value=True)
            every = self._bias(known[:, None], language)
        _, _, caches = self._blocks(
            language,
            state if count else None,
            own,
            None if every is None else every[..., : mask.shape[1]],
            None if every is None else every[..., : mask.shape[1] + count],
        )
        return _Seen(caches, later, every)

    def _bias(self, mask: Tensor, like: Tensor) -> Tensor:
        return bias(mask, like.dtype, self.config.heads // self.config.kv_heads)

    def _denoise(self, seen: _Seen, actions: Tensor, time: Tensor) -> Tensor:
        """The velocity at (B, horizon, action_size) noisy actions and (B,) times."""
        expert, moment = self._actions(actions, time)
        expert = expert.to(seen.caches[0].k.dtype)
        _, expert, _ = self._blocks(None, expert, seen.rope, None, seen.mask, moment, seen.caches)
        return self._velocity(expert, moment)

    def _blocks(
        self,
        language: Tensor | None,
        expert: Tensor | None,
        rope: Rope,
        language_mask: Tensor | None,
        expert_mask: Tensor | None,
        moment: Tensor | None = None,
        caches: Sequence[Cache] | None = None,
    ) -> tuple[Tensor | None, Tensor | Any, list[Cache]]:
        """All layers, see `JointBlock.forward`; the language tokens' last outputs are not made."""
        every = []
        for number, block in enumerate(self.blocks):
            last, cache = number + 1 == len(self.blocks), caches[number] if caches else None
            masks = language_mask, expert_mask
            language, expert, seen = block(language, expert, rope, *masks, moment, cache, last)
            every.append(seen)
        return language, expert, every

    def _read(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Language tokens (B, P, width), pictures first, and (B, P) which of them there are."""
        images = observation.images
        pictures = self.projector(self.vision(images.flatten(0, 1)))
        pictures = pictures.unflatten(0, images.shape[:2])
        mask = observation.image_mask[..., None].expand(-1, -1, pictures.shape[2]).flatten(1)
        # Gemma scales what it embeds, and nothing else: pictures are used as they are.
        text = self.embedding(observation.tokens) * math.sqrt(self.config.language.width)
        language = torch.cat([pictures.flatten(1, 2), text.to(pictures.dtype)], dim=1)
        return language, torch.cat([mask, observation.token_mask], dim=1)

    def _state(self, observation: Observation) -> Tensor:
        """The state's tokens, (B, 1, width); of π0.5 there are none, (B, 0, width)."""
        state = observation.state
        if self.config.pi05:
            return state.new_zeros(len(state), 0, self.config.expert.width)
        return self.state_proj(state)[:, None]

    def _actions(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Action tokens (B, horizon, width) before the first block, and the time (B, width) for
        norms that want it."""
        moment = _time_embedding(time, self.config.expert.width)
        actions = self.action_in_proj(noisy)
        if self.config.pi05:
            return actions, F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(moment))))
        return self.action_time_mlp_out(F.silu(self.action_time_mlp_in(actions, moment))), None

    def _velocity(self, expert: Tensor, moment: Tensor | None) -> Tensor:
        return self.action_out_proj(self.expert_norm(expert.float(), moment)[0])

    def heads(self) -> list[nn.Linear]:
        """The layers through which state, actions and time go in and velocities come out."""
        return [layer for layer in self.children() if isinstance(layer, nn.Linear)
                and layer is not self.projector]  # fmt: skip

    def _idle(self) -> list[nn.Parameter]:
        """Parameters that nothing depends on, since the last layer's language outputs are not
        used: kept for checkpoints, and never trained."""
        half = self.blocks[-1].language
        modules = half.out, half.norm_mlp, half.gate_up, half.down, self.language_norm
        return [parameter for module in modules for parameter in module.parameters()]


class ActionTime(nn.Linear):
    """A layer that takes actions and time side by side."""

    def forward(self, actions: Tensor, moment: Tensor) -> Tensor:
        """(B, horizon, width) and (B, width) to (B, horizon, width)."""
        # Half of the product is the same for all actions of a sample.
        weights = self.weight.split(actions.shape[-1], dim=1)
        return F.linear(actions, weights[0]) + F.linear(moment, weights[1], self.bias)[:, None]


class _Seen(NamedTuple):
    caches: list[Cache]
    rope: Rope
    """Of the action tokens."""
    mask: Tensor | None
    """(B, 1, 1, P + 1 + horizon), from `bias`."""


def _positions(mask: Tensor, more: int) -> Tensor:
    """(B, P + more): padding takes no position, and `more` tokens follow."""
    count = torch.arange(more, device=mask.device) + mask.sum(1, keepdim=True)
    return torch.cat([mask.cumsum(1) - 1, count], dim=1)


def _time_embedding(time: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): sines, then cosines, of periods spaced evenly in their logarithms."""
    low, high = _PERIODS
    exponent = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    angle = time.double()[:, None] * (2 * math.pi / (low * (high / low) ** exponent))
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def _initialise(module: nn.Module) -> None:
    """Small random weights, no biases: for a model that nothing is loaded into."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
    elif isinstance(module, AdaRMSNorm):  # after its own layer
        nn.init.zeros_(module.dense.weight)
