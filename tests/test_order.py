"""The order of samples: exact epochs, exact shares, nothing that hangs on workers or history."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.errors import UserError
from training.data.keyed import held_out, permutation, philox
from training.data.order import _GOLDEN, _SLOTS, LANES, Order, lanes, share


def sizes(seed: int, units: int, most: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, most + 1, units)


def every(windows: np.ndarray) -> set[tuple[int, int]]:
    return {(unit, window) for unit, count in enumerate(windows) for window in range(count)}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 30), st.integers(1, 200), st.integers(0, 2**31),
    st.integers(0, 3),
)  # fmt: skip
def test_an_epoch_has_every_window_once(units, most, pool, seed, epoch):
    windows = sizes(seed, units, most)
    order, total = Order([windows], [1.0], seed, pool), int(windows.sum())
    draws = order.draws(range(epoch * total, (epoch + 1) * total))
    assert Counter((d.unit, d.window) for d in draws) == Counter(every(windows))
    # Pools are drawn from one after another, and hold what they say.
    pools = [draw.pool for draw in draws]
    assert pools == sorted(pools)
    counts = Counter(pools)
    for number, count in counts.items():
        held = order.units(0, number)
        assert {d.unit for d in draws if d.pool == number} == set(held)
        assert len(held) == len(set(held))
        assert count == windows[held].sum()
        assert count >= min(pool, total)
        assert count <= 2 * pool + 4 * most or len(counts) == 1


def test_epochs_and_seeds_differ_and_repeat_on_demand():
    windows = np.array([40, 60, 50])
    order = Order([windows], [1.0], 7, 64)
    first, second = ([(d.unit, d.window) for d in order.draws(range(b, b + 150))] for b in (0, 150))
    assert sorted(first) == sorted(second)
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 15
    again = Order([windows], [1.0], 7, 64).draws(range(150))
    assert [(d.unit, d.window) for d in again] == first
    other = Order([windows], [1.0], 8, 64).draws(range(150))
    assert [(d.unit, d.window) for d in other] != first


def test_windows_of_a_pool_are_well_mixed():
    order = Order([np.full(32, 64)], [1.0], 0, 2048)
    draws = order.draws(range(2048))
    same = sum(a.unit == b.unit for a, b in itertools.pairwise(draws))
    assert same < 2 * 2047 / 32  # by chance one in 32 neighbours is of the same unit
    places = np.array([d.unit * 64 + d.window for d in draws])
    assert abs(np.corrcoef(places, np.arange(2048))[0, 1]) < 0.1


def test_the_order_is_the_one_that_was_always_drawn():
    """Golden: a run that is resumed on another machine or NumPy goes on in the same order."""
    order = Order([np.array([5, 3, 4]), np.array([2, 6])], [0.75, 0.25], 42, 4)
    assert [tuple(d)[1:] for d in order.draws(range(0, 64, 5))] == GOLDEN
    assert philox(42, "x").random_raw(2).tolist() == GOLDEN_WORDS


GOLDEN = [
    (0, 0, 1, 0),
    (0, 0, 2, 1),
    (1, 0, 1, 2),
    (1, 0, 0, 1),
    (0, 1, 0, 2),
    (0, 1, 1, 1),
    (0, 1, 2, 1),
    (0, 2, 2, 3),
    (0, 2, 1, 1),
    (0, 3, 2, 3),
    (1, 1, 1, 0),
    (1, 1, 1, 5),
    (0, 3, 2, 1),
]
GOLDEN_WORDS = [13432288272745988134, 7038909563484149830]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(0, 2**31),
    st.integers(0, 3 * _SLOTS),
)  # fmt: skip
def test_sources_have_their_shares_without_drift(weights, seed, begin):
    order = Order([np.array([7])] * len(weights), weights, seed)
    drawn = Counter(d.source for d in order.draws(range(begin, begin + 1000)))
    for source, weight in enumerate(weights):
        assert abs(drawn[source] - 1000 * weight / sum(weights)) < 8 * LANES


def test_every_batch_has_each_sources_share():
    order = Order([np.array([7]), np.array([7])], [0.5, 0.5], 3)
    for step in range(100):
        of_first = sum(d.source == 0 for d in order.draws(range(step * 128, step * 128 + 128)))
        assert abs(of_first - 64) <= 2 * LANES


def test_each_source_is_drawn_from_without_a_gap():
    windows = [np.array([300, 200]), np.array([170])]
    order = Order(windows, [2.0, 1.0], 5, 128)
    seen: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    for draw in order.draws(range(1200)):
        seen[draw.source].append((draw.unit, draw.window))
    for source, each in enumerate(windows):
        total = int(each.sum())
        assert len(seen[source]) > total
        assert set(seen[source][:total]) == every(each)


def test_each_slot_of_the_mixture_comes_once():
    assert len(np.unique(np.arange(_SLOTS) * _GOLDEN % _SLOTS)) == _SLOTS


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_any_sample_can_be_asked_for_at_once(number, other):
    order = Order([np.array([50, 60]), np.array([1000])], [1, 3], 1, 64)
    order.draws([other])
    assert order.draws([number]) == Order(
        [np.array([50, 60]), np.array([1000])], [1, 3], 1, 64
    ).draws([number])


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8, 12, 16])
def test_a_worker_needs_the_units_of_its_lanes_alone(world):
    windows = [sizes(1, 80, 20), sizes(2, 50, 9)]
    order, batch = Order(windows, [0.7, 0.3], 4, 200), 48
    needed = 0
    for rank in range(world):
        mine = [d for step in range(70) for d in order.draws(share(step, batch, rank, world))]
        for source, pool in {(d.source, d.pool) for d in mine}:
            held = order.units(source, pool, lanes(rank, world))
            drawn = {d.unit for d in mine if (d.source, d.pool) == (source, pool)}
            assert drawn <= set(held)
            assert set(held) <= set(order.units(source, pool))
        needed = max(needed, len(order.units(0, 1, lanes(rank, world))))
    # Its share, and a unit cut at either end of each of its lanes.
    every = len(order.units(0, 1))
    assert needed <= every / math.gcd(world, LANES) + 2 * len(lanes(0, world))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6])
def test_workers_share_a_step(world):
    shares = [set(share(5, 12, rank, world)) for rank in range(world)]
    assert set.union(*shares) == set(range(60, 72))
    assert sum(map(len, shares)) == 12


def test_what_cannot_be_ordered_is_said_in_one_line():
    one = np.array([1])
    for weights in ([0.0], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(UserError, match="each must be above 0"):
            Order([one], weights, 0)
    with pytest.raises(UserError, match="too far apart"):
        Order([one, one], [1.0, 1e-9], 0)
    with pytest.raises(UserError, match="source 1 of the mixture has no windows"):
        Order([one, np.array([], int)], [1.0, 1.0], 0)
    with pytest.raises(UserError, match="a batch of 10 cannot be shared by 3 workers"):
        share(0, 10, 0, 3)


def test_a_sample_among_a_million_units_takes_seconds():
    windows = np.random.default_rng(0).integers(1, 100, 1_000_000)
    begin = time.perf_counter()
    order = Order([windows], [1.0], 0)
    order.draws(range(2**31, 2**31 + 256))
    assert time.perf_counter() - begin < 10


def test_permutations_and_held_out_shares():
    found = permutation(1000, "key")
    assert sorted(found) == list(range(1000))
    assert (found != permutation(1000, "other")).any()
    keys = np.arange(20_000, dtype=np.uint64)
    mask = held_out(keys, 0.05)
    assert 900 < mask.sum() < 1100
    assert (held_out(keys[5000:6000], 0.05) == mask[5000:6000]).all()
    assert not held_out(keys, 0.0).any()
    for count in range(2, 30):
        assert 0 < held_out(keys[:count], 0.01).sum() < count
        assert 0 < held_out(keys[:count], 0.99).sum() < count
    for key in range(100):
        assert not held_out(keys[key : key + 1], 0.9).any()
