"""LeRobot's own π0 and π0.5 at any size: what ours is compared with, and timed against.

Runs on Python 3.12 with `pip install "lerobot[pi]==0.6.1"` (its π0 needs transformers 5.4, 5.5) and
this repository on PYTHONPATH; neither the project nor its tests need it.

LeRobot's sizes are constants in its code: those of the towers come from `get_gemma_config`, which
is replaced, and those of the vocabulary and of SigLIP are put into the configurations that it
makes, on their way to the constructors. Everything that computes is LeRobot's. Its joint attention
has 8 heads written into it, so a size with another number cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi0 import PI0Config, PI0Policy, modeling_pi0
from lerobot.policies.pi05 import PI05Config, PI05Policy, modeling_pi05
from safetensors.torch import load_file
from torch import Tensor

from training.pi0.config import Pi0Config

Policy = PI0Policy | PI05Policy
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
HEADS = 8
"""The only number of heads that LeRobot's joint attention can have."""


def policy(
    size: Pi0Config, cameras: Sequence[str] = CAMERAS, device: str = "cpu", dtype: str = "float32"
) -> Policy:
    """A randomly initialised LeRobot policy of that size.

    Args:
        dtype: `float32` or `bfloat16`, LeRobot's own mixture of the two.
    """
    if size.heads != HEADS:
        raise ValueError(f"{size.heads} heads: LeRobot's π0 can only have {HEADS}")
    module, kind = (modeling_pi05, PI05Policy) if size.pi05 else (modeling_pi0, PI0Policy)
    with (
        mock.patch.object(module, "get_gemma_config", _towers(size)),
        _built(module, size, "PaliGemmaForConditionalGenerationWithPiGemma"),
        _built(module, size, "PiGemmaForCausalLM"),
    ):
        made = kind(configuration(size, cameras, device, dtype))
    return made.eval()


def configuration(
    size: Pi0Config, cameras: Sequence[str] = CAMERAS, device: str = "cpu", dtype: str = "float32"
) -> PI0Config | PI05Config:
    """The part of a size that LeRobot has in its configuration file."""
    side = size.vision.image
    pictures = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, side, side))
        for name in cameras
    }
    state = PolicyFeature(FeatureType.STATE, (size.action_size,))
    kind = PI05Config if size.pi05 else PI0Config
    return kind(
        input_features={**pictures, "observation.state": state},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (size.action_size,))},
        chunk_size=size.horizon,
        n_action_steps=size.horizon,
        max_state_dim=size.action_size,
        max_action_dim=size.action_size,
        image_resolution=(side, side),
        tokenizer_max_length=size.text_tokens,
        device=device,
        dtype=dtype,
    )


def load(made: Policy, folder: str | Path) -> None:
    """Load a `model.safetensors` as its `from_pretrained` does, but for the size, which that takes
    from LeRobot's constants.

    Raises:
        RuntimeError: something is missing or left over.
    """
    stored = load_file(Path(folder, "model.safetensors"))
    named = made._fix_pytorch_state_dict_keys(stored, made.config)
    names = {name if name.startswith("model.") else f"model.{name}": name for name in named}
    made.load_state_dict({name: named[own] for name, own in names.items()}, strict=True)


def pictures(images: Tensor, masks: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Images as LeRobot's model takes them, and its stand-in for each camera that nobody has.

    Args:
        images: (B, C, H, W, 3) uint8.
        masks: (B, C) bool.
        count: cameras that the policy has, at least C.

    Returns:
        `count` images (B, 3, H, W) from -1 to 1 and `count` masks (B,).
    """
    scaled = images.permute(1, 0, 4, 2, 3).to(torch.float32) / 255 * 2 - 1
    absent = count - len(scaled)
    shown = [*scaled, *(torch.full_like(scaled[0], -1) for _ in range(absent))]
    return shown, [*masks.T, *(torch.zeros_like(masks[:, 0]) for _ in range(absent))]


def _towers(size: Pi0Config) -> Callable[[str], Any]:
    """LeRobot's `get_gemma_config`, with the two towers of a size."""
    towers = {"gemma_2b": size.language, "gemma_300m": size.expert}

    def get_gemma_config(variant: str) -> Any:
        tower = towers[variant]
        return modeling_pi0.GemmaConfig(
            width=tower.width,
            depth=size.depth,
            mlp_dim=tower.mlp,
            num_heads=size.heads,
            num_kv_heads=size.kv_heads,
            head_dim=size.head_size,
        )

    return get_gemma_config


def _built(module: ModuleType, size: Pi0Config, name: str) -> Any:
    """A patch under which a class of LeRobot's module is built with the sizes of `size`."""
    original = getattr(module, name)

    def build(config: Any) -> Any:
        _resize(config, size)
        return original(config)

    return mock.patch.object(module, name, build)


def _resize(config: Any, size: Pi0Config) -> None:
    """Put the vocabulary and SigLIP's sizes into a configuration of PaliGemma or of Gemma."""
    getattr(config, "text_config", config).vocab_size = size.vocabulary
    # Padding is looked up in the table when it is made; nothing of π0 depends on its number.
    getattr(config, "text_config", config).pad_token_id = 0
    if hasattr(config, "vision_config"):
        vision = config.vision_config
        vision.hidden_size = size.vision.width
        vision.num_hidden_layers = size.vision.depth
        vision.intermediate_size = size.vision.mlp
        vision.num_attention_heads = size.vision.heads
        vision.patch_size = size.vision.patch
        vision.image_size = size.vision.image
        vision.projection_dim = size.language.width
