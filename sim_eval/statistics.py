"""Success rates, how sure they are, and whether two policies differ. Pure functions on numbers.

All intervals are of 95 %, unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri, stdtrit

from sim_eval.suite import Floats

LEVEL: Final = 0.95


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


class Pairs(NamedTuple):
    """What two policies, a and b, did in the same episodes (task and seed)."""

    both: int
    """Episodes that both solved."""
    only_a: int
    only_b: int
    neither: int

    @property
    def episodes(self) -> int:
        """That both were judged in."""
        return sum(self)


def wilson(successes: int, episodes: int, level: float = LEVEL) -> Estimate:
    """A success rate with Wilson's score interval (J. Am. Stat. Assoc. 22:209, 1927), which holds
    near 0 and 1 and for few episodes too. Not a number where there are no episodes; then the
    interval is [0, 1].

    Raises:
        ValueError: more successes than episodes, or a negative number.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes}")
    if not episodes:
        return Estimate(math.nan, 0.0, 1.0)
    z, rate = _z(level), successes / episodes
    scale = 1 + z * z / episodes
    middle = (rate + z * z / (2 * episodes)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / episodes + (z / (2 * episodes)) ** 2)
    # At 0 and 1 an end is the rate itself, which rounding must not undo.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == episodes else middle + half
    return Estimate(rate, low, high)


def mcnemar(pairs: Pairs) -> float:
    """Two-sided p value of the exact McNemar test: were both as good, each episode that only one
    solved would be either's with even chances. 1 where there is none."""
    discordant = pairs.only_a + pairs.only_b
    if not discordant:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(pairs.only_a, pairs.only_b), discordant, 0.5)))


def difference(pairs: Pairs, level: float = LEVEL) -> Estimate:
    """Success rate of a less that of b, over the same episodes, with the interval of Newcombe's
    method 10 (Statistics in Medicine 17:2635, 1998): of Wilson's for each, and their correlation.
    Not a number, in [-1, 1], where there are no pairs."""
    count = pairs.episodes
    if not count:
        return Estimate(math.nan, -1.0, 1.0)
    a = wilson(pairs.both + pairs.only_a, count, level)
    b = wilson(pairs.both + pairs.only_b, count, level)
    phi = _correlation(pairs)
    below, above = a.value - a.low, b.high - b.value
    low = below**2 - 2 * phi * below * above + above**2
    below, above = b.value - b.low, a.high - a.value
    high = below**2 - 2 * phi * below * above + above**2
    value = (pairs.only_a - pairs.only_b) / count
    return Estimate(value, value - math.sqrt(max(low, 0.0)), value + math.sqrt(max(high, 0.0)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected for their number by Holm's method (Scand. J. Stat. 6:65,
    1979): what is below 0.05 holds, with 95 %, for all of them at once."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [1.0] * len(order), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p_values[place])))
        corrected[int(place)] = largest
    return corrected


def over_runs(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Mean of a figure over runs that differ by their seed, with Student's interval (Biometrika
    6:1, 1908), in which that of many runs would lie. Of one run it is not known: not a number."""
    found = np.asarray(values, np.float64)
    mean, count = float(found.mean()), len(found)
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    half = float(stdtrit(count - 1, (1 + level) / 2) * found.std(ddof=1) / math.sqrt(count))
    return Estimate(mean, mean - half, mean + half)


def quartiles(values: ArrayLike) -> Estimate | None:
    """Median, and the quartiles as its interval; None of nothing."""
    found = np.asarray(values, np.float64)
    if not len(found):
        return None
    low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
    return Estimate(float(median), float(low), float(high))


def solved_by(seconds: ArrayLike, episodes: int) -> tuple[Floats, Floats]:
    """Share of episodes that are solved by a time, as steps.

    An episode that failed stays unsolved for ever, it is not censored: so this ends at the success
    rate.

    Args:
        seconds: (n,) when those that were solved were.
        episodes: all, n or more.

    Returns:
        times (m,), from 0, and shares (m,) from these on.
    """
    times, counts = np.unique(np.asarray(seconds, np.float64), return_counts=True)
    shares = np.cumsum(counts) / max(episodes, 1)
    return np.concatenate([[0.0], times]), np.concatenate([[0.0], shares])


def episodes_to_tell(
    gap: float, discordant: float, power: float = 0.8, level: float = LEVEL
) -> int:
    """Episodes, the same for both policies, that McNemar's test needs to find a gap between them
    (Connor, Biometrics 43:207, 1987).

    Args:
        gap: difference of their success rates, in (0, 1).
        discordant: share of episodes that just one of them solves; taken as `gap` if it is less,
            which it cannot be.
        power: chance that a gap of this size is found.
    """
    share = max(discordant, gap)
    root = _z(level) * math.sqrt(share) + float(ndtri(power)) * math.sqrt(share - gap * gap)
    return math.ceil((root / gap) ** 2)


def discordant_if_unrelated(rate_a: float, rate_b: float) -> float:
    """Share of episodes that just one of two policies solves, if what one does says nothing of the
    other: on the same episodes it is seldom more."""
    return rate_a * (1 - rate_b) + rate_b * (1 - rate_a)


def _z(level: float) -> float:
    return float(ndtri((1 + level) / 2))


def _correlation(pairs: Pairs) -> float:
    """Newcombe's estimate of φ, made less by half an episode where it is above 0."""
    both, only_a, only_b, neither = pairs
    a, b, count = both + only_a, both + only_b, pairs.episodes
    margins = a * (count - a) * b * (count - b)
    if not margins:
        return 0.0
    product = float(both * neither - only_a * only_b)
    if product > 0:
        product = max(product - count / 2, 0.0)
    return product / math.sqrt(margins)
