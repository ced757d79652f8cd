"""Ways to come to rest, n steps long: tables that all motions share.

In units of steps: a displacement w a step, its change b from step to step, and the change u of
that. Of all ways to w = b = 0 after n steps, with or without a given end, the one with the least
sum of squares of u; all numbers of it are linear in what it begins with.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GROWTH = 1.35


class Table(NamedTuple):
    """Ways of K lengths, one after the other: M steps in all, then one of zeros."""

    begins: NDArray[np.intp]
    """(K,) where each begins, of M."""
    steps: NDArray[np.intp]
    """(K, longest) numbers of each one's steps, then M."""
    number: Floats
    """(M,) how many steps of its way each is, itself included."""
    place: Floats
    """(M, C) after each step, from where it began: times (w, b) or (w, b, end) of the beginning."""
    rates: Floats
    """(3 (M + 1), C) the same of w, then of b, then of u."""


@functools.lru_cache(maxsize=32)
def stops(longest: int) -> Table:
    """Ways to rest anywhere, of 2 to `longest` steps; what they begin with is (w, b)."""
    return _table(2, longest)


@functools.lru_cache(maxsize=32)
def moves(longest: int) -> Table:
    """Ways to rest at an end, of 3 to `longest` steps; what they begin with is (w, b, end)."""
    return _table(3, longest)


def _table(conditions: int, longest: int) -> Table:
    counts = [conditions]
    while counts[-1] < longest:
        counts.append(min(longest, max(counts[-1] + 1, round(counts[-1] * _GROWTH))))
    begins = np.cumsum([0, *counts])
    steps = np.full((len(counts), longest), begins[-1])
    for row, begin, count in zip(steps, begins, counts, strict=False):
        row[:count] = begin + np.arange(count)
    ways = [_way(count, conditions) for count in counts]
    place, *rates = (np.concatenate(parts) for parts in zip(*ways, strict=True))
    nothing = np.zeros((1, conditions))
    rates = [part for each in rates for part in (each, nothing)]
    number = np.concatenate([np.arange(1.0, count + 1) for count in counts])
    return Table(begins[:-1], steps, number, place, np.concatenate(rates))


@functools.cache
def _way(count: int, conditions: int) -> tuple[Floats, Floats, Floats, Floats]:
    """(count, conditions) each: place, w, b and u after every step."""
    total = np.tril(np.ones((count, count)))
    # What w, b and the end alone make of b, w and the place.
    b = np.zeros((count, conditions))
    b[:, 1] = 1
    w = total @ b
    w[:, 0] += 1
    place = total @ w
    # What u adds: to b its sum, to w the sum of that, to the place once more.
    sums = [total, total @ total, total @ total @ total]
    wanted = np.zeros((3, conditions))
    wanted[2, -1] = 1
    wanted -= [b[-1], w[-1], place[-1]]
    scale = float(count) ** np.arange(3)[:, None]
    ends = np.stack([one[-1] for one in sums]) / scale
    u = np.linalg.pinv(ends[:conditions]) @ (wanted / scale)[:conditions]
    return place + sums[2] @ u, w + sums[1] @ u, b + sums[0] @ u, u
