"""The order of a run's samples, as a function of the seed and a sample's number alone.

Samples are numbered 0, 1, 2, ... over the whole run: step s of batches of B works on the numbers
from s B to (s + 1) B, whatever the number of workers. A source's n-th draw lies in its epoch
n // N of N windows. An epoch is a permutation of all windows of the source: its units in an order
of chance, as many of them together as have `pool` windows, and the windows of such a pool in an
order of chance. So memory need hold two pools of each source at most.

A pool is cut into `LANES` pieces, and its draws take turns between them. Samples are given to
workers in turn too, so that where there are eight workers, each reads an eighth of every pool,
though the order of the whole is the same for any number of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ego_ops.errors import UserError
from training.data.keyed import permutation, philox

POOL = 8192
LANES = 8
"""As many consecutive samples are of one source: then a source's turns go round with the workers,
whatever else is in the mixture."""
_SLOTS = 1 << 20
_GOLDEN = 648_055
"""The odd number nearest to `_SLOTS` over the golden ratio: multiples of it fill a circle evenly
(Weyl), and being odd it comes to every slot once."""


class Draw(NamedTuple):
    """Where a sample comes from."""

    number: int
    """The sample's, in the run."""
    source: int
    pool: int
    """Counted over all epochs of the source."""
    unit: int
    window: int
    """Of the unit."""


class Order:
    """Which window each sample of a run is.

    Args:
        windows: of each source, (units,) how many windows each unit has.
        weights: of each source, its share of the samples relative to the others', above 0.
        seed: another seed, another order.
        pool: of each source, the least number of windows that are mixed (all, if it has fewer).

    Raises:
        UserError: a source has no windows, or a weight is not above 0.
    """

    def __init__(
        self,
        windows: Sequence[NDArray[np.int64]],
        weights: Sequence[float],
        seed: int,
        pool: Sequence[int] | int = POOL,
    ):
        pools = [pool] * len(windows) if isinstance(pool, int) else list(pool)
        self._sources = [
            _Source(np.asarray(each, np.int64), seed, number, least)
            for number, (each, least) in enumerate(zip(windows, pools, strict=True))
        ]
        self._mixture = _Mixture(weights, seed)

    def draws(self, numbers: NDArray[np.int64] | Sequence[int] | range) -> list[Draw]:
        """Where samples of these numbers come from."""
        numbers = np.asarray(numbers, np.int64)
        sources, turns = self._mixture.turns(numbers)
        found = []
        for number, source, turn in zip(
            numbers.tolist(), sources.tolist(), turns.tolist(), strict=True
        ):
            found.append(Draw(number, source, *self._sources[source].draw(turn)))
        return found

    def units(self, source: int, pool: int, lanes: Sequence[int] = range(LANES)) -> list[int]:
        """The units that some lanes of a source's pool draw from, pools counted over all epochs."""
        return self._sources[source].units(pool, lanes)


