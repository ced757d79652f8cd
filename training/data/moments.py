"""Statistics of more vectors than fit into memory, from parts that are merged in any order.

Two passes: the first counts and finds mean, spread and range (`Moments`), the second fills
histograms between them (`Histogram`), whose quantiles are off by less than the width of a bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.norm import Floats, Statistics

BINS = 8192


@dataclass(frozen=True)
class Moments:
    """Of n vectors of D numbers."""

    count: int
    mean: Floats
    squares: Floats
    """Sum of squared differences to the mean."""
    min: Floats
    max: Floats

    @staticmethod
    def of(values: NDArray[np.floating]) -> Moments:
        """Of (n, D) values, n at least 1."""
        wide = np.asarray(values, np.float64)
        mean = wide.mean(0)
        return Moments(len(wide), mean, ((wide - mean) ** 2).sum(0), wide.min(0), wide.max(0))

    def __add__(self, other: Moments) -> Moments:
        """Of both together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + apart**2 * (self.count * other.count / count),
            np.minimum(self.min, other.min),
            np.maximum(self.max, other.max),
        )

    @property
    def std(self) -> Floats:
        """(D,) of the population."""
        return np.sqrt(self.squares / self.count)


@dataclass(frozen=True)
class Histogram:
    """How many of the vectors that `moments` are of lie in each bin.

    Bins are even in arcsinh((x - mean) / std): up to a few standard deviations from the mean they
    are less than 1 % of one wide, wherever a heavy tail may end.
    """

    moments: Moments
    bins: NDArray[np.int64]
    """(D, number of bins)."""

    @staticmethod
    def of(values: NDArray[np.floating], moments: Moments, bins: int = BINS) -> Histogram:
        """Of (n, D) values, none beyond the range of `moments`, in so many bins."""
        low, high = _bent(moments.min, moments), _bent(moments.max, moments)
        place = (_bent(values, moments) - low) / np.where(high > low, high - low, 1)
        index = np.clip((place * bins).astype(np.int64), 0, bins - 1)
        size = index.shape[1]
        flat = (index + np.arange(size) * bins).reshape(-1)
        return Histogram(moments, np.bincount(flat, minlength=size * bins).reshape(size, bins))

    def __add__(self, other: Histogram) -> Histogram:
        """Of both together; `moments` are those of all values already."""
        return Histogram(self.moments, self.bins + other.bins)

    def quantile(self, share: float) -> Floats:
        """(D,) the value that a share of the values lie below, evenly spread within its bin."""
        below = np.cumsum(self.bins, axis=1)
        wanted = share * below[:, -1]
        at = (below < wanted[:, None]).sum(1)
        row = np.arange(len(at))
        inside = self.bins[row, at]
        part = (wanted - (below[row, at] - inside)) / np.maximum(inside, 1)
        low, high = _bent(self.moments.min, self.moments), _bent(self.moments.max, self.moments)
        bent = low + (at + part) / self.bins.shape[1] * (high - low)
        found = self.moments.mean + _unit(self.moments) * np.sinh(bent)
        return np.clip(found, self.moments.min, self.moments.max)

    def statistics(self) -> Statistics:
        """What is known of the values."""
        of = self.moments
        return Statistics(
            of.mean, of.std, self.quantile(0.01), self.quantile(0.99), of.min, of.max, of.count
        )


def _bent(values: NDArray[np.floating], moments: Moments) -> Floats:
    return np.arcsinh((np.asarray(values, np.float64) - moments.mean) / _unit(moments))


def _unit(moments: Moments) -> Floats:
    return np.where(moments.std > 0, moments.std, 1)
