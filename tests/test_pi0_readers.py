"""What we save, as others load it: transformers' π0, and the fields that LeRobot writes itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.pi0_size import FOLDER, GOLDEN, SIZE
from training.pi0 import checkpoint, lerobot_config
from training.pi0.config import GemmaSize
from training.pi0.model import Pi0

PICTURE = SIZE.vocabulary + 1
"""The word that stands for a piece of a picture."""


def gemma(size: GemmaSize) -> dict:
    return {
        "model_type": "gemma", "hidden_size": size.width, "intermediate_size": size.mlp,
        "num_hidden_layers": SIZE.depth, "num_attention_heads": SIZE.heads,
        "num_key_value_heads": SIZE.kv_heads, "head_dim": SIZE.head_size,
        "vocab_size": SIZE.vocabulary, "pad_token_id": 0,
        "hidden_activation": "gelu_pytorch_tanh",
    }  # fmt: skip


@pytest.fixture
def theirs(tmp_path: Path) -> transformers.PreTrainedModel:
    """transformers' own π0, from our file of LeRobot's weights."""
    if not hasattr(transformers, "PI0Config"):
        pytest.skip(f"transformers {transformers.__version__} has no π0")
    vision = SIZE.vision
    config = transformers.PI0Config(
        vlm_config={
            "model_type": "paligemma", "text_config": gemma(SIZE.language),
            "vision_config": {
                "model_type": "siglip_vision_model", "hidden_size": vision.width,
                "num_hidden_layers": vision.depth, "intermediate_size": vision.mlp,
                "num_attention_heads": vision.heads, "patch_size": vision.patch,
                "image_size": vision.image, "vision_use_head": False,
            },
            "projection_dim": SIZE.language.width, "image_token_id": PICTURE,
        },
        dit_config=gemma(SIZE.expert), chunk_size=SIZE.horizon,
        max_state_dim=SIZE.action_size, max_action_dim=SIZE.action_size,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    ours = Pi0(SIZE)
    checkpoint.load(ours, FOLDER)
    checkpoint.save(ours, tmp_path)
    model, report = transformers.PI0ForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    return model


def test_transformers_loads_it_and_samples_the_same_actions(
    theirs: transformers.PreTrainedModel,
) -> None:
    told = load_file(FOLDER / "results.safetensors")
    for sample, cameras, words in ((0, 2, 7), (1, 1, 4), (2, 2, 1)):
        one = slice(sample, sample + 1)
        pictures: Tensor = told["images"][one, :cameras]
        pieces = torch.full((1, cameras * SIZE.vision.tokens), PICTURE)
        prompt = torch.cat([pieces, told["tokens"][one, :words]], dim=1)
        sampled = theirs.sample_actions(
            state=told["state"][one],
            input_ids=prompt,
            pixel_values=pictures.permute(0, 1, 4, 2, 3) / 127.5 - 1,
            noise=told["noise"][one],
            attention_mask=torch.ones_like(prompt),
            pixel_attention_mask=torch.ones(1, cameras, dtype=torch.bool),
        )
        # Its periods of the time embedding are fp32, where openpi and LeRobot have fp64.
        torch.testing.assert_close(sampled, told["sampled"][one], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_fields_of_the_configuration_are_lerobots(tmp_path: Path, folder: Path) -> None:
    size = GOLDEN[folder]
    cameras = "base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"
    lerobot_config.write(tmp_path, size, cameras, size.action_size, size.action_size)
    ours = json.loads((tmp_path / "config.json").read_text())
    theirs = json.loads((folder / "config.json").read_text())
    assert ours == {name: theirs[name] for name in ours}
