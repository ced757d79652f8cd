"""Batches: what they hold, whoever makes them; and the loader's threads, errors and memory."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from scipy import stats as distributions

from ego_ops.errors import UserError
from tests import shard_files
from training.batch import Batch
from training.config import SourceConfig
from training.loader import Loader
from training.mixture import Mixer
from training.moments import Histogram, Moments
from training.norm import NormStats, Statistics, unnormalise
from training.order import Order
from training.pi0.config import SIZES
from training.sample import Source, Unit, Window
from training.shard_source import ShardSource

MODEL = replace(SIZES["tiny"], horizon=6, text_tokens=24, vocabulary=300)


class Letters:
    """A token a letter, between a first and a last one."""

    size = 258

    def encode(self, text: str) -> list[int]:
        return [256, *text.encode(), 257]


class Robot:
    """A source of one unit with a base and a wrist camera and 4 numbers: what lies behind the
    mixture is known number by number."""

    name, digest = "robot", "0"
    state_size, action_size = 4, 3
    cameras = ("base_0_rgb", "left_wrist_0_rgb")

    def windows(self) -> np.ndarray:
        return np.array([10])

    def load(self, unit: int, pictures: bool = True) -> Unit:
        return self  # type: ignore[return-value]

    def window(self, number: int) -> Window:
        images = {
            "left_wrist_0_rgb": np.full((224, 224, 3), 100 + number, np.uint8),
            "base_0_rgb": np.full((112, 224, 3), 10 + number, np.uint8),
        }
        actions = np.arange(18, dtype=np.float32).reshape(6, 3) + number
        valid = np.arange(6) < 4
        return Window(images, "go", np.full(4, number, np.float32), actions, valid)

    def states(self) -> np.ndarray:
        return np.stack([self.window(n).state for n in range(10)])

    def steps(self) -> np.ndarray:
        return np.stack([self.window(n).actions[0] for n in range(10)])


def measured(values: np.ndarray) -> Statistics:
    return Histogram.of(values, Moments.of(values)).statistics()


def norm_stats(source: Source) -> NormStats:
    units = [source.load(number, pictures=False) for number in range(len(source.windows()))]
    return NormStats(
        measured(np.concatenate([unit.states() for unit in units])),
        measured(np.concatenate([unit.steps() for unit in units])),
    )


def mixer(sources: Sequence[Source], augmented: bool = False, seed: int = 3) -> Mixer:
    kinds = ["mean_std", "quantile"][: len(sources)]
    stats = [norm_stats(source) for source in sources]
    return Mixer(sources, stats, kinds, Letters(), MODEL, seed, augmented)


def shards(folder: Path, **sizes: int) -> ShardSource:
    shard_files.simple(str(folder), **sizes)
    return ShardSource(SourceConfig(str(folder)), MODEL.horizon)


def ordered(sources: Sequence[Source], pool: int = 32, seed: int = 3) -> Order:
    return Order([source.windows() for source in sources], [1.0] * len(sources), seed, pool)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    both = {**vars(batch), **vars(batch.observation)}
    return {name: value for name, value in both.items() if isinstance(value, torch.Tensor)}


def take(loader: Loader, count: int) -> list[Batch]:
    with loader:
        return [next(loader) for _ in range(count)]


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
        text = [256, *window.instruction.encode(), 257][:24]
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
    class Full(Letters):
        def encode(self, text: str) -> list[int]:
            return list(range(8))

    source = Robot()
    full = Mixer([source], [norm_stats(source)], ["mean_std"], Full(), MODEL, 0, False)
    (batch,) = take(Loader([source], ordered([source]), full, batch=4), 1)
    assert not batch.observation.padded


@pytest.mark.parametrize(
    ("world", "threads", "begin"), [(1, 4, 0), (2, 1, 0), (4, 2, 5), (8, 1, 3)]
)
def test_batches_are_the_same_for_any_number_of_workers_and_after_a_resume(
    tmp_path, world, threads, begin
):
    sources = [shards(tmp_path, steps=7, side=224), Robot()]
    order, made = ordered(sources), mixer(sources, augmented=True)
    whole = take(Loader(sources, order, made, batch=8, threads=2), 9)[begin:]
    for rank in range(world):
        fresh = mixer(sources, augmented=True)
        part = Loader(
            sources, ordered(sources), fresh, batch=8, rank=rank, world=world, begin=begin,
            threads=threads,
        )  # fmt: skip
        for mine, every in zip(take(part, len(whole)), whole, strict=True):
            wanted = tensors(every)
            for name, value in tensors(mine).items():
                other = wanted[name][rank::world]
                if name in ("tokens", "token_mask"):  # as long as the longest of their own
                    other = other[:, : value.shape[1]]
                assert torch.equal(value, other), name


def test_an_epoch_trains_on_every_window_once_also_over_a_resume(tmp_path):
    source = shards(tmp_path, parts=4, clips=3, steps=6)
    total = int(source.windows().sum())
    batch = 5
    steps = total // batch
    first = take(Loader([source], ordered([source]), mixer([source]), batch=batch), steps // 2)
    rest = take(
        Loader([source], ordered([source]), mixer([source]), batch=batch, begin=steps // 2),
        steps - steps // 2,
    )
    states = torch.cat([each.observation.state for each in first + rest])
    assert len(torch.unique(states, dim=0)) == len(states) == steps * batch


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


class Broken(Robot):
    """Its unit cannot be read, or one of its windows cannot be decoded."""

    def __init__(self, at: str):
        self.at = at

    def load(self, unit: int, pictures: bool = True) -> Unit:
        if self.at == "load":
            raise UserError("the part is damaged")
        return super().load(unit)

    def window(self, number: int) -> Window:
        if self.at == "window" and number == 7:
            raise UserError("the frame is damaged")
        return super().window(number)


@pytest.mark.parametrize(("at", "message"), [("load", "the part"), ("window", "the frame")])
def test_an_error_in_the_background_comes_out_as_itself(at, message):
    source, before = Broken(at), threading.active_count()
    with Loader([source], ordered([source]), mixer([Robot()]), batch=2) as loader:
        with pytest.raises(UserError, match=f"{message} is damaged"):
            list(itertools.islice(loader, 6))
        with pytest.raises(StopIteration):
            next(loader)
    assert threading.active_count() == before


class Slow(Robot):
    def load(self, unit: int, pictures: bool = True) -> Unit:
        time.sleep(0.3)
        return super().load(unit)


def test_closing_at_any_moment_ends_the_threads():
    before = threading.active_count()
    for source, wait in ((Slow(), 0.0), (Slow(), 0.1), (Robot(), 0.0), (Robot(), 0.3)):
        loader = Loader([source], ordered([source]), mixer([Robot()]), batch=2)
        time.sleep(wait)
        begin = time.monotonic()
        loader.close()
        loader.close()
        assert time.monotonic() - begin < 2
        assert threading.active_count() == before


def test_what_cannot_be_mixed_is_said_before_anything_is_read():
    source = Robot()
    with pytest.raises(UserError, match="a batch of 10 cannot be shared by 4 workers"):
        Loader([source], ordered([source]), mixer([source]), batch=10, world=4)
    stats = norm_stats(source)
    wrong = NormStats(stats.actions, stats.actions)
    with pytest.raises(UserError, match=r"source robot: its state has 4 numbers, .* are for 3"):
        Mixer([source], [wrong], ["mean_std"], Letters(), MODEL, 0, False)
    narrow = replace(MODEL, action_size=3)
    with pytest.raises(UserError, match=r"source robot: 4 numbers .* more than the 3"):
        Mixer([source], [stats], ["mean_std"], Letters(), narrow, 0, False)
    few = replace(MODEL, vocabulary=200)
    with pytest.raises(UserError, match="--tokeniser: has 258 tokens, the model 200"):
        Mixer([source], [stats], ["mean_std"], Letters(), few, 0, False)


class Counted:
    """A source of many units, each of some weight in memory, that counts how many live."""

    name, digest = "counted", "0"
    state_size = action_size = 3
    cameras = ("base_0_rgb",)

    def __init__(self, units: int):
        self._units = units
        self.alive: weakref.WeakSet[Unit] = weakref.WeakSet()
        self.most = 0
        self.loads = 0

    def windows(self) -> np.ndarray:
        return np.full(self._units, 8)

    def load(self, unit: int, pictures: bool = True) -> Unit:
        made = Weighty()
        self.alive.add(made)
        self.loads += 1
        self.most = max(self.most, len(self.alive))
        return made


class Weighty(Robot):
    """A unit of half a megabyte."""

    def __init__(self) -> None:
        self.weight = np.ones(500_000, np.uint8)

    def window(self, number: int) -> Window:
        black = np.zeros((224, 224, 3), np.uint8)
        flat = np.zeros((6, 3), np.float32)
        return Window({"base_0_rgb": black}, "go", flat[0], flat, np.ones(6, bool))


def test_memory_is_bounded_by_two_pools_however_long_an_epoch_is():
    grown = []
    unit = Statistics(np.zeros(3), np.ones(3), -np.ones(3), np.ones(3))
    for units in (300, 20_000):
        source = Counted(units)
        made = Mixer([source], [NormStats(unit, unit)], ["mean_std"], Letters(), MODEL, 0, False)
        order = Order([source.windows()], [1.0], 0, pool=64)
        gc.collect()
        before = psutil.Process().memory_info().rss
        with Loader([source], order, made, batch=32) as loader:
            for _ in range(60):
                next(loader)
            grown.append(psutil.Process().memory_info().rss - before)
        # 64 windows are 8 units; a pool is at most two larger; and one may be on its way out.
        assert source.most <= 3 * 10
        assert source.loads <= 60 * 32 / 8 + 40
    assert grown[1] < grown[0] + 40e6


def test_units_of_a_small_source_are_read_once():
    source = Counted(3)
    unit = Statistics(np.zeros(3), np.ones(3), -np.ones(3), np.ones(3))
    made = Mixer([source], [NormStats(unit, unit)], ["mean_std"], Letters(), MODEL, 0, False)
    take(Loader([source], Order([source.windows()], [1.0], 0), made, batch=8), 30)
    assert source.loads == 3
