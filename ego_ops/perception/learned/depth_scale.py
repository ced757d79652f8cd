"""Metres from relative depth: the scale and shift of each frame, from points whose depth is known.

A relative network gives, of each picture by itself, inverse depth up to a factor and a constant
(Ranftl et al. 2022, arXiv 1907.01341). Points of known depth (recorded landmarks, triangulated
background) give both; that neighbouring frames have nearly the same carries them over frames that
show no such point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from ego_ops.errors import Rejection
from ego_ops.geometry.view import Array

_ROUNDS = 30
_TRIES = 200


@dataclass(frozen=True)
class DepthScale:
    """1 / depth = scale * value + shift, in each of T frames."""

    scale: Array
    """(T,) 1/m for each unit of the network's value."""
    shift: Array
    """(T,) 1/m."""

    def frame(self, t: int) -> DepthScale:
        """That of frame t alone."""
        return DepthScale(self.scale[t : t + 1], self.shift[t : t + 1])

    def depth(self, value: Array) -> Array:
        """Metres of values (T, ...); NaN where they would lie behind the camera or at infinity."""
        extra = (slice(None),) + (None,) * (np.ndim(value) - 1)
        inverse = self.scale[extra] * value + self.shift[extra]
        return np.where(inverse > 1e-3, 1 / np.maximum(inverse, 1e-3), np.nan)


@dataclass(frozen=True)
class ScaleFit:
    """How scale and shift are fitted."""

    noise: float = 0.05
    """Relative error of a depth, network and known point together."""
    change: float = 0.02
    """Relative change between neighbouring frames, of either number's part in a depth."""
    fewest: int = 8
    """Points (over all frames) below which nothing is said."""

    def fit(self, value: Array, known: Array) -> DepthScale:
        """From the network's values (T, N) and known depths (T, N) in metres, NaN where not.

        The relative error r = (scale * value + shift) * known - 1 is made small under Cauchy's
        loss, which wrong matches hardly move, by iteratively reweighted least squares. It begins
        with one scale and shift for all frames, those of the pair of points that most agree with.

        Raises:
            Rejection: too few points are known (`no_metric_scale`), or they do not agree.
        """
        used = np.isfinite(value) & np.isfinite(known) & (known > 0)
        if used.sum() < self.fewest:
            raise Rejection(
                "no_metric_scale",
                f"{used.sum()} points of known depth, {self.fewest} are needed to scale the rest",
            )
        unit = float(np.median(np.abs(value[used]))) or 1.0
        factor = np.where(used, value / unit * known, 0.0)  # what the scale is multiplied by
        constant = np.where(used, known, 0.0)
        start = self._start(factor[used], constant[used])
        found = np.tile(start, (len(value), 1))
        for _ in range(_ROUNDS):
            error = factor * found[:, :1] + constant * found[:, 1:] - 1
            weight = used / (1 + (error / self.noise) ** 2)
            before, found = found, self._solve(factor, constant, weight)
            if np.abs(found - before).max() < 1e-6 * np.abs(found).max():
                break
        return DepthScale(found[:, 0] / unit, found[:, 1])

    def _start(self, factor: Array, constant: Array) -> Array:
        """(2,) scale and shift of all frames together: the pair of points whose line has the
        smallest median error over all (least median of squares, Rousseeuw 1984)."""
        pairs = np.random.default_rng(0).integers(0, len(factor), (_TRIES, 2))
        rows = np.stack((factor[pairs], constant[pairs]), -1)
        sound = np.abs(np.linalg.det(rows)) > 1e-6 * np.abs(rows).max((1, 2)) ** 2
        if not sound.any():
            return np.array([0.0, float(np.median(1 / constant))])
        lines = np.linalg.solve(rows[sound], np.ones((int(sound.sum()), 2, 1)))[..., 0]
        error = np.abs(lines @ np.stack((factor, constant)) - 1)
        return lines[int(np.argmin(np.median(error, 1)))]

    def _solve(self, factor: Array, constant: Array, weight: Array) -> Array:
        """(T, 2) the weighted least squares solution, in time linear in T.

        Unknowns are in the order scale 0, shift 0, scale 1...; the normal matrix has two bands
        on each side of its diagonal.
        """
        steps = len(weight)
        band = np.zeros((3, 2 * steps))
        band[0, 0::2] = (weight * factor**2).sum(1)
        band[0, 1::2] = (weight * constant**2).sum(1)
        band[1, 0::2] = (weight * factor * constant).sum(1)
        right = np.stack(((weight * factor).sum(1), (weight * constant).sum(1)), -1).ravel()
        size = np.array([np.sqrt((weight * x**2).sum() / weight.sum()) for x in (factor, constant)])
        stiff = np.tile((size * self.noise / self.change) ** 2, steps)
        band[0, :-2] += stiff[:-2]
        band[0, 2:] += stiff[2:]
        band[2, :-2] = -stiff[:-2]
        band[0] += 1e-9 * band[0].max()
        return solveh_banded(band, right, lower=True).reshape(steps, 2)
