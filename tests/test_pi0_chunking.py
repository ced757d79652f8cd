"""Chunks that go on from others: against the paper's algorithm in matrices, and exact processes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ego_ops.errors import UserError
from tests import pi0_models
from training import tokeniser
from training.batch import Observation
from training.data.norm import NormStats, Statistics
from training.pi0.chunking import STRENGTH, led, overlap_weights, sample_with_prefix
from training.pi0.config import GemmaSize
from training.pi0.model import Pi0
from training.policy import Policy, Sight

HORIZON = 16
STEPS, ROWS = 500, 32


class Process:
    """Chunks (HORIZON, 1) of a Gaussian process that forgets: what comes after an action depends on
    that action only. Its velocity field is known."""

    def __init__(self) -> None:
        at = torch.arange(HORIZON, dtype=torch.float64)
        self.mean = torch.sin(at / 3)
        self.covariance = torch.exp(-(at[:, None] - at).abs() / 6)

    def end(self, time: float) -> tuple[Tensor, Tensor]:
        """M and c: the data that noisy actions x most likely come from is M x + c."""
        rest = 1 - time
        noisy = rest**2 * self.covariance + time**2 * torch.eye(HORIZON, dtype=torch.float64)
        matrix = rest * torch.linalg.solve(noisy, self.covariance).T
        return matrix, self.mean - rest * matrix @ self.mean

    def velocity(self, noisy: Tensor, time: Tensor) -> Tensor:
        matrix, constant = self.end(float(time[0]))
        return (noisy - (matrix @ noisy + constant[:, None])) / time[:, None, None]

    def drawn(self, count: int) -> Tensor:
        """(count, HORIZON, 1)."""
        root = torch.linalg.cholesky(self.covariance)
        return (self.mean[:, None] + root @ normal(count)).to(torch.float64)


def normal(count: int) -> Tensor:
    return torch.randn(count, HORIZON, 1, dtype=torch.float64)


def papers(process: Process, noise: np.ndarray, prefix: np.ndarray, weights: np.ndarray,
           steps: int, most: float) -> np.ndarray:  # fmt: skip
    """The paper's algorithm 1 (its time goes from 0, noise, to 1), in matrices, for (HORIZON,)."""
    action = noise.copy()
    for step in range(steps):
        tau = step / steps
        matrix, constant = (each.numpy() for each in process.end(1 - tau))
        end = matrix @ action + constant
        field = (end - action) / (1 - tau)
        spread = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        guidance = min(most, (1 - tau) / (tau * spread)) if tau else most
        pull = ((prefix - end) * weights) @ matrix
        action = action + (field + guidance * pull) / steps
    return action


def test_weights_are_the_papers():
    """Its equation 5: d actions done, s new ones at the end of H."""
    horizon, delay, new = 50, 8, 25
    found = overlap_weights(horizon, delay, horizon - new)
    for at, weight in enumerate(found.tolist()):
        c = (horizon - new - at) / (horizon - new - delay + 1)
        between = c * (math.e**c - 1) / (math.e - 1)
        truth = 1 if at < delay else 0 if at >= horizon - new else between
        assert weight == pytest.approx(truth, abs=1e-6)
    assert (found.diff() <= 0).all()
    assert overlap_weights(6, 0, 0).tolist() == [0] * 6
    assert overlap_weights(6, 4, 4).tolist() == [1] * 4 + [0] * 2
    assert overlap_weights(3, 2, 9).tolist() == overlap_weights(9, 2, 9)[:3].tolist()
    assert overlap_weights(3, 9, 9).tolist() == [1] * 3


@pytest.mark.parametrize(("steps", "most"), [(10, 5.0), (5, 1.0), (40, 50.0)])
def test_it_is_the_papers_algorithm(steps, most):
    torch.manual_seed(1)
    process = Process()
    noise, prefix = normal(3), process.drawn(3)
    weights = torch.rand(3, HORIZON, 1, dtype=torch.float64)
    found = led(process.velocity, noise, prefix, weights, steps, most)
    for row in range(3):
        truth = papers(
            process, noise[row, :, 0].numpy(), prefix[row, :, 0].numpy(),
            weights[row, :, 0].numpy(), steps, most,
        )  # fmt: skip
        assert found[row, :, 0].numpy() == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("delay", [2, 6])
