"""Statistics of a LeRobot dataset: of each episode, and of all.

As LeRobot 0.4 to 0.6 defines them (population standard deviation; a quantile is the least value
that no less than that share of the values reaches), but exact where it estimates: over all frames
and pixels of an episode, where it draws some; and the dataset's quantiles are those of its values,
where it averages those of its episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        self._moments: list[Stats] = []

    def add(self, episodes: Sequence[Mapping[str, ArrayLike]]) -> None:
        """Episodes' statistics of one feature."""
        parts = [{name: np.asarray(one[name], float) for name in NAMES[:5]} for one in episodes]
        if self._moments:
            parts.append(self._moments.pop())
        self._moments.append(_merged(parts))

    @property
    def moments(self) -> Stats:
        """All but the quantiles."""
        return self._moments[0]

    def with_levels(self, counts: NDArray[np.int64]) -> Stats:
        """All, for pictures with `counts` (3, LEVELS) pixels of each value."""
        found = of_pixels(counts, 1)
        return {**self.moments, **{name: found[name] for name in QUANTILES}}

    def with_values(self, pieces: Iterable[NDArray]) -> Stats:
        """All, for numbers that come in pieces of (n, D): true to a 65,536th of their range."""
        low, high = self.moments["min"], self.moments["max"]
        span = np.where(high > low, high - low, 1.0)
        counts = np.zeros((len(low), _BINS), np.int64)
        for piece in pieces:
            at = ((np.asarray(piece, np.float64) - low) / span * _BINS).astype(np.int64)
            for column, bins in enumerate(np.clip(at, 0, _BINS - 1).T):
                counts[column] += np.bincount(bins, minlength=_BINS)
        below = np.cumsum(counts, axis=1)
        found = dict(self.moments)
        for name, share in QUANTILES.items():
            target = share * below[:, -1]
            at = (below >= target[:, None]).argmax(1)
            here = np.take_along_axis(counts, at[:, None], 1)[:, 0]
            before = np.take_along_axis(below, at[:, None], 1)[:, 0] - here
            value = low + (at + (target - before) / here) / _BINS * span
            found[name] = np.clip(value, low, high)
        return found


def _merged(parts: Sequence[Stats]) -> Stats:
    """Moments of all, from those of each: Chan et al., "Updating Formulae", 1979."""
    stacked = {name: np.stack([part[name] for part in parts]) for name in NAMES[:5]}
    share = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    total = share.sum(0)
    mean = (stacked["mean"] * share).sum(0) / total
    square = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * share).sum(0) / total
    return {
        "min": stacked["min"].min(0),
        "max": stacked["max"].max(0),
        "mean": mean,
        "std": np.sqrt(square),
        "count": stacked["count"].sum(0),
    }
