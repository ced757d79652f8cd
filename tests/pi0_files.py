"""What tests of π0's checkpoints share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ego_ops.errors import UserError
from tests.golden.pi0_size import FOLDER, SIZE
from training.pi0 import checkpoint
from training.pi0.block import Rope
from training.pi0.model import Pi0

Q_PROJ = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj.weight"


def equal(a: Pi0, b: Pi0) -> bool:
    others = b.state_dict()
    return all(torch.equal(value, others[name]) for name, value in a.state_dict().items())


def changed(path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """Rewrite a file of tensors."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return path


def refusal(path: Path | str) -> str:
    """The one line with which a file is refused; the model must be as it was."""
    model = Pi0(SIZE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        checkpoint.load(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def golden() -> dict[str, Tensor]:
    """The policy that LeRobot wrote."""
    return load_file(FOLDER / "model.safetensors")


def alone(model: Pi0, tower: str, x: Tensor, rope: Rope) -> Tensor:
    """One tower's tokens through all layers, where the other has none that it could see."""
    for block in model.blocks:
        if tower == "language":
            x, _, _ = block(x, None, rope, None, None)
        else:
            _, x, _ = block(None, x, rope, None, None)
    norm = model.language_norm if tower == "language" else model.expert_norm
    return norm(x)[0]
