"""Freezing parts of π0, and low-rank adapters."""

from __future__ import annotations

import pytest
import torch

from ego_ops.errors import UserError
from tests.pi0_models import batch, minute, observation
from training.adapt import Lora, add_lora, freeze, merge_lora
from training.pi0.model import Pi0


def _trained(model: Pi0) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def _shake(model: Pi0) -> None:
    """As training would: other numbers in all that is trained."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [
        ("vision", ("vision.", "projector.")),
        ("language", ("embedding.",)),
        ("expert", ("expert_norm.", "state_proj.", "action_")),
    ],
)
def test_a_frozen_part_is_frozen_and_nothing_else(part: str, prefixes: tuple[str, ...]) -> None:
    model = minute()
    before = _trained(model)
    freeze(model, (part,))
    frozen = {n for n in before if n.startswith(prefixes) or f".{part}." in n}
    assert frozen
    assert _trained(model) == before - frozen
    model(batch(observation())).mean().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == before - frozen


def test_the_three_parts_are_the_whole_model() -> None:
    model = minute()
    freeze(model, ("vision", "language", "expert"))
    assert not _trained(model)


def test_an_unknown_part_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"freeze langauge: .* did you mean language\?"):
        freeze(minute(), ("langauge",))
    with pytest.raises(UserError, match="there are vision, language, expert"):
        freeze(minute(), ("xyz",))


def test_adapters_change_nothing_at_first_and_only_they_and_the_heads_are_trained() -> None:
    model, given = minute(), batch(observation())
    before, names = model(given), {n for n, _ in model.named_parameters()}
    add_lora(model, rank=2)
    assert torch.equal(model(given), before)
    assert names < {n for n, _ in model.named_parameters()}
    trained = _trained(model)
    own = {n for n in trained if n.endswith((".a", ".b")) and n.startswith("blocks.")}
    at_heads = {n for n in trained if n.split(".")[0] in ("state_proj",) or n.startswith("action_")}
    assert trained == own | at_heads
    assert len(at_heads) == 2 * len(model.heads())
    # Four matrices of both halves in each of three layers, without three that nothing depends on.
    assert len(own) == 2 * (3 * 2 * 4 - 3)
    model(given).mean().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained


def test_adapters_learn_and_the_weights_stay() -> None:
    model, given = minute(), batch(observation())
    add_lora(model, rank=4)
    kept = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    for head in model.heads():
        head.requires_grad_(False)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(20):
        loss = model(given).mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, parameter in model.named_parameters():
        if name in kept and "proj" not in name and "action" not in name:
            assert torch.equal(parameter, kept[name])


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_merged_it_is_a_plain_model_that_does_the_same(alpha: float | None) -> None:
    model, plain, given = minute(), minute(seed=9), batch(observation())
    add_lora(model, rank=3, alpha=alpha)
    _shake(model)
    adapted = model(given)
    weight = dict(model.named_modules())["blocks.0.expert.qkv"]
    assert isinstance(weight, Lora)
    product = weight.weight + (1.0 if alpha is None else alpha / 3) * weight.b @ weight.a
    merge_lora(model)
    torch.testing.assert_close(model.blocks[0].expert.qkv.weight, product)
    assert not any(isinstance(module, Lora) for module in model.modules())
    plain.load_state_dict(model.state_dict())  # strict: the same names and shapes
    torch.testing.assert_close(plain(given), adapted, rtol=1e-4, atol=1e-5)


def test_what_is_frozen_gets_no_adapter() -> None:
    model = minute()
    freeze(model, ("language",))
    add_lora(model, rank=2)
    assert not any(".language." in name for name in _trained(model))
    assert any(".expert." in name for name in _trained(model))
    with pytest.raises(UserError, match="at least 1"):
        add_lora(minute(), rank=0)
