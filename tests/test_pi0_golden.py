"""Our π0 and π0.5 against LeRobot's answers (`tests/golden/make_pi0.py`), and transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.golden.pi0_size import FOLDER, GOLDEN, SIZE
from tests.pi0_files import alone
from training.batch import Batch, Observation
from training.pi0 import checkpoint, stored_names
from training.pi0.block import Rope
from training.pi0.config import SiglipSize
from training.pi0.model import Pi0
from training.pi0.siglip import Siglip

PREFIX = "model."
EXACT = {"rtol": 1e-5, "atol": 1e-5}
LANGUAGE = "model.paligemma_with_expert.paligemma.model.language_model"


@pytest.fixture(scope="module", params=GOLDEN, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "results.safetensors")


@pytest.fixture(scope="module")
def model(folder: Path) -> Pi0:
    made = Pi0(GOLDEN[folder])
    checkpoint.load(made, folder)
    return made


@pytest.fixture(scope="module")
def batch(told: dict[str, Tensor]) -> Batch:
    names = "images", "image_mask", "tokens", "token_mask", "state"
    actions = told["actions"]
    return Batch(
        Observation(*(told[name] for name in names)),
        actions,
        torch.ones_like(actions, dtype=torch.bool),
        told["noise"],
        told["time"],
    )


def test_pictures(model: Pi0, told: dict[str, Tensor]) -> None:
    with torch.no_grad():
        seen = model.projector(model.vision(told["images"].flatten(0, 1)))
    torch.testing.assert_close(seen.view_as(told["pictures"]), told["pictures"], **EXACT)


def test_errors(model: Pi0, batch: Batch, told: dict[str, Tensor]) -> None:
    assert told["errors"].std() > 1  # an answer that could be met by chance would prove nothing
    with torch.no_grad():
        torch.testing.assert_close(model(batch), told["errors"], **EXACT)


def test_sampled_actions(model: Pi0, batch: Batch, told: dict[str, Tensor]) -> None:
    sampled = model.sample(batch.observation, batch.noise, steps=10)
    assert (sampled - batch.noise).abs().mean() > 0.5
    torch.testing.assert_close(sampled, told["sampled"], **EXACT)


def test_one_sample_without_its_padding(model: Pi0, batch: Batch, told: dict[str, Tensor]) -> None:
    seen = batch.observation
    for sample, cameras, words in ((0, 2, 7), (1, 1, 4), (2, 2, 1)):
        one = slice(sample, sample + 1)
        assert seen.token_mask[sample].sum() == words
        alone = Observation(
            seen.images[one, :cameras],
            seen.image_mask[one, :cameras],
            seen.tokens[one, :words],
            seen.token_mask[one, :words],
            seen.state[one],
            padded=False,
        )
        rest = (batch.actions, batch.action_mask, batch.noise, batch.time)
        with torch.no_grad():
            errors = model(Batch(alone, *(value[one] for value in rest)))
        torch.testing.assert_close(errors, told["errors"][one], **EXACT)
        sampled = model.sample(alone, batch.noise[one])
        torch.testing.assert_close(sampled, told["sampled"][one], **EXACT)


def test_what_is_masked_does_not_matter(model: Pi0, batch: Batch, told: dict[str, Tensor]) -> None:
    seen = batch.observation
    images, tokens = seen.images.clone(), seen.tokens.clone()
    images[~seen.image_mask], tokens[~seen.token_mask] = 200, 7
    other = replace(batch, observation=replace(seen, images=images, tokens=tokens))
    with torch.no_grad():
        torch.testing.assert_close(model(other), told["errors"], **EXACT)


def test_gradients(model: Pi0, batch: Batch, told: dict[str, Tensor]) -> None:
    model.zero_grad()
    model(batch).mean().backward()
    # Nobody reads the last layer's language tokens: LeRobot has no gradients for it.
    unused = f"{LANGUAGE}.layers.{model.config.depth - 1}."
    compared = set()
    for name, gradient in stored_gradients(model):
        if name.startswith((unused, f"{LANGUAGE}.norm.")) and f"norm.{name}" not in told:
            assert gradient.abs().max() == 0
            continue
        torch.testing.assert_close(gradient.norm(), told[f"norm.{name}"], **EXACT)
        compared.add(f"norm.{name}")
        if f"gradient.{name}" in told:
            torch.testing.assert_close(gradient, told[f"gradient.{name}"], rtol=1e-4, atol=2e-6)
            compared.add(f"gradient.{name}")
    assert compared == {name for name in told if name.startswith(("norm.", "gradient."))}


def stored_gradients(model: Pi0) -> Iterator[tuple[str, Tensor]]:
    """Gradients by LeRobot's names."""
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in model.named_parameters()
    }
    for name, value in checkpoint.stored(model.config, gradients):
        if name == stored_names.EMBEDDING:
            name = stored_names.EMBEDDING_TRAINED
        if name != stored_names.EXPERT_VOCABULARY:
            yield PREFIX + name, value


