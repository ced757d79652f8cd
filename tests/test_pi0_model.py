"""π0: what its tokens may see, and that what is saved in computing changes no number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.pi0_models import MINUTE, batch, minute, observation
from training.batch import Batch
from training.pi0.config import SIZES
from training.pi0.inference import cast
from training.pi0.model import Pi0, _time_embedding


def _velocity(model: Pi0, given: Batch) -> torch.Tensor:
    """What the model predicts, from the root of its squared errors against two targets."""
    target = given.noise - given.actions
    seen = model._see(given.observation)
    noisy = given.time[:, None, None] * given.noise + (1 - given.time[:, None, None]) * (
        given.actions
    )
    velocity = model._denoise(seen, noisy, given.time)
    torch.testing.assert_close((target - velocity).square(), model(given), atol=1e-5, rtol=1e-4)
    return velocity


def test_computing_the_prefix_once_gives_the_velocity_of_the_whole() -> None:
    with torch.no_grad():
        _velocity(minute(), batch(observation()))


def test_sampling_is_eulers_method_from_noise_to_data() -> None:
    model, given = minute(), batch(observation())
    x, steps = given.noise, 4
    with torch.no_grad():
        for step in range(steps):
            time = torch.full((3,), 1 - step / steps)
            # With actions = noise = x, the noisy actions are x at any time and the target is 0.
            errors = model(replace(given, actions=x, noise=x, time=time))
            velocity = model._denoise(model._see(given.observation), x, time)
            torch.testing.assert_close(velocity.square(), errors, atol=1e-5, rtol=1e-4)
            x = x - velocity / steps
    sampled = model.sample(given.observation, given.noise, steps)
    torch.testing.assert_close(sampled, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", [1, 4])
def test_padding_of_the_text_changes_nothing(padding: int) -> None:
    model, given = minute(), batch(observation((6, 6, 6), padded=False))
    seen = given.observation
    more = replace(
        seen,
        tokens=torch.cat([seen.tokens, torch.full((3, padding), 7)], 1),
        token_mask=torch.cat([seen.token_mask, torch.zeros(3, padding, dtype=torch.bool)], 1),
        padded=True,
    )
    padded = replace(given, observation=more)
    torch.testing.assert_close(model(given), model(padded), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        model.sample(seen, given.noise), model.sample(more, given.noise), atol=1e-5, rtol=1e-4
    )


def test_an_absent_camera_is_as_if_it_were_not_there() -> None:
    model, two = minute(), observation(cameras=2)
    mask = two.image_mask.clone()
    mask[:, 1] = False
    one = replace(two, images=two.images[:, :1], image_mask=two.image_mask[:, :1])
    absent = replace(two, image_mask=mask)
    torch.testing.assert_close(model(batch(one)), model(batch(absent)), atol=1e-5, rtol=1e-4)


def test_a_sample_does_not_depend_on_the_others_of_its_batch() -> None:
    model, given = minute(), batch(observation())
    alone = Batch(
        observation=replace(
            given.observation,
            **{
                name: getattr(given.observation, name)[1:2]
                for name in ("images", "image_mask", "tokens", "token_mask", "state")
            },
        ),
        **{name: getattr(given, name)[1:2] for name in ("actions", "action_mask", "noise", "time")},
    )
    torch.testing.assert_close(model(given)[1:2], model(alone), atol=1e-5, rtol=1e-4)


def test_what_depends_on_what() -> None:
    """Actions see pictures, text, state and each other; nothing else sees the actions."""
    model, given = minute(), batch(observation())
    noise = given.noise.clone().requires_grad_()
    state = given.observation.state.clone().requires_grad_()
    cached = model._see(replace(given.observation, state=state))
    velocity = model._denoise(cached, noise, given.time)
    to_noise, to_state = torch.autograd.grad(
        velocity[0, 0].sum(), [noise, state], retain_graph=True
    )
    assert (to_noise[0].abs().sum(-1) > 0).all()  # the first action sees the last one too
    assert to_noise[1:].abs().sum() == 0
    assert to_state[0].abs().sum() > 0
    keys = cached.caches[-1].k
    assert not torch.autograd.grad(keys[:, :, :-1].sum(), state, retain_graph=True)[0].any()
    assert torch.autograd.grad(keys[:, :, -1].sum(), state)[0].any()


def test_every_parameter_that_is_trained_has_a_gradient_and_no_other() -> None:
    model = minute()
    model(batch(observation())).mean().backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {name for name, p in model.named_parameters() if not p.requires_grad}
    last = f"blocks.{MINUTE.depth - 1}.language."
    assert idle == {
        *(f"{last}{name}.weight" for name in ("out", "norm_mlp", "gate_up", "down")),
        "language_norm.weight",
    }


def test_time_embedding_runs_from_the_shortest_period_to_the_longest() -> None:
    time = torch.tensor([0.0, 0.3, 1.0])
    found = _time_embedding(time, 8)
    periods = torch.tensor([4e-3 * 1000 ** (i / 3) for i in range(4)], dtype=torch.float64)
    angle = 2 * torch.pi * time.double()[:, None] / periods
    torch.testing.assert_close(found, torch.cat([angle.sin(), angle.cos()], 1).float())


def test_the_full_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Pi0(SIZES["pi0"])
    assert sum(p.numel() for p in model.parameters()) == 3_238_048_528


def test_half_precision_keeps_norms_and_heads_and_comes_close() -> None:
    seen, model = observation(), minute()
    noise = batch(seen).noise
    exact = model.sample(seen, noise)
    half = cast(minute())
    kept = {p.dtype for n, p in half.named_parameters() if "proj" in n and "projector" not in n}
    assert kept == {torch.float32}
    assert half.blocks[0].expert.norm_mlp.weight.dtype == torch.float32
    assert half.blocks[0].expert.down.weight.dtype == torch.bfloat16
    found = half.sample(seen, noise)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.1 * exact.abs().max()
