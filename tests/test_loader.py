"""The loader: the same batches whoever makes them; its threads, errors and memory."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref

import numpy as np
import psutil
import pytest
import torch

from ego_ops.errors import UserError
from tests.loading import MODEL, Robot, mixer, ordered, shards, take, tensors
from training import tokeniser
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.norm import NormStats, Statistics
from training.data.order import Order
from training.data.sample import Unit, Window


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
        made = Mixer(
            [source],
            [NormStats(unit, unit)],
            ["mean_std"],
            tokeniser.load("bytes"),
            MODEL,
            0,
            False,
        )
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
    made = Mixer(
        [source], [NormStats(unit, unit)], ["mean_std"], tokeniser.load("bytes"), MODEL, 0, False
    )
    take(Loader([source], Order([source.windows()], [1.0], 0), made, batch=8), 30)
    assert source.loads == 3
