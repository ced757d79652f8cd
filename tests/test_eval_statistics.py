"""Statistics of episodes against scipy, published examples and counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial

from sim_eval import statistics
from sim_eval.statistics import Pairs

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
pairs = st.builds(Pairs, *[st.integers(0, 400)] * 4)
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(counts, levels)
def test_wilson_is_scipys(count, level):
    solved, episodes = count
    truth = binomtest(solved, episodes).proportion_ci(level, method="wilson")
    found = statistics.wilson(solved, episodes, level)
    assert found == pytest.approx((solved / episodes, truth.low, truth.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    mirrored = statistics.wilson(episodes - solved, episodes, level)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(found[1:], abs=1e-12)


def test_wilson_covers_what_it_says():
    """Chance that the interval holds the true rate, exactly, over the rates there are."""
    found = np.array([statistics.wilson(k, 50)[1:] for k in range(51)])
    rates = np.linspace(0.01, 0.99, 99)
    inside = (found[:, :1] <= rates) & (rates <= found[:, 1:])
    coverage = (binom.pmf(np.arange(51)[:, None], 50, rates) * inside).sum(axis=0)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert coverage.min() > 0.88


def test_no_episodes_say_nothing():
    found = statistics.wilson(0, 0)
    assert math.isnan(found.value)
    assert found[1:] == (0, 1)
    assert math.isnan(statistics.difference(Pairs(0, 0, 0, 0)).value)
    assert statistics.mcnemar(Pairs(3, 0, 0, 9)) == 1
    assert statistics.quartiles([]) is None
    assert statistics.holm([]) == []
    for wrong in ((3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="successes of"):
            statistics.wilson(*wrong)


@given(pairs)
def test_mcnemar_is_scipys_binomial_test(table):
    assume(table.only_a + table.only_b)
    truth = binomtest(table.only_a, table.only_a + table.only_b, 0.5).pvalue
    assert statistics.mcnemar(table) == pytest.approx(truth, rel=1e-9)
    swapped = table._replace(only_a=table.only_b, only_b=table.only_a)
    assert statistics.mcnemar(swapped) == statistics.mcnemar(table)


def test_mcnemar_errs_as_seldom_as_it_says():
    """Of two equal policies: chance of a p value below 5 %, by counting all outcomes."""
    for episodes in (5, 12, 40):
        chances = binom.pmf(np.arange(episodes + 1), episodes, 0.5)
        p = [statistics.mcnemar(Pairs(7, k, episodes - k, 7)) for k in range(episodes + 1)]
        assert sum(chances[np.array(p) < 0.05]) <= 0.05


def test_difference_is_the_published_one():
    """Newcombe's interval of the example of Fagerland, Lydersen and Laake, Statistics in Medicine
    33:2850 (2014): airway hyper-responsiveness in 21 children."""
    found = statistics.difference(Pairs(1, 1, 7, 12))
    assert found == pytest.approx((-6 / 21, -0.507, -0.026), abs=0.0005)


@given(pairs, levels)
def test_difference_is_within_and_the_other_way_round(table, level):
    assume(table.episodes)
    found = statistics.difference(table, level)
    assert -1 <= found.low <= found.value <= found.high <= 1
    swapped = table._replace(only_a=table.only_b, only_b=table.only_a)
    other = statistics.difference(swapped, level)
    assert (-other.value, -other.high, -other.low) == pytest.approx(found, abs=1e-12)


def test_difference_covers_what_it_says():
    """Chance that the interval holds the true difference, by counting all tables of 24 episodes."""
    episodes = 24
    tables = [
        Pairs(*one, episodes - sum(one))
        for one in itertools.product(range(episodes + 1), repeat=3)
        if sum(one) <= episodes
    ]
    found = np.array([statistics.difference(table)[1:] for table in tables])
    coverage = []
    for chances in ([0.5, 0.2, 0.1, 0.2], [0.2, 0.3, 0.05, 0.45], [0.8, 0.1, 0.05, 0.05]):
        true = chances[1] - chances[2]
        weights = multinomial.pmf(tables, episodes, chances)
        coverage.append(weights[(found[:, 0] <= true) & (true <= found[:, 1])].sum())
    assert all(0.93 < one < 0.985 for one in coverage), coverage


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_stepping_down_does(p_values, level):
    rejected: set[int] = set()
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        if p_values[i] * (len(p_values) - rank) > level:
            break
        rejected.add(i)
    corrected = statistics.holm(p_values)
    assert {i for i, p in enumerate(corrected) if p <= level} == rejected
    assert all(before <= after <= 1 for before, after in zip(p_values, corrected, strict=True))


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.25]), max_size=30), st.integers(0, 20))
def test_solved_by_counts(seconds, unsolved):
    episodes = len(seconds) + unsolved
    times, shares = statistics.solved_by(seconds, episodes)
    assert (times[0], shares[0]) == (0, 0)
    assert (np.diff(times) > 0).all()
    for time, share in zip(times, shares, strict=True):
        assert share * episodes == pytest.approx(sum(one <= time for one in seconds))
    assert shares[-1] * episodes == pytest.approx(len(seconds))


@pytest.mark.parametrize(("gap", "discordant"), [(0.05, 0.2), (0.1, 0.35), (0.2, 0.2)])
def test_so_many_episodes_find_the_gap_in_four_of_five_trials(gap, discordant):
    episodes = statistics.episodes_to_tell(gap, discordant)
    draw = np.random.default_rng(5)

    def power(episodes: int) -> float:
        a, b = (discordant + gap) / 2, (discordant - gap) / 2
        tables = draw.multinomial(episodes, [a, b, 1 - a - b], 2000)
        return np.mean([statistics.mcnemar(Pairs(0, *table)) < 0.05 for table in tables])

    # The exact test is a little more careful than the formula, which is for large numbers.
    assert 0.68 < power(episodes) < 0.86
    assert power(episodes // 2) < 0.6


def test_quartiles_are_the_median_and_the_middle_half():
    assert statistics.quartiles([5, 1, 4, 2, 3]) == (3, 2, 4)


@given(st.floats(0, 1), st.floats(0, 1))
def test_unrelated_policies_differ_where_just_one_solves(a, b):
    solves = (np.arange(200) + 0.5) / 200
    only_one = (solves[:, None] < a) != (solves[None, :] < b)
    assert statistics.discordant_if_unrelated(a, b) == pytest.approx(only_one.mean(), abs=0.02)
