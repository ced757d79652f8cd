"""One layer of π0: PaliGemma's Gemma and the action expert, side by side, joined in attention.

It is one module with one `forward`, so that what wraps modules (sharding, recomputation,
compilation) can wrap it: Gemma layers whose projections are called from outside cannot be.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.pi0.config import GemmaSize, Pi0Config

_ROPE_BASE = 10_000.0


_EPSILON = 1e-6


class RMSNorm(nn.Module):
    """Gemma's: times one plus the weight, computed in fp32 whatever goes in."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, moment: Tensor | None = None) -> tuple[Tensor, None]:
        """(B, tokens, width) to the same, and no gate."""
        scale = 1 + self.weight.float()
        return F.rms_norm(x.float(), scale.shape, scale, _EPSILON).to(x.dtype), None


class AdaRMSNorm(nn.Module):
    """π0.5's: scale and shift follow from the time, and so does a gate on what is then computed."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
        """(B, tokens, width) and the time's (B, width) to the same and the gate, (B, 1, width)."""
        modulation = self.dense(moment.to(self.dense.weight.dtype))[:, None].float()
        scale, shift, gate = modulation.chunk(3, dim=-1)
        y = F.rms_norm(x.float(), x.shape[-1:], eps=_EPSILON) * (1 + scale) + shift
        return y.to(x.dtype), gate.to(x.dtype)


class Rope(NamedTuple):
    """Rotary position embedding (arXiv 2104.09864), halves rotated against each other."""

    cos: Tensor
    """(B, 1, tokens, head_size / 2) fp32."""
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_size: int) -> Rope:
        """Of the positions (B, tokens)."""
        steps = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32)
        angle = positions[:, None, :, None].float() / _ROPE_BASE ** (steps / head_size)
        return cls(angle.cos(), angle.sin())

    def __call__(self, x: Tensor) -> Tensor:
        """(B, heads, tokens, head_size) to the same."""
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1).to(x.dtype)

    def split(self, first: int) -> tuple[Rope, Rope]:
        """That of the first tokens and that of the others."""
        cos, sin = self.cos, self.sin
        return Rope(cos[:, :, :first], sin[:, :, :first]), Rope(
            cos[:, :, first:], sin[:, :, first:]
        )


class Cache(NamedTuple):
    """Keys and values of one layer: (B, kv_heads, tokens, head_size) each, rotated."""

    k: Tensor
    v: Tensor


class Half(nn.Module):
    """What a layer of one of the two Gemmas has."""

    def __init__(self, config: Pi0Config, size: GemmaSize, adaptive: bool = False):
        super().__init__()
        norm = AdaRMSNorm if adaptive else RMSNorm
        self.head_size = config.head_size
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        self.split = [queries, keys, keys]
        self.norm_attention = norm(size.width)
        self.qkv = nn.Linear(size.width, sum(self.split), bias=False)
        self.out = nn.Linear(queries, size.width, bias=False)
        self.norm_mlp = norm(size.width)
        self.gate_up = nn.Linear(size.width, 2 * size.mlp, bias=False)
        self.down = nn.Linear(size.mlp, size.width, bias=False)

    def project(
        self, x: Tensor, rope: Rope, moment: Tensor | None = None
    ) -> tuple[Tensor, Cache, Tensor | None]:
        """Queries, keys and values of the tokens, (B, heads or kv_heads, tokens, head_size), and
        the gate of what comes of them."""
        x, gate = self.norm_attention(x, moment)
        q, k, v = self.qkv(x).split(self.split, dim=-1)
        q, k, v = (t.unflatten(-1, (-1, self.head_size)).transpose(1, 2) for t in (q, k, v))
        return rope(q), Cache(rope(k), v), gate

    def finish(
        self, x: Tensor, attended: Tensor, gate: Tensor | None, moment: Tensor | None = None
    ) -> Tensor:
        """The layer's end, from what its tokens attended to: (B, heads, tokens, head_size)."""
        x = _added(x, self.out(attended.transpose(1, 2).flatten(2)), gate)
        y, gate = self.norm_mlp(x, moment)
        gelu, up = self.gate_up(y).chunk(2, dim=-1)
        return _added(x, self.down(F.gelu(gelu, approximate="tanh") * up), gate)


class JointBlock(nn.Module):
    """Layer i of both Gemmas.

    The language tokens attend to each other, and the expert's to those and to each other: two
    attentions, so that nothing is computed that a mask then hides.
    """

    def __init__(self, config: Pi0Config):
        super().__init__()
        self.language = Half(config, config.language)
        self.expert = Half(config, config.expert, config.pi05)

    def forward(
        self,
        language: Tensor | None,
        expert: Tensor | None,
        rope: Rope,
        language_mask: Tensor | None,
        expert_mask: Tensor | None,
        moment: Tensor | None = None,
        cache: Cache | None = None,
        last: bool = False,
    ) -> tuple[Tensor | None, Tensor | None, Cache]:
        """
        Args:
            language: (B, P, width) or None, where its keys and values are in the cache.
            expert: (B, S, width) or None, where those of the language tokens are all that is asked.
            rope: of all tokens given.
            language_mask: (B, 1, 1, P) bool of what language tokens attend to; None: everything.
            expert_mask: (B, 1, S, K) bool of what the expert's tokens attend to; None: everything.
            moment: (B, width) the time, which π0.5's norms want.
            cache: of tokens that come before those given.
            last: whether the language tokens' outputs are of no use to anyone.

        Returns:
            The tokens after this layer, and keys and values of all K tokens.
        """
        every = [] if cache is None else [cache]
        if language is not None:
            language_rope, rope = rope.split(language.shape[1])
            queries, seen, gate = self.language.project(language, language_rope)
            if not last:
                attended = attend(queries, seen, language_mask)
                language = self.language.finish(language, attended, gate)
            every.append(seen)
        if expert is None:
            return language, None, every[-1]
        queries, own, gate = self.expert.project(expert, rope, moment)
        known = Cache(*(torch.cat(parts, dim=2) for parts in zip(*every, own, strict=True)))
        attended = attend(queries, known, expert_mask)
        return language, self.expert.finish(expert, attended, gate, moment), known


def attend(queries: Tensor, memory: Cache, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention of queries (B, heads, Q, head_size).

    Heads that share keys and values are laid one after another as more queries of one head, so
    that nothing is repeated: faster than what SDPA makes of shared heads, on CPU by a fourth.

    Args:
        mask: (B, 1, Q or 1, K) bool.
    """
    shared = queries.shape[1] // memory.k.shape[1]
    if mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, shared, 1)
    folded = queries.unflatten(1, (-1, shared)).flatten(2, 3)
    return F.scaled_dot_product_attention(folded, *memory, mask).reshape(queries.shape)


def _added(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    return x + y if gate is None else x + y * gate
