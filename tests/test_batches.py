"""What a batch holds: windows fitted to the model, and what chance adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as distributions

from ego_ops.errors import UserError
from tests.loading import MODEL, Robot, mixer, norm_stats, ordered, shards, take
from training import tokeniser
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.norm import NormStats, unnormalise


def test_a_batch_holds_the_windows_fitted_to_the_model(tmp_path):
    sources = [shards(tmp_path, steps=5), Robot()]
    made, order = mixer(sources), ordered(sources)
    (batch,) = take(Loader(sources, order, made, batch=40), 1)
    seen = batch.observation
    assert made.cameras == ("base_0_rgb", "left_wrist_0_rgb")
    assert seen.images.shape == (40, 2, 224, 224, 3)
    assert seen.images.dtype == torch.uint8
    assert seen.padded
    stats = [norm_stats(source) for source in sources]
    for row, draw in enumerate(order.draws(range(40))):
        window = sources[draw.source].load(draw.unit).window(draw.window)
        kind, size = ("mean_std", 9) if draw.source == 0 else ("quantile", 3)
        assert seen.image_mask[row].tolist() == [True, draw.source == 1]
        text = tokeniser.load("bytes").encode(window.instruction)[:24]
        assert seen.tokens[row][seen.token_mask[row]].tolist() == text
        assert (seen.tokens[row, len(text) :] == 0).all()
        state = unnormalise(seen.state[row, : len(window.state)], stats[draw.source].state, kind)
        np.testing.assert_allclose(state, window.state, atol=1e-5)
        actions = unnormalise(batch.actions[row, :, :size], stats[draw.source].actions, kind)
        np.testing.assert_allclose(actions, window.actions, atol=1e-4)
        assert (seen.state[row, len(window.state) :] == 0).all()
        assert (batch.actions[row, :, size:] == 0).all()
        mask = window.valid[:, None] & (np.arange(32) < size)
        assert (batch.action_mask[row].numpy() == mask).all()
        if draw.source == 1:
            base, wrist = seen.images[row].numpy()
            assert (wrist == 100 + draw.window).all()
            assert (base[56:168] == 10 + draw.window).all()
            assert (base[:56] == 0).all()
            assert (base[168:] == 0).all()
        else:
            assert (seen.images[row, 1] == 0).all()


def test_text_is_as_long_as_the_longest_and_its_masks_say_so(tmp_path):
    source = Robot()
    (batch,) = take(Loader([source], ordered([source]), mixer([source]), batch=4), 1)
    assert batch.observation.tokens.shape == (4, 8)  # "go" and two more, rounded up
    assert batch.observation.token_mask.sum(1).tolist() == [4] * 4
    narrated = shards(tmp_path, steps=4)
    (batch,) = take(Loader([narrated], ordered([narrated]), mixer([narrated]), batch=4), 1)
    assert batch.observation.tokens.shape == (4, 24)
    assert batch.observation.images.shape[1] == 1


def test_masks_without_a_gap_are_said_to_be_so():
    source, short = Robot(), replace(MODEL, text_tokens=3)
    words = tokeniser.load("bytes")
    full = Mixer([source], [norm_stats(source)], ["mean_std"], words, short, 0, False)
    (batch,) = take(Loader([source], ordered([source]), full, batch=4), 1)
    assert not batch.observation.padded


def test_chance_is_as_it_should_be_and_hangs_on_the_seed():
    source, order = Robot(), ordered([Robot()])
    batches = take(Loader([source], order, mixer([source]), batch=50), 60)
    times = torch.cat([batch.time for batch in batches]).double().numpy()
    assert times.min() >= 0.001
    assert times.max() <= 1.0
    wanted = distributions.beta(1.5, 1, loc=0.001, scale=0.999)
    assert distributions.kstest(times, wanted.cdf).pvalue > 0.01
    noise = torch.cat([batch.noise for batch in batches]).double().numpy()
    assert distributions.kstest(noise[::7].reshape(-1), "norm").pvalue > 0.01
    flat = noise.reshape(len(noise), -1)
    assert abs(np.corrcoef(flat[:-1].reshape(-1), flat[1:].reshape(-1))[0, 1]) < 0.01
    (other,) = take(Loader([source], order, mixer([source], seed=4), batch=50), 1)
    assert not torch.equal(other.time, batches[0].time)
    assert not torch.equal(other.noise, batches[0].noise)


def test_each_epoch_changes_a_window_anew():
    source = Robot()
    (one, two) = take(Loader([source], ordered([source]), mixer([source], True), batch=10), 2)
    for state in torch.unique(one.observation.state[:, 0]):
        a, b = (
            each.observation.images[each.observation.state[:, 0] == state] for each in (one, two)
        )
        assert not torch.equal(a, b)


def test_what_cannot_be_mixed_is_said_before_anything_is_read():
    source = Robot()
    with pytest.raises(UserError, match="a batch of 10 cannot be shared by 4 workers"):
        Loader([source], ordered([source]), mixer([source]), batch=10, world=4)
    stats = norm_stats(source)
    wrong = NormStats(stats.actions, stats.actions)
    with pytest.raises(UserError, match=r"source robot: its state has 4 numbers, .* are for 3"):
        Mixer([source], [wrong], ["mean_std"], tokeniser.load("bytes"), MODEL, 0, False)
    narrow = replace(MODEL, action_size=3)
    with pytest.raises(UserError, match=r"source robot: 4 numbers .* more than the 3"):
        Mixer([source], [stats], ["mean_std"], tokeniser.load("bytes"), narrow, 0, False)
    few = replace(MODEL, vocabulary=200)
    with pytest.raises(UserError, match="--tokeniser: has 259 tokens, the model 200"):
        Mixer([source], [stats], ["mean_std"], tokeniser.load("bytes"), few, 0, False)
