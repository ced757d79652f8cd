"""Files with π0's weights: the published form, read strictly and written whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.golden.pi0_size import FOLDER, SIZE
from tests.pi0_files import changed, equal, golden, refusal
from training.pi0 import checkpoint, stored_names
from training.pi0.config import SIZES
from training.pi0.model import Pi0

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model() -> Pi0:
    torch.manual_seed(1)
    return Pi0(SIZE)


@pytest.fixture
def saved(model: Pi0, tmp_path: Path) -> Path:
    return checkpoint.save(model, tmp_path)


@pytest.mark.parametrize(
    ("size", "used", "tensors", "stored"),
    [("pi0", 3_238_048_528, 777, 3_501_372_176), ("pi05", 3_353_433_872, 812, 3_616_757_520)],
)
def test_full_sizes_have_the_published_counts(
    size: str, used: int, tensors: int, stored: int
) -> None:
    with torch.device("meta"):
        model = Pi0(SIZES[size])
    assert sum(value.numel() for value in model.parameters()) == used
    kept = dict(checkpoint.stored(model.config, model.state_dict()))
    assert len(kept) == tensors
    assert sum(value.numel() for value in kept.values()) == stored
    layer = "paligemma_with_expert.paligemma.model.language_model.layers.17"
    assert kept[f"{layer}.self_attn.k_proj.weight"].shape == (256, 2048)
    assert kept[f"{layer}.mlp.up_proj.weight"].shape == (16384, 2048)
    assert kept["paligemma_with_expert.gemma_expert.lm_head.weight"].shape == (257152, 1024)


def test_lerobot_has_the_same_names_and_shapes(saved: Path) -> None:
    theirs = {n.removeprefix("model."): v for n, v in golden().items()}
    del theirs[stored_names.EMBEDDING_TRAINED]
    ours = load_file(saved)
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_what_was_saved_loads_to_the_bit(model: Pi0, saved: Path) -> None:
    for place in (saved, saved.parent, str(saved)):
        fresh = Pi0(SIZE)
        assert not equal(fresh, model)
        checkpoint.load(fresh, place)
        assert equal(fresh, model)


def test_saving_what_was_loaded_gives_lerobots_tensors(tmp_path: Path) -> None:
    model = Pi0(SIZE)
    checkpoint.load(model, FOLDER)
    ours = load_file(checkpoint.save(model, tmp_path / "new" / "policy.safetensors"))
    theirs = golden()
    theirs["model." + stored_names.EMBEDDING] = theirs.pop(
        "model." + stored_names.EMBEDDING_TRAINED
    )
    unused = ours.pop(stored_names.EXPERT_VOCABULARY)
    assert unused.abs().max() == 0
    assert all(torch.equal(value, theirs[f"model.{name}"]) for name, value in ours.items())


def test_half_precision_is_read_into_fp32(model: Pi0, tmp_path: Path) -> None:
    path = checkpoint.save(model, tmp_path, torch.bfloat16)
    assert {value.dtype for value in load_file(path).values()} == {torch.bfloat16}
    fresh = Pi0(SIZE)
    checkpoint.load(fresh, path)
    for name, value in fresh.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, model.state_dict()[name].bfloat16().float())


def test_other_weights_than_the_models_can_be_saved(model: Pi0, tmp_path: Path) -> None:
    mean = {name: value * 0.5 for name, value in model.state_dict().items()}
    fresh = Pi0(SIZE)
    checkpoint.load(fresh, checkpoint.save(model, tmp_path, weights=mean))
    assert all(torch.equal(value, mean[name]) for name, value in fresh.state_dict().items())
    mean["lora.weight"] = mean.pop("projector.weight")
    with pytest.raises(ValueError, match=r"'lora.weight', 'projector.weight'"):
        checkpoint.save(model, tmp_path, weights=mean)


def test_several_files_and_their_index(model: Pi0, saved: Path) -> None:
    tensors = load_file(saved)
    saved.unlink()
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[:40],
             "model-00002-of-00002.safetensors": names[40:]}  # fmt: skip
    for file, held in files.items():
        save_file({name: tensors[name] for name in held}, saved.parent / file)
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (saved.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    fresh = Pi0(SIZE)
    checkpoint.load(fresh, saved.parent)
    assert equal(fresh, model)
    (saved.parent / "model-00002-of-00002.safetensors").unlink()
    line = refusal(saved.parent)
    assert "1 of 2 files of weights are missing (model-00002-of-00002.safetensors)" in line
    (saved.parent / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    assert "not an index of weights" in refusal(saved.parent)


def test_statistics_of_old_lerobot_files_are_no_weights(model: Pi0, saved: Path) -> None:
    changed(saved, lambda t: t.update({"normalize_inputs.buffer_state.mean": torch.ones(3)}))
    fresh = Pi0(SIZE)
    checkpoint.load(fresh, saved)
    assert equal(fresh, model)


def test_what_the_hubs_cache_has_is_used(
    model: Pi0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    repo, commit = tmp_path / "models--some--policy", "0123456789" * 4
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    checkpoint.save(model, repo / "snapshots" / commit)
    fresh = Pi0(SIZE)
    checkpoint.load(fresh, "some/policy")
    assert equal(fresh, model)


def test_a_sharded_model_takes_its_share(saved: Path, model: Pi0) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.load_sharded", str(saved)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = {name: float(value.sum()) for name, value in model.state_dict().items()}
    assert json.loads(done.stdout) == pytest.approx(wanted, abs=1e-4)
