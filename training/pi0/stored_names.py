"""What openpi and LeRobot call π0's tensors, and which of ours each is a part of.

Their form has 777 tensors at full size: SigLIP and both Gemmas as transformers names them below
`paligemma_with_expert`, and five linear layers. The token embedding is there as
`paligemma.lm_head` alone, and the expert has an `lm_head` that nothing uses. LeRobot's training
writes `model.` in front of every name, and a 778th tensor, `embed_tokens`, which is then what it
trained: its `lm_head` stays as it was. π0.5 has 812: the expert's norms are linear layers there,
and the heads are four others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from training.pi0.config import Pi0Config

_PALIGEMMA = "paligemma_with_expert.paligemma."
_EXPERT = "paligemma_with_expert.gemma_expert."
_VISION = f"{_PALIGEMMA}model.vision_tower.vision_model."
EMBEDDING = f"{_PALIGEMMA}lm_head.weight"
EMBEDDING_TRAINED = f"{_PALIGEMMA}model.language_model.embed_tokens.weight"
EXPERT_VOCABULARY = f"{_EXPERT}lm_head.weight"
"""(vocabulary, expert width), unused."""

_GEMMA_LAYER = {
    "norm_attention": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "norm_mlp": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_SIGLIP_LAYER = {
    "norm_attention": ("layer_norm1",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.out_proj",),
    "norm_mlp": ("layer_norm2",),
    "up": ("mlp.fc1",),
    "down": ("mlp.fc2",),
}
_ENDS = ("action_in_proj", "action_out_proj")
_HEADS = (*_ENDS, "state_proj", "action_time_mlp_in", "action_time_mlp_out")
_HEADS_05 = (*_ENDS, "time_mlp_in", "time_mlp_out")
_BOTH = ("weight", "bias")

Names = dict[str, tuple[str, ...]]
"""Of each of our parameters, the stored tensors whose rows, one after another, are its own."""


def pi0(config: Pi0Config) -> Names:
    """Of all parameters of the model."""
    expert = _gemma(config, "expert", f"{_EXPERT}model.")
    layers = _HEADS_05 if config.pi05 else _HEADS
    heads = {f"{head}.{kind}": (f"{head}.{kind}",) for head in layers for kind in _BOTH}
    if config.pi05:
        expert = dict(_adaptive(expert))
    return paligemma(config) | expert | heads


def paligemma(config: Pi0Config) -> Names:
    """Of those parameters that PaliGemma has too."""
    names: Names = {}
    for layer in range(config.vision.depth):
        for ours, theirs in _SIGLIP_LAYER.items():
            for kind in _BOTH:
                stored = tuple(f"{_VISION}encoder.layers.{layer}.{name}.{kind}" for name in theirs)
                names[f"vision.blocks.{layer}.{ours}.{kind}"] = stored
    for kind in _BOTH:
        names[f"vision.patch.{kind}"] = (f"{_VISION}embeddings.patch_embedding.{kind}",)
        names[f"vision.norm.{kind}"] = (f"{_VISION}post_layernorm.{kind}",)
        names[f"projector.{kind}"] = (f"{_PALIGEMMA}model.multi_modal_projector.linear.{kind}",)
    names["vision.position"] = (f"{_VISION}embeddings.position_embedding.weight",)
    names["embedding.weight"] = (EMBEDDING,)
    return names | _gemma(config, "language", f"{_PALIGEMMA}model.language_model.")


def rows(config: Pi0Config, name: str, total: int, parts: int) -> Sequence[int]:
    """How many of a parameter's rows each of its stored parts has."""
    if name.startswith("blocks.") and name.endswith(".qkv.weight"):
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        return queries, keys, keys
    return [total // parts] * parts


def canonical(name: str) -> str:
    """A stored name as `pi0` and `paligemma` above have it, from any layout of either.

    Known are LeRobot's `model.` in front of everything, and PaliGemma by itself as transformers
    wrote it up to 4.51 (`language_model.model.layers…`), up to 5.5 (`model.language_model.layers…`)
    and later (`vision_tower.encoder…`, without `vision_model`).
    """
    name = name.removeprefix("model.")
    rest = name.removeprefix(_PALIGEMMA).removeprefix("model.")
    rest = rest.replace("language_model.model.", "language_model.", 1)
    rest = re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", rest)
    if rest in ("lm_head.weight", "language_model.lm_head.weight"):
        return EMBEDDING
    if rest.startswith(("vision_tower.", "multi_modal_projector.", "language_model.")):
        return f"{_PALIGEMMA}model.{rest}"
    return name


def _adaptive(names: Names) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The expert's with π0.5's norms, each of which has a layer in place of its weight."""
    for ours, theirs in names.items():
        if ours.split(".")[-2].endswith(("norm", "norm_attention", "norm_mlp")):
            for kind in _BOTH:
                stored = theirs[0].removesuffix("weight")
                yield f"{ours.removesuffix('weight')}dense.{kind}", (f"{stored}dense.{kind}",)
        else:
            yield ours, theirs


def _gemma(config: Pi0Config, tower: str, prefix: str) -> Names:
    names = {
        f"blocks.{layer}.{tower}.{ours}.weight": tuple(
            f"{prefix}layers.{layer}.{name}.weight" for name in theirs
        )
        for layer in range(config.depth)
        for ours, theirs in _GEMMA_LAYER.items()
    }
    return names | {f"{tower}_norm.weight": (f"{prefix}norm.weight",)}
