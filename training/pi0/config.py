"""Sizes of π0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SiglipSize:
    """A SigLIP vision transformer (arXiv 2303.15343)."""

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int = 14
    image: int = 224
    """Pixels a side."""

    @property
    def tokens(self) -> int:
        """Of one image."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True)
class GemmaSize:
    """What PaliGemma's language model and the action expert do not share (arXiv 2403.08295)."""

    width: int
    mlp: int


@dataclass(frozen=True)
class Pi0Config:
    """A π0. The two Gemma towers have the same depth, heads and head size: they attend jointly."""

    vision: SiglipSize = SiglipSize(width=1152, depth=27, mlp=4304, heads=16)
    language: GemmaSize = GemmaSize(width=2048, mlp=16384)
    expert: GemmaSize = GemmaSize(width=1024, mlp=4096)
    depth: int = 18
    heads: int = 8
    kv_heads: int = 1
    head_size: int = 256
    vocabulary: int = 257152
    text_tokens: int = 48
    """Most tokens of an instruction; longer ones are cut short."""
    action_size: int = 32
    """Numbers of state and of action that the model holds; shorter ones are padded with zeros."""
    horizon: int = 50
    """Actions in a chunk."""
    pi05: bool = False
    """π0.5 (arXiv 2504.16054): time enters by the expert's norms, and the state in words, as part
    of the text."""


SIZES = {
    "pi0": Pi0Config(),
    "pi05": Pi0Config(text_tokens=200, pi05=True),
    "small": Pi0Config(
        vision=SiglipSize(width=384, depth=12, mlp=1536, heads=6),
        language=GemmaSize(width=512, mlp=2048),
        expert=GemmaSize(width=256, mlp=1024),
        depth=12,
        head_size=64,
    ),
    "tiny": Pi0Config(
        vision=SiglipSize(width=64, depth=3, mlp=192, heads=4, patch=14, image=112),
        language=GemmaSize(width=64, mlp=192),
        expert=GemmaSize(width=96, mlp=256),
        depth=4,
        heads=4,
        head_size=16,
        vocabulary=512,
    ),
}
"""`pi0` and `pi05` have 3.2 and 3.4 billion parameters in use, `small` 212 million (132 of them its
vocabulary), `tiny` 0.8 million."""
