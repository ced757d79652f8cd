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
    """(B, tokens, 1, head_size) fp32."""
    sin: Tensor
    """The same, negative in the first half."""

    @classmethod
    def at(cls, positions: Tensor, head_size: int) -> Rope:
        """Of the positions (B, tokens)."""
        steps = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32)
        angle = positions[..., None, None].float() / _ROPE_BASE ** (steps / head_size)
        cos, sin = angle.cos(), angle.sin()
        return cls(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, tokens, heads, head_size) to the same."""
        y = x.float()
        return torch.addcmul(y * self.cos, y.roll(y.shape[-1] // 2, -1), self.sin).to(x.dtype)

    def split(self, first: int) -> tuple[Rope, Rope]:
        """That of the first tokens and that of the others."""
        cos, sin = self.cos, self.sin
        return Rope(cos[:, :first], sin[:, :first]), Rope(cos[:, first:], sin[:, first:])


class Cache(NamedTuple):
    """Keys and values of one layer: (B, tokens, kv_heads, head_size) each, keys rotated."""

    k: Tensor
    v: Tensor


class Half(nn.Module):
    """What a layer of one of the two Gemmas has."""

    def __init__(self, config: Pi0Config, size: GemmaSize, adaptive: bool = False):
        super().__init__()
        norm = AdaRMSNorm if adaptive else RMSNorm
        self.head_size = config.head_size
        self.heads = [config.heads, config.kv_heads]
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        self.norm_attention = norm(size.width)
        self.qkv = nn.Linear(size.width, queries + 2 * keys, bias=False)
        self.out = nn.Linear(queries, size.width, bias=False)
        self.norm_mlp = norm(size.width)
        self.gate_up = nn.Linear(size.width, 2 * size.mlp, bias=False)
        self.down = nn.Linear(size.mlp, size.width, bias=False)

    def project(
        self, x: Tensor, rope: Rope, moment: Tensor | None = None
    ) -> tuple[Tensor, Cache, Tensor | None]:
        """Queries, keys and values of the tokens, (B, tokens, heads or kv_heads, head_size), and
        the gate of what comes of them."""
        x, gate = self.norm_attention(x, moment)
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_size))
        turning, v = qkv.split([sum(self.heads), self.heads[1]], dim=2)
        q, k = rope(turning).split(self.heads, dim=2)
        return q, Cache(k, v), gate

    def finish(
        self, x: Tensor, attended: Tensor, gate: Tensor | None, moment: Tensor | None = None
    ) -> Tensor:
        """The layer's end, from what its tokens attended to: (B, tokens, heads, head_size)."""
        x = _added(x, self.out(attended.flatten(2)), gate)
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
            language_mask: from `bias`, what language tokens attend to; None: everything.
            expert_mask: the same of the expert's tokens.
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
        known = Cache(*(torch.cat(parts, dim=1) for parts in zip(*every, own, strict=True)))
        attended = attend(queries, known, expert_mask)
        return language, self.expert.finish(expert, attended, gate, moment), known


def attend(queries: Tensor, memory: Cache, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention of queries (B, Q, heads, head_size).

    Heads that share keys and values are taken for more queries of one head, in the order in which
    they lie in memory: nothing is repeated, and nothing is moved where all heads share.

    Args:
        mask: from `bias`; None: everything.
    """
    k, v = (x.transpose(1, 2) for x in memory)
    folded = queries.unflatten(2, (k.shape[1], -1)).transpose(1, 2).flatten(2, 3)
    attended = F.scaled_dot_product_attention(folded, k, v, mask)
    shared = queries.shape[2] // k.shape[1]
    return attended.unflatten(2, (-1, shared)).transpose(1, 2).flatten(2, 3)


def bias(mask: Tensor, dtype: torch.dtype, shared: int) -> Tensor:
    """What attention adds to the scores, made once for all layers: (B, 1, Q times shared or 1, K).

    Args:
        mask: (B, Q or 1, K) bool, who attends to whom.
        shared: heads that share keys and values.
    """
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    added = added.masked_fill(~mask, float("-inf"))
    added = added.repeat_interleave(shared, 1) if mask.shape[1] > 1 else added
    # Rows begin where CUDA's kernels want them, which otherwise copy it in every layer.
    return F.pad(added, (0, -added.shape[-1] % 8))[:, None, :, : added.shape[-1]]


def _added(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    return x + y if gate is None else x + y * gate
