"""The moving mean of the weights, against its recursion in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ego_ops.errors import UserError
from training.ema import Ema


def _model() -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    return model


def _move(model: nn.Module, draw: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=draw)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_it_is_the_recursion(decay: float) -> None:
    model, draw = _model(), torch.Generator().manual_seed(0)
    ema = Ema(model, decay)
    expected = {n: p.detach().double().numpy().copy() for n, p in model.named_parameters()}
    for _ in range(50):
        _move(model, draw)
        ema.update()
        for name, parameter in model.named_parameters():
            weights = parameter.detach().double().numpy()
            expected[name] = decay * expected[name] + (1 - decay) * weights
    assert set(ema.state_dict()) == {"0.weight", "0.bias", "1.weight"}  # one is not trained
    for name, mean in ema.state_dict().items():
        assert mean.dtype == torch.float32
        np.testing.assert_allclose(mean.numpy(), expected[name], rtol=1e-5, atol=1e-5)


def test_swapped_shows_the_means_and_gives_the_weights_back_to_the_bit() -> None:
    model, draw = _model(), torch.Generator().manual_seed(1)
    ema = Ema(model, 0.5)
    _move(model, draw)
    ema.update()
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    means = {n: m.clone() for n, m in ema.state_dict().items()}

    def validate() -> None:
        with ema.swapped():
            for name, parameter in model.named_parameters():
                assert torch.equal(parameter, means.get(name, weights[name]))
            raise KeyError("a validation that fails")

    with pytest.raises(KeyError):
        validate()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
    for name, mean in ema.state_dict().items():
        assert torch.equal(mean, means[name])
        assert not torch.equal(mean, weights[name])


def test_state_goes_from_one_to_another() -> None:
    model, draw = _model(), torch.Generator().manual_seed(2)
    ema = Ema(model, 0.9)
    _move(model, draw)
    ema.update()
    saved = {n: m.clone() for n, m in ema.state_dict().items()}
    other = Ema(_model(), 0.9)
    other.load_state_dict(saved)
    for name, mean in other.state_dict().items():
        assert torch.equal(mean, saved[name])
        assert mean is not saved[name]


def test_another_models_state_is_refused_by_name() -> None:
    ema = Ema(_model(), 0.9)
    state = ema.state_dict()
    state["2.weight"] = state.pop("1.weight")
    with pytest.raises(UserError, match=r"1 missing \['1.weight'\], 1 left over \['2.weight'\]"):
        ema.load_state_dict(state)