class _Mixture:
    """Which source each `LANES` samples are of: evenly mixed, so that each batch has its share."""

    def __init__(self, weights: Sequence[float], seed: int):
        if not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise UserError(f"weights of the mixture are {list(weights)}: each must be above 0")
        ends = np.round(np.cumsum(weights) / math.fsum(weights) * _SLOTS).astype(np.int64)
        self._start = int(philox(seed, "mixture").random_raw()) % _SLOTS
        slots = (self._start + np.arange(_SLOTS, dtype=np.int64) * _GOLDEN) % _SLOTS
        self._source = np.searchsorted(ends, slots, side="right").astype(np.int16)
        self._counts = np.bincount(self._source, minlength=len(weights))
        if not self._counts.all():
            raise UserError(f"weights of the mixture are {list(weights)}: too far apart")
        self._turn = np.empty(_SLOTS, np.int32)
        for source, count in enumerate(self._counts):
            self._turn[self._source == source] = np.arange(count)

    def turns(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Of each sample its source, and how many samples before it that source has given."""
        group, lane = np.divmod(numbers, LANES)
        rounds, at = np.divmod(group, _SLOTS)
        source = self._source[at]
        return source, (rounds * self._counts[source] + self._turn[at]) * LANES + lane


@dataclass(frozen=True)
class _Epoch:
    """One epoch's order of a source's units, cut into pools."""

    units: NDArray[np.int64]
    """All of them, in this epoch's order."""
    starts: NDArray[np.int64]
    """(units + 1,) how many windows come before each."""
    pools: NDArray[np.int64]
    """(pools + 1,) indices into `units` where pools begin."""
    pool_starts: NDArray[np.int64]
    """(pools + 1,) how many windows come before each pool."""


class _Source:
    """The order of one source. Keeps what was asked for last."""

    def __init__(self, windows: NDArray[np.int64], seed: int, number: int, least: int):
        self._windows = windows
        self._key = (seed, "source", number)
        self._total = int(windows.sum())
        if not self._total:
            raise UserError(f"source {number} of the mixture has no windows")
        # Every epoch has as many pools, so that they can be counted over all epochs. They are cut
        # where a unit ends, and so up to one unit smaller or larger than their mean.
        self._count = max(1, self._total // (least + int(windows.max())))
        self._epoch = functools.lru_cache(maxsize=2)(self._ordered)
        self._inside = functools.lru_cache(maxsize=4)(self._mixed)

    def draw(self, turn: int) -> tuple[int, int, int]:
        """The pool, unit and window of the source's draw of that number."""
        number, at = divmod(turn, self._total)
        epoch = self._epoch(number)
        pool = int(np.searchsorted(epoch.pool_starts, at, side="right")) - 1
        first = int(epoch.pool_starts[pool])
        place = first + int(self._inside(number, pool)[at - first])
        unit = int(np.searchsorted(epoch.starts, place, side="right")) - 1
        over_all = number * self._count + pool
        return over_all, int(epoch.units[unit]), place - int(epoch.starts[unit])

    def units(self, pool: int, lanes: Sequence[int]) -> list[int]:
        """The units that some lanes of a pool draw from, pools counted over all epochs."""
        number, inside = divmod(pool, self._count)
        epoch = self._epoch(number)
        ends = epoch.pool_starts[inside] + np.cumsum([0, *map(len, self._turns(number, inside))])
        at = np.searchsorted(epoch.starts, ends, side="right") - 1
        last = np.searchsorted(epoch.starts, ends, side="left")
        some = {n for lane in lanes for n in range(at[lane], last[lane + 1])}
        return epoch.units[sorted(some)].tolist()

    def _ordered(self, number: int) -> _Epoch:
        units = permutation(len(self._windows), *self._key, number)
        starts = np.concatenate([[0], np.cumsum(self._windows[units])])
        # Cut where the windows are shared out evenly; a unit stays whole.
        cuts = np.arange(self._count + 1) * self._total / self._count
        pools = np.searchsorted(starts, cuts - 0.5)
        return _Epoch(units, starts, pools, starts[pools])

    def _turns(self, number: int, pool: int) -> list[NDArray[np.int64]]:
        """Of each lane the draws of a pool that are its, counted from the pool's first."""
        first, last = self._epoch(number).pool_starts[pool : pool + 2].tolist()
        begin = number * self._total + first
        return [np.arange((lane - begin) % LANES, last - first, LANES) for lane in range(LANES)]

    def _mixed(self, number: int, pool: int) -> NDArray[np.int64]:
        """The window of each draw of a pool, both counted from the pool's first."""
        turns = self._turns(number, pool)
        found, done = np.empty(sum(map(len, turns)), np.int64), 0
        for lane, each in enumerate(turns):
            found[each] = done + permutation(len(each), *self._key, number, pool, lane)
            done += len(each)
        return found


def lanes(rank: int, world: int) -> range:
    """The lanes that a worker's samples are of: see `share`."""
    step = math.gcd(world, LANES)
    return range(rank % step, LANES, step)


def share(step: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """The numbers of the samples that one of `world` workers works on in a step.

    Together they have all numbers of the step; worker r takes every world-th, from the r-th on.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """
    if batch % world:
        raise UserError(f"a batch of {batch} cannot be shared by {world} workers: change --batch")
    return range(step * batch + rank, (step + 1) * batch, world)
