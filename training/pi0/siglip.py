"""SigLIP's vision transformer (arXiv 2303.15343), as PaliGemma uses it: every patch a token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.pi0.config import SiglipSize

_EPSILON = 1e-6


class SiglipBlock(nn.Module):
    """Attention over all patches, then two layers, each with its norm before it."""

    def __init__(self, size: SiglipSize):
        super().__init__()
        self.heads = size.heads
        self.norm_attention = nn.LayerNorm(size.width, eps=_EPSILON)
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)
        self.norm_mlp = nn.LayerNorm(size.width, eps=_EPSILON)
        self.up = nn.Linear(size.width, size.mlp)
        self.down = nn.Linear(size.mlp, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class Siglip(nn.Module):
    """The whole tower."""

    def __init__(self, size: SiglipSize):
        super().__init__()
        self.patch = nn.Conv2d(3, size.width, size.patch, size.patch)
        self.position = nn.Parameter(torch.zeros(size.tokens, size.width))
        self.blocks = nn.ModuleList(SiglipBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, tokens, width), the tokens row by row."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        patches = self.patch(pixels.to(self.patch.weight.dtype))
        x = patches.flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
