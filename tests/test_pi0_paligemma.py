"""PaliGemma as a beginning: each layout of its files, and then its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from ego_ops.errors import UserError
from tests.golden.pi0_size import FOLDER, SIZE
from tests.pi0_files import alone
from training.batch import Observation
from training.pi0 import checkpoint
from training.pi0.block import Rope
from training.pi0.model import Pi0

SPARE = 64
EXACT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def theirs() -> transformers.PaliGemmaForConditionalGeneration:
    vision, language = SIZE.vision, SIZE.language
    torch.manual_seed(2)
    made = transformers.PaliGemmaForConditionalGeneration(
        transformers.PaliGemmaConfig(
            vision_config={
                "model_type": "siglip_vision_model", "hidden_size": vision.width,
                "num_hidden_layers": vision.depth, "intermediate_size": vision.mlp,
                "num_attention_heads": vision.heads, "patch_size": vision.patch,
                "image_size": vision.image, "vision_use_head": False,
            },
            text_config={
                "model_type": "gemma", "hidden_size": language.width,
                "intermediate_size": language.mlp, "num_hidden_layers": SIZE.depth,
                "num_attention_heads": SIZE.heads, "num_key_value_heads": SIZE.kv_heads,
                "head_dim": SIZE.head_size, "vocab_size": SIZE.vocabulary + SPARE,
                "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh",
            },
            projection_dim=language.width, image_token_id=SIZE.vocabulary,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.add_(scale * torch.randn_like(parameter))
    return made


@pytest.fixture
def folder(
    theirs: transformers.PaliGemmaForConditionalGeneration,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Path:
    """A file in the layout that the test's parameter names; the newest otherwise."""
    theirs.save_pretrained(tmp_path)
    path, layout = tmp_path / "model.safetensors", getattr(request, "param", "as saved")
    tensors = load_file(path)
    assert any(name.startswith("language_model.model.layers") for name in tensors)
    if layout == "modules":  # as 4.52 to 5.5 wrote it
        tensors = {
            f"model.{name.replace('language_model.model.', 'language_model.')}": value
            for name, value in tensors.items()
        }
    if layout in ("modules", "published"):  # as google/paligemma-3b-pt-224 has it
        tensors = {with_vision_model(name): value for name, value in tensors.items()}
    if layout == "modules":
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"].clone()
    save_file(tensors, path)
    return tmp_path


def with_vision_model(name: str) -> str:
    if "vision_tower.vision_model." in name:
        return name
    return name.replace("vision_tower.", "vision_tower.vision_model.")


@pytest.mark.parametrize("folder", ["as saved", "published", "modules"], indirect=True)
def test_its_numbers(folder: Path, theirs: transformers.PaliGemmaForConditionalGeneration) -> None:
    model = Pi0(SIZE)
    checkpoint.load_paligemma(model, folder)
    images = torch.randint(0, 256, (2, 1, SIZE.vision.image, SIZE.vision.image, 3)).byte()
    tokens = torch.randint(0, SIZE.vocabulary, (2, 5))
    every = torch.ones(2, 5, dtype=torch.bool)
    seen = Observation(images, every[:, :1], tokens, every, torch.zeros(2, SIZE.action_size))
    pixels = images[:, 0].permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        read, _ = model._read(seen)
        pictures = theirs.model.get_image_features(pixels).pooler_output
        wanted = torch.cat([pictures, theirs.get_input_embeddings()(tokens)], dim=1)
        torch.testing.assert_close(read, wanted, **EXACT)
        count = read.shape[1]
        rope = Rope.at(torch.arange(count).expand(2, -1), SIZE.head_size)
        everything = torch.zeros(2, 1, count, count)
        language = theirs.model.language_model(inputs_embeds=read, attention_mask=everything)
        torch.testing.assert_close(
            alone(model, "language", read, rope), language.last_hidden_state, **EXACT
        )


def test_the_rest_of_the_model_stays_as_it_was(folder: Path) -> None:
    model = Pi0(SIZE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.load_paligemma(model, folder)
    for name, value in model.state_dict().items():
        same = torch.equal(value, before[name])
        own = any(part in name for part in ("expert", "state_proj", "action_"))
        assert same == own, name


def test_either_is_known_by_what_it_has(folder: Path) -> None:
    model = Pi0(SIZE)
    assert checkpoint.load_initial(model, folder) == "paligemma"
    assert checkpoint.load_initial(model, FOLDER) == "pi0"


def test_one_is_not_taken_for_the_other(folder: Path) -> None:
    with pytest.raises(UserError, match=r"not the weights of this model: 38 missing \(.*_proj"):
        checkpoint.load(Pi0(SIZE), folder)
    with pytest.raises(UserError, match=r"not the weights of this model: 38 left over \(.*_proj"):
        checkpoint.load_paligemma(Pi0(SIZE), FOLDER)


@pytest.mark.parametrize("rows", [SIZE.vocabulary - 1, SIZE.vocabulary + SPARE + 1])
def test_another_vocabulary(folder: Path, rows: int) -> None:
    path = folder / "model.safetensors"
    tensors: dict[str, Tensor] = load_file(path)
    tensors["language_model.model.embed_tokens.weight"] = torch.zeros(rows, SIZE.language.width)
    save_file(tensors, path)
    with pytest.raises(UserError, match=f"1 of another shape .*lm_head.weight {rows}x32 for 64x32"):
        checkpoint.load_paligemma(Pi0(SIZE), folder)
