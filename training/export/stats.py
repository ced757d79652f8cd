"""Statistics of a LeRobot dataset: of each episode, and of all.

As LeRobot 0.4 to 0.6 defines them (population standard deviation; a quantile is the least value
that no less than that share of the values reaches), but exact where it estimates: over all frames
and pixels of an episode, where it draws some; and the dataset's quantiles are those of its values,
where it averages those of its episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.data.moments import Histogram, Moments

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
LEVELS = 256
_BINS = 1 << 16

Stats = dict[str, NDArray]
"""By `NAMES`; `count` is (1,), the others have one shape."""


def of_values(values: ArrayLike) -> Stats:
    """Of (n, D) numbers, n at least 1. Everything but `count` is (D,)."""
    x = np.asarray(values, np.float64)
    found = np.quantile(x, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    return {
        "min": x.min(0),
        "max": x.max(0),
        "mean": x.mean(0),
        "std": x.std(0),
        "count": np.array([len(x)]),
        **dict(zip(QUANTILES, found, strict=True)),
    }


def of_pixels(counts: NDArray[np.int64], frames: int) -> Stats:
    """Of the pixels of RGB pictures, (3, 1, 1) from 0 to 1.

    Args:
        counts: (3, LEVELS) how many pixels have each value.
        frames: how many pictures they are from.
    """
    level = np.arange(LEVELS)
    total = counts.sum(1)
    mean = counts @ level / total
    below = np.cumsum(counts, axis=1)
    found: Stats = {
        "min": (counts > 0).argmax(1),
        "max": LEVELS - 1 - (counts[:, ::-1] > 0).argmax(1),
        "mean": mean,
        "std": np.sqrt((counts * (level - mean[:, None]) ** 2).sum(1) / total),
    }
    for name, share in QUANTILES.items():
        found[name] = (below >= share * total[:, None]).argmax(1)
    shaped = {name: value.reshape(3, 1, 1) / 255.0 for name, value in found.items()}
    return {**shaped, "count": np.array([frames])}


class Total:
    """Statistics of all episodes, from those of each; quantiles from what is added besides."""

    def __init__(self) -> None:
        self._all: Moments | None = None

    def add(self, episodes: Iterable[Mapping[str, ArrayLike]]) -> None:
        """Episodes' statistics of one feature."""
        for one in episodes:
            mean, std, low, high = (
                np.asarray(one[name], np.float64) for name in ("mean", "std", "min", "max")
            )
            count = int(np.asarray(one["count"])[0])
            each = Moments(count, mean, std**2 * count, low, high)
            self._all = each if self._all is None else self._all + each

    @property
    def moments(self) -> Stats:
        """All but the quantiles."""
        every = self._every()
        return {
            "min": every.min,
            "max": every.max,
            "mean": every.mean,
            "std": every.std,
            "count": np.array([every.count]),
        }

    def with_levels(self, counts: NDArray[np.int64]) -> Stats:
        """All, for pictures with `counts` (3, LEVELS) pixels of each value."""
        found = of_pixels(counts, 1)
        return {**self.moments, **{name: found[name] for name in QUANTILES}}

    def with_values(self, pieces: Iterable[NDArray]) -> Stats:
        """All, for numbers that come in pieces of (n, D): quantiles to the width of a bin of
        `Histogram`."""
        every = self._every()
        bins = reduce(add, (Histogram.of(piece, every, _BINS) for piece in pieces))
        return {**self.moments, **{name: bins.quantile(at) for name, at in QUANTILES.items()}}

    def _every(self) -> Moments:
        assert self._all is not None, "there is a first episode"
        return self._all
