"""AdamW, its learning rate and the clipped gradient, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ego_ops.errors import UserError
from training.config import OptimiserConfig
from training.optimise import Diverged, adamw, check, clip, rate, set_rate

CONFIG = OptimiserConfig(peak=1e-2, end=1e-3, warmup=10, weight_decay=0.1, clip=1.0)


def _model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 3))


def _backward(model: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    model(torch.randn(5, 7, generator=draw)).square().sum().backward()


def test_rate_of_openpis_configuration() -> None:
    config = OptimiserConfig()
    assert rate(config, 30_000, 0) == pytest.approx(2.5e-5 / 1001)
    assert rate(config, 30_000, 500) == pytest.approx((2.5e-5 / 1001 + 2.5e-5) / 2)
    assert rate(config, 30_000, 1000) == pytest.approx(2.5e-5)
    assert rate(config, 30_000, 15_500) == pytest.approx((2.5e-5 + 2.5e-6) / 2)
    assert rate(config, 30_000, 30_000) == pytest.approx(2.5e-6)
    assert rate(config, 30_000, 90_000) == pytest.approx(2.5e-6)


def test_rate_rises_to_its_peak_and_then_only_falls() -> None:
    config = OptimiserConfig(peak=1.0, end=0.1, warmup=50, decay=400)
    rates = np.array([rate(config, 1000, step) for step in range(1000)])
    assert (np.diff(rates[:51]) > 0).all()
    assert (np.diff(rates[50:401]) < 0).all()
    assert rates.argmax() == 50
    np.testing.assert_allclose(rates[400:], 0.1)


def test_rate_without_warm_up_begins_at_the_peak() -> None:
    config = OptimiserConfig(peak=1.0, end=0.0, warmup=0)
    assert rate(config, 10, 0) == 1.0
    assert rate(config, 10, 10) == 0.0
    assert rate(OptimiserConfig(warmup=100), 20, 20) < 2.5e-5  # a run shorter than its warm-up


def test_steps_are_adams_with_decoupled_decay() -> None:
    model = _model()
    weight = model[0].weight
    expected = weight.detach().numpy().astype(np.float64)
    first, second = np.zeros_like(expected), np.zeros_like(expected)
    optimiser = adamw(model, CONFIG)
    for step in range(1, 6):
        lr = rate(CONFIG, 100, step)
        set_rate(optimiser, lr)
        _backward(model, step)
        grad = weight.grad.numpy().astype(np.float64)
        first = 0.9 * first + 0.1 * grad
        second = 0.95 * second + 0.05 * grad**2
        ratio = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.95**step)) + 1e-8)
        expected = expected * (1 - lr * 0.1) - lr * ratio
        optimiser.step()
        optimiser.zero_grad()
        np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6)


def test_the_same_steps_give_the_same_bits() -> None:
    ends = []
    for _ in range(2):
        model = _model()
        optimiser = adamw(model, CONFIG)
        for step in range(20):
            _backward(model, step)
            clip(model, 1.0)
            optimiser.step()
            optimiser.zero_grad()
        ends.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*ends)


def test_a_saved_optimiser_goes_on_with_the_same_bits() -> None:
    def train(model: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            _backward(model, step)
            optimiser.step()
            optimiser.zero_grad()

    whole = _model()
    train(whole, adamw(whole, CONFIG), range(8))
    begun, other = _model(), _model(seed=1)
    optimiser, loaded = adamw(begun, CONFIG), adamw(other, CONFIG)
    train(begun, optimiser, range(3))
    other.load_state_dict(begun.state_dict())
    loaded.load_state_dict(optimiser.state_dict())
    train(other, loaded, range(3, 8))
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_frozen_is_not_touched() -> None:
    model = _model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimiser = adamw(model, CONFIG)
    _backward(model, 0)
    optimiser.step()
    assert torch.equal(model[0].weight, before)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2
    model.requires_grad_(False)
    with pytest.raises(UserError, match="nothing is left to train"):
        adamw(model, CONFIG)


def test_clip_scales_all_gradients_by_their_common_norm() -> None:
    model = _model()
    _backward(model, 0)
    grads = [p.grad.clone() for p in model.parameters()]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in grads))
    found = clip(model, norm / 4)
    assert float(found) == pytest.approx(norm, rel=1e-5)
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad / 4, rtol=1e-4, atol=1e-6)
    assert check(clip(model, 10 * norm), 3) == pytest.approx(norm / 4, rel=1e-4)
    torch.testing.assert_close(model[0].bias.grad, grads[1] / 4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_names_the_step_and_is_never_forgotten(bad: float) -> None:
    model = _model()
    optimiser = adamw(model, CONFIG)
    _backward(model, 0)
    model[2].bias.grad[1] = bad
    with pytest.raises(Diverged, match="step 12: the norm of the gradient is") as raised:
        check(clip(model, 1.0), 12)
    assert isinstance(raised.value, UserError)
    assert "\n" not in str(raised.value)
    optimiser.step()
    optimiser.zero_grad()
    _backward(model, 1)
    with pytest.raises(Diverged, match="step 13"):
        check(clip(model, 1.0), 13)
