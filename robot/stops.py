"""Ways to come to rest, n steps long: tables that all motions share.

In units of steps: a displacement w a step, its change b from step to step, and the change u of
that. Of all ways to w = b = 0 after n steps, with or without a given place, the one with the least
sum of squares of u; all numbers of it are linear in what it begins with.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GROWTH = 1.3


class Table(NamedTuple):
    """Ways of several lengths, one after the other: M steps in all."""

    counts: list[int]
    """How long each is."""
    begins: NDArray[np.intp]
    """Where each begins, of M."""
    place: Floats
    """(M, C) after each step, from where it began: times (w, b) or (w, b, end) of the beginning."""
    rates: Floats
    """(3 M, C) the same of w, then of b, then of u."""


@functools.lru_cache(maxsize=64)
def stops(longest: int) -> Table:
    """Ways to rest anywhere, of 2 to `longest` steps; what they begin with is (w, b)."""
    return _table(2, longest)


@functools.lru_cache(maxsize=64)
def moves(longest: int) -> Table:
    """Ways to rest at an end, of 3 to `longest` steps; what they begin with is (w, b, end)."""
    return _table(3, longest)


def _table(rows: int, longest: int) -> Table:
    counts = [rows]
    while counts[-1] < longest:
        counts.append(min(longest, max(counts[-1] + 1, round(counts[-1] * _GROWTH))))
    ways = [_way(count, rows) for count in counts]
    begins = np.cumsum([0, *counts[:-1]])
    place, *rates = (np.concatenate(parts) for parts in zip(*ways, strict=True))
    return Table(counts, begins, place, np.concatenate(rates))


@functools.cache
def _way(count: int, conditions: int) -> tuple[Floats, Floats, Floats, Floats]:
    """(count, conditions) each: place, w, b and u after every step."""
    total = np.tril(np.ones((count, count)))
    # Of w and b of the beginning, and of an end, alone: no u.
    b = np.zeros((count, conditions))
    b[:, 1] = 1
    w = total @ b
    w[:, 0] += 1
    place = total @ w
    # What u adds: to b its sum, to w the sum of that, to the place once more.
    sums = [total, total @ total, total @ total @ total]
    wanted = np.zeros((conditions, conditions))
    wanted[0], wanted[1] = -b[-1], -w[-1]
    if conditions == 3:
        wanted[2] = -place[-1]
        wanted[2, 2] = 1
    scale = np.array([float(count) ** power for power in range(conditions)])
    ends = np.stack([one[-1] for one in sums[:conditions]]) / scale[:, None]
    u = np.linalg.pinv(ends) @ (wanted / scale[:, None])
    return place + sums[2] @ u, w + sums[1] @ u, b + sums[0] @ u, u
