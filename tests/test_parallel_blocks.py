"""What training does to the blocks of π0: recomputation, compilation, mixed precision."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pi0_models import batch, minute, observation
from training.config import get
from training.parallel import autocast, bare, wrap

CPU = torch.device("cpu")
PLAIN = replace(get("pi0_tiny"), parallel="ddp", precision="fp32", recompute="none")


def _kept(recompute: str) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights aside."""
    model, given = minute(), batch(observation((6, 6)))
    wrap(model, replace(PLAIN, recompute=recompute), CPU)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        errors = model(given)
    del errors
    return sum(kept.values())


class _Counter(TorchDispatchMode):
    """Counts matrix products and attentions that are really computed."""

    count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        heavy = ("mm", "addmm", "bmm", "_scaled_dot_product")
        self.count += operation.__name__.split(".")[0].startswith(heavy)
        return operation(*args, **(kwargs or {}))


def _operations(recompute: str) -> int:
    """Matrix products and attentions of a forward and backward pass."""
    model, given = minute(), batch(observation((6, 6)))
    wrap(model, replace(PLAIN, recompute=recompute), CPU)
    with _Counter() as counter:
        model(given).mean().backward()
    return counter.count


def test_selective_recomputation_repeats_no_matrix_product_and_full_does() -> None:
    plain = _operations("none")
    assert _operations("selective") == plain
    assert _operations("full") > 1.2 * plain
    assert _kept("full") < 0.5 * _kept("none")


def test_heads_are_exact_under_autocast() -> None:
    config = replace(PLAIN, precision="bf16")
    model, exact = wrap(minute(), config, CPU), minute()
    actions = torch.randn(2, 5, 10)
    expected = exact.action_in_proj(actions)
    with autocast(config, CPU):
        assert torch.equal(bare(model).action_in_proj(actions), expected)
        assert bare(model).projector(torch.randn(2, 16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "backend",
    ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)],  # half a minute of g++
)
def test_compiled_blocks_are_compiled_once_for_all_layers(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is traced and differentiated is the same for both; only inductor writes its own code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    given = batch(observation((6, 6)))
    model, exact = minute(depth=4), minute(depth=4)
    wrap(model, replace(PLAIN, compile=True), CPU)
    model(given).mean().backward()
    exact(given).mean().backward()
    # Blocks of the vision tower, joint blocks, and the last one, which leaves something out.
    assert counters["stats"]["unique_graphs"] == 3
    assert not counters["graph_break"]
    for a, b in zip(model.parameters(), exact.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        model.sample(given.observation, given.noise), exact.sample(given.observation, given.noise)
    )
    assert counters["stats"]["unique_graphs"] == 3