def test_chunks_go_on_as_the_process_would(delay):
    torch.manual_seed(2)
    process = Process()
    old, noise = process.drawn(2000), normal(2000)
    weights = overlap_weights(HORIZON, delay, delay).expand(2000, -1)[..., None].double()
    found = led(process.velocity, noise, old, weights)
    apart = led(process.velocity, noise, old, 0 * weights)
    done = (found - old)[:, :delay]
    assert done.square().mean().sqrt() < 0.15  # of a spread of 1
    assert (apart - old)[:, :delay].square().mean().sqrt() > 1.2
    # From the last action done to the first new one it goes as far as the process goes in a step.
    drift = process.mean[delay] - process.mean[delay - 1]
    truth = (2 * (1 - math.exp(-1 / 6)) + drift**2) ** 0.5
    border = (found[:, delay] - old[:, delay - 1]).square().mean().sqrt()
    assert border == pytest.approx(float(truth), rel=0.15)
    assert (apart[:, delay] - old[:, delay - 1]).square().mean().sqrt() > 2 * truth
    # What is far ahead is as free as ever.
    assert found[:, -1].std() == pytest.approx(1, abs=0.15)


def test_without_a_prefix_it_is_the_ordinary_sample():
    model, seen = pi0_models.minute(), pi0_models.observation()
    shape = (3, pi0_models.MINUTE.horizon, pi0_models.MINUTE.action_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    plain = model.sample(seen, noise, 7)
    nothing = torch.zeros(shape)
    found = sample_with_prefix(model, seen, torch.full(shape, 5.0), nothing, noise, 7)
    assert torch.equal(found, plain)
    assert not found.requires_grad
    # Nor does it matter to one sample that another has one.
    weights = nothing.clone()
    weights[1, :2] = 1
    mixed = sample_with_prefix(model, seen, torch.full(shape, 5.0), weights, noise, 7)
    assert torch.equal(mixed[0], plain[0])
    assert torch.equal(mixed[2], plain[2])
    assert (mixed[1] - plain[1]).abs().max() > 0.1
    with torch.inference_mode():
        again = sample_with_prefix(model, seen, torch.full(shape, 5.0), weights, noise, 7)
    assert torch.equal(again, mixed)


@cache
def waves() -> tuple[Pi0, Observation, Tensor]:
    """A π0 that has learnt waves of any phase, what it sees (which does not tell the phase), and
    as many waves."""
    model = pi0_models.minute(
        horizon=12, action_size=2, depth=2, expert=GemmaSize(width=32, mlp=64)
    )
    one = pi0_models.observation((8,), cameras=1, padded=False)
    seen = Observation(
        one.images.expand(ROWS, -1, -1, -1, -1), one.image_mask.expand(ROWS, -1),
        one.tokens.expand(ROWS, -1), one.token_mask.expand(ROWS, -1), torch.zeros(ROWS, 2), False,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(4)

    def drawn() -> Tensor:
        phase = 2 * math.pi * torch.rand(ROWS, 1, generator=draw) + 0.5 * torch.arange(12)
        return torch.stack([phase.sin(), phase.cos()], dim=-1)

    with torch.no_grad():
        known = model._see(seen)  # once: what is learnt is the field
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, 8e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        actions, time = drawn(), torch.rand(ROWS, generator=draw)
        noise = torch.randn(actions.shape, generator=draw)
        noisy = torch.lerp(actions, noise, time[:, None, None])
        optimiser.zero_grad()
        error = model._denoise(known, noisy, time) - (noise - actions)
        error.square().mean().backward()
        optimiser.step()
        rate.step()
    return model, seen, drawn()


def rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def test_a_pi0_goes_on_with_the_wave_that_is_being_done():
    model, seen, old = waves()
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(5))
    delay, overlap = 4, 9
    weights = overlap_weights(12, delay, overlap)[None, :, None].expand(old.shape)
    found = sample_with_prefix(model, seen, old, weights, noise)
    apart = model.sample(seen, noise)  # waves of another phase
    assert rms((apart - old)[:, :delay]) > 0.8
    assert rms((found - old)[:, :delay]) < 0.25
    # Also where nothing leads it any more: the wave is the same.
    assert rms((apart - old)[:, overlap:]) > 0.8
    assert rms((found - old)[:, overlap:]) < 0.35
    step = rms(old[:, delay] - old[:, delay - 1])
    assert rms(found[:, delay] - old[:, delay - 1]) < 1.25 * step
    assert rms(apart[:, delay] - old[:, delay - 1]) > 2 * step


def policy() -> Policy:
    """One that acts with 3 numbers, of which the last never varied."""
    spread = np.array([2.0, 0.1, 0.0])
    actions = Statistics(np.array([1.0, -1, 7]), spread, -spread, spread)
    state = Statistics(*np.array([[0.0, 0], [1, 1], [-1, -1], [1, 1]]))
    about = {"normalise": "mean_std", "state_size": 2, "action_size": 3}
    config = {"cameras": ["base_0_rgb"], "sources": {"arm": about}, "trained": {}}
    return Policy(
        pi0_models.minute(), tokeniser.load("bytes"), config, "arm", NormStats(state, actions)
    )


IMAGES = {"base_0_rgb": np.full((28, 28, 3), 90, np.uint8)}
OLD = np.array([[3.0, -1.2, 7], [1, -1, 7], [-1, -0.9, 7]])


def test_a_policys_prefix_is_in_its_own_units():
    acting = policy()
    noise = np.random.default_rng(6).standard_normal((2, 5, 10)).astype(np.float32)
    plain = Sight(IMAGES, "go on", np.zeros(2))
    led_on = plain._replace(prefix=OLD, delay=2)
    found = acting.act_many([plain, led_on], noise)
    assert found[:1].tobytes() == acting.act_many([plain, plain], noise)[:1].tobytes()
    # (OLD - mean) / std, by hand; what never varied, and what is not there, is not led.
    last, weights = torch.zeros(2, 5, 10), torch.zeros(2, 5, 10)
    last[1, :3, :2] = torch.tensor([[1.0, -2.0], [0, 0], [-1, 1]])
    weights[1, :, :3] = overlap_weights(5, 2, 3)[:, None]
    seen = acting.observation([plain, plain])
    truth = sample_with_prefix(acting.model, seen, last, weights, torch.from_numpy(noise))
    expected = truth[:, :, :3].numpy() * [2, 0.1, 0] + [1, -1, 7]
    assert found == pytest.approx(expected, abs=1e-4)
    apart = acting.act_many([plain, plain], noise)
    error = np.abs(found[1, :2] - OLD[:2])[:, :2] / [2, 0.1]
    assert error.mean() < 0.5 * (np.abs(apart[1, :2] - OLD[:2])[:, :2] / [2, 0.1]).mean()


def test_no_prefix_is_none_and_a_long_one_is_cut():
    acting = policy()
    noise = np.random.default_rng(7).standard_normal((1, 5, 10)).astype(np.float32)
    plain = Sight(IMAGES, "go on", np.zeros(2))
    ordinary = acting.act_many([plain], noise).tobytes()
    assert acting.prefixes([plain]) is None
    assert acting.act_many([plain._replace(prefix=np.zeros((0, 3)))], noise).tobytes() == ordinary
    long = np.concatenate([OLD, OLD, OLD])
    found = acting.prefixes([plain._replace(prefix=long, delay=7)])
    assert found is not None
    prefixes, weights = found
    assert weights[0, :, :3].tolist() == [[1.0] * 3] * 5
    assert prefixes[0, 3:, :2].tolist() == prefixes[0, :2, :2].tolist()
    assert (STRENGTH, weights[0, :, 3:].any()) == (5.0, False)


@pytest.mark.parametrize(
    ("prefix", "delay", "words"),
    [
        (OLD[:, :2], 0, r"a prefix is \(P, 3\) finite numbers.* this is \(3, 2\)"),
        (OLD[0], 0, r"this is \(3,\)"),
        (OLD * np.nan, 0, "finite numbers"),
        (OLD.astype(str), 0, "finite numbers"),
        (OLD, 4, "delay 4: must be from 0 to the prefix's 3 actions"),
        (OLD, -1, "delay -1: must be from 0"),
    ],
)
def test_a_prefix_that_is_none_is_told(prefix, delay, words):
    sight = Sight(IMAGES, "go on", np.zeros(2), prefix, delay)
    with pytest.raises(UserError, match=words) as caught:
        policy().act_many([sight])
    assert "\n" not in str(caught.value)
