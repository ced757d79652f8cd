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


class Patches(nn.Conv2d):
    """The convolution as a product of matrices, which it is as no two patches overlap."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, tokens, width)."""
        # Columns in the order in which pixels lie in memory, of which then long runs are copied.
        weight, size = self.weight.permute(0, 2, 3, 1).flatten(1), self.kernel_size[0]
        rows = images.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)
        pixels = rows.flatten(3).flatten(1, 2).float().div_(127.5).sub_(1)
        return F.linear(pixels.to(weight.dtype), weight, self.bias)


class Siglip(nn.Module):
    """The whole tower."""

    def __init__(self, size: SiglipSize):
        super().__init__()
        self.patch = Patches(3, size.width, size.patch, size.patch)
        self.position = nn.Parameter(torch.zeros(size.tokens, size.width))
        self.blocks = nn.ModuleList(SiglipBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, tokens, width), the tokens row by row."""
        x = self.patch(images) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
