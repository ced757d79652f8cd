"""Files with weights that are not the model's, not whole or not there: one line each."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ego_ops.errors import UserError
from tests.golden.pi0_size import SIZE
from tests.pi0_files import Q_PROJ, changed, refusal
from training.pi0 import checkpoint, stored_names
from training.pi0.config import GemmaSize
from training.pi0.model import Pi0

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model() -> Pi0:
    torch.manual_seed(1)
    return Pi0(SIZE)


@pytest.fixture
def saved(model: Pi0, tmp_path: Path) -> Path:
    return checkpoint.save(model, tmp_path)


def test_what_is_missing_and_left_over_is_listed(saved: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["action_head.weight"] = tensors.pop("state_proj.weight")
        del tensors[stored_names.EMBEDDING]
        tensors[Q_PROJ] = torch.zeros(64, 17)

    line = refusal(changed(saved, change))
    assert line.startswith(f"{saved}: not the weights of this model: 2 missing (")
    assert "paligemma_with_expert.paligemma.lm_head.weight" in line
    assert "state_proj.weight); 1 left over (action_head.weight); 1 of another shape (" in line
    assert f"{Q_PROJ} 64x17 for 64x16)" in line


def test_a_checkpoint_of_another_size(tmp_path: Path) -> None:
    wide = replace(SIZE, expert=GemmaSize(width=24, mlp=32), depth=4)
    line = refusal(checkpoint.save(Pi0(wide), tmp_path))
    assert "18 left over (" in line
    assert "and 8 more); " in line
    assert line.endswith("the configuration must be the one it was trained with")


def test_other_kinds_of_files_are_named(saved: Path) -> None:
    tensor = torch.zeros(3, 16)
    dense = Q_PROJ.replace("self_attn.q_proj", "input_layernorm.dense")
    line = refusal(changed(saved, lambda t: t.update({dense: tensor})))
    assert line.endswith("it is a π0.5: the model of the configuration must be one (pi05)")
    adapter = Q_PROJ.replace("weight", "lora_A.weight")
    line = refusal(changed(saved, lambda t: (t.pop(dense), t.update({adapter: tensor}))))
    assert line.endswith("merge them into their weights first")


def test_the_same_tensor_twice_is_left_over(saved: Path) -> None:
    changed(saved, lambda t: t.update({f"model.{Q_PROJ}": torch.ones(64, 16)}))
    line = refusal(saved)
    assert "1 left over (" in line
    assert " besides " in line


@pytest.mark.parametrize("size", [0, 5, 3000, 200_000])
def test_a_damaged_file(saved: Path, size: int) -> None:
    os.truncate(saved, size)
    line = refusal(saved)
    assert line.startswith(f"{saved}: not a whole safetensors file (")
    assert line.endswith("copy or download it again")


def test_quantised_weights(saved: Path) -> None:
    changed(saved, lambda t: t.update({Q_PROJ: torch.zeros(64, 16, dtype=torch.int8)}))
    assert f"{Q_PROJ} is I8" in refusal(saved)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite(saved: Path, number: float) -> None:
    changed(saved, lambda t: t[Q_PROJ].view(-1)[77:78].fill_(number))
    with pytest.raises(UserError, match=f"{Q_PROJ} has numbers that are not finite"):
        checkpoint.load(Pi0(SIZE), saved)


def test_there_is_nothing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").endswith("none: no such file or folder with weights")
    assert refusal("./some/folder").endswith("no such file or folder with weights")
    assert "no model.safetensors in this folder" in refusal(tmp_path)


def test_without_a_hub_a_name_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens
    line = refusal("lerobot/pi0_base")
    assert line.startswith("lerobot/pi0_base: no such file or folder, and it cannot be fetched ")
    assert line.endswith("copy a folder of its weights to this machine and name that")


def test_a_full_disk_leaves_the_file_that_was_there(model: Pi0, saved: Path) -> None:
    before = saved.read_bytes()
    save = (
        "import sys, torch; from tests.golden.pi0_size import SIZE\n"
        "from training.pi0 import checkpoint; from training.pi0.model import Pi0\n"
        "checkpoint.save(Pi0(SIZE), sys.argv[1])\n"
    )

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", save, str(saved)],
        cwd=ROOT, preexec_fn=small, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(
        f"ego_ops.errors.UserError: cannot write {saved}: "
    ), done.stderr
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