def test_the_hub_form_of_the_same_weights(
    tmp_path: Path, folder: Path, batch: Batch, told: dict[str, Tensor]
) -> None:
    """Without the prefix, and with the embedding under the name of the vocabulary's layer only."""
    stored = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix(PREFIX): value for name, value in stored.items()}
    tensors[stored_names.EMBEDDING] = tensors.pop(stored_names.EMBEDDING_TRAINED)
    save_file(tensors, tmp_path / "weights.safetensors")
    model = Pi0(GOLDEN[folder])
    checkpoint.load(model, tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(model(batch), told["errors"], **EXACT)


def test_siglip_is_transformers() -> None:
    size = SiglipSize(width=48, depth=3, mlp=80, heads=4, patch=14, image=56)
    theirs = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=48, num_hidden_layers=3, intermediate_size=80, num_attention_heads=4,
            patch_size=14, image_size=56, vision_use_head=False,
        )
    ).eval()  # fmt: skip
    randomise(theirs)
    ours = Siglip(size)
    named = {
        "patch.weight": "embeddings.patch_embedding.weight",
        "patch.bias": "embeddings.patch_embedding.bias",
        "position": "embeddings.position_embedding.weight",
        "norm.weight": "post_layernorm.weight",
        "norm.bias": "post_layernorm.bias",
    }
    given = {n.removeprefix("vision_model."): v for n, v in theirs.state_dict().items()}
    with torch.no_grad():
        for name, value in ours.named_parameters():
            value.copy_(given[named[name]] if name in named else siglip_layer(name, given))
    images = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = theirs(images.permute(0, 3, 1, 2) / 127.5 - 1).last_hidden_state
        torch.testing.assert_close(ours(images), wanted, **EXACT)


def siglip_layer(name: str, given: dict[str, Tensor]) -> Tensor:
    """A parameter of one of our SigLIP blocks, out of transformers'."""
    _, layer, module, kind = name.split(".")
    parts = {
        "norm_attention": ["layer_norm1"],
        "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "out": ["self_attn.out_proj"],
        "norm_mlp": ["layer_norm2"],
        "up": ["mlp.fc1"],
        "down": ["mlp.fc2"],
    }[module]
    return torch.cat([given[f"encoder.layers.{layer}.{part}.{kind}"] for part in parts])


def test_gemma_is_transformers() -> None:
    """Both towers by themselves: the language tokens attend to all, the expert's to theirs."""
    model = Pi0(SIZE)
    checkpoint.load(model, FOLDER)
    stored = load_file(FOLDER / "model.safetensors")
    for tower, prefix in (
        ("language", f"{LANGUAGE}."),
        ("expert", "model.paligemma_with_expert.gemma_expert.model."),
    ):
        theirs = gemma(getattr(SIZE, tower).width, getattr(SIZE, tower).mlp)
        weights = {n.removeprefix(prefix): v for n, v in stored.items() if n.startswith(prefix)}
        weights.setdefault("embed_tokens.weight", theirs.embed_tokens.weight.detach())
        theirs.load_state_dict(weights)
        x = torch.randn(2, 9, getattr(SIZE, tower).width)
        rope = Rope.at(torch.arange(9).expand(2, -1), SIZE.head_size)
        with torch.no_grad():
            everything = torch.zeros(2, 1, 9, 9)
            wanted = theirs(inputs_embeds=x, attention_mask=everything).last_hidden_state
            torch.testing.assert_close(alone(model, tower, x, rope), wanted, **EXACT)


def gemma(width: int, mlp: int) -> transformers.GemmaModel:
    return transformers.GemmaModel(
        transformers.GemmaConfig(
            hidden_size=width, intermediate_size=mlp, num_hidden_layers=SIZE.depth,
            num_attention_heads=SIZE.heads, num_key_value_heads=SIZE.kv_heads,
            head_dim=SIZE.head_size, vocab_size=SIZE.vocabulary, pad_token_id=0,
            hidden_activation="gelu_pytorch_tanh",
        )
    ).eval()  # fmt: skip


def randomise(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.add_(scale * torch.randn_like(parameter))
