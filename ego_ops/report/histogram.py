"""A histogram as SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS, LEAST_BINS = 44, 10
"""Bars at most, and at least where clips are few."""
WIDTH, HEIGHT = 340.0, 118.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 16.0, 324.0, 12.0, 98.0
_FAR = 2.0
"""A limit further outside of the values than this many of their ranges is not drawn."""


@dataclass(frozen=True)
class Axis:
    """Where values lie across the picture."""

    low: float
    high: float
    log: bool
    limits: tuple[float, ...]
    """Those of the limits that lie on it."""
    bins: int

    def share(self, values: Floats | float) -> Floats:
        """Values as shares of the axis, 0 to 1; what lies beyond it is put at its ends."""
        ends = np.array([self.low, self.high])
        v = np.clip(np.asarray(values, float), self.low, self.high)
        if self.log:
            ends, v = np.log(ends), np.log(v)
        return (v - ends[0]) / (ends[1] - ends[0])

    def x(self, value: float) -> float:
        return _LEFT + float(self.share(value)) * (_RIGHT - _LEFT)


def axis(values: Floats, limits: Sequence[float], yes_no: bool = False) -> Axis:
    """An axis from the lowest to the highest half per cent of values, and over near limits.

    It is logarithmic where the values are positive and reach far beyond their median.

    Args:
        values: (n,) finite, at least one.
        yes_no: the values are 0 and 1.
    """
    if yes_no:
        return Axis(-0.5, 1.5, False, tuple(v + 0.5 for v in limits if v == 0), 2)
    low, middle, high = (float(v) for v in np.percentile(values, [0.5, 50, 99.5]))
    log = low > 0 and high > 12 * middle
    room = high - low or abs(high) or 1.0
    near = [v for v in limits if low - _FAR * room <= v <= high + _FAR * room]
    near = [v for v in near if v > 0 or not log]
    low, high = min([low, *near]), max([high, *near])
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):  # as good as one value
        room = max(room, abs(low), 1e-9)
        low, high = low - room / 2, high + room / 2
    elif near and not log:  # so that a limit at an end can be seen
        pad = 0.02 * (high - low)
        low, high = low - pad * (low in near), high + pad * (high in near)
    bins = min(BINS, max(LEAST_BINS, round(2 * math.sqrt(len(values)))))
    return Axis(low, high, log, tuple(near), bins)


def svg(
    values: Floats,
    chosen: NDArray[np.bool_],
    low: float,
    high: float,
    label: str,
    yes_no: bool = False,
) -> str:
    """All values in a light colour, those of selected clips before them, and the limits.

    Args:
        values: (n,) finite, at least one, in the unit that is shown.
        chosen: (n,) which belong to selected clips.
        low, high: the limits in that unit; infinite where there is none.
        label: for those who hear the page.
        yes_no: the values are 0 and 1.
    """
    scale = axis(values, [v for v in (low, high) if math.isfinite(v)], yes_no)
    at = np.minimum((scale.share(values) * scale.bins).astype(int), scale.bins - 1)
    every, kept = (np.bincount(one, minlength=scale.bins) for one in (at, at[chosen]))
    parts = [f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">']
    parts += _shades(scale, low)
    for name, counts in (("all", every), ("kept", kept)):
        parts.append(f'<path class="{name}" d="{_bars(counts, every.max())}"/>')
    parts.append(f'<path class="base" d="M{_LEFT:g} {_BOTTOM:g}H{_RIGHT:g}"/>')
    for value, text in ticks(scale):
        x = scale.x(value)
        parts.append(f'<path class="base" d="M{x:.1f} {_BOTTOM:g}v3"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6:g}">{text}</text>')
    for value in scale.limits:
        parts.append(f'<path class="limit" d="M{scale.x(value):.1f} {_TOP - 8:g}V{_BOTTOM:g}"/>')
    return "".join([*parts, "</svg>"])


def ticks(scale: Axis) -> list[tuple[float, str]]:
    """Some three to six round values on the axis, with their text."""
    if scale.bins == 2:
        return [(0.0, "no"), (1.0, "yes")]
    if scale.log:
        first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        steps = (1,) if last - first > 2 else (1, 2, 5)
        powers = range(first, last + 1, 1 + (last - first) // 7)
        found = [m * 10.0**e for e in powers for m in steps]
    else:
        rough = (scale.high - scale.low) / 4.5
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough)
        first = math.ceil(scale.low / step)
        found = [k * step for k in range(first, math.floor(scale.high / step) + 1)]
    return [(v, f"{v:.6g}") for v in found if scale.low <= v <= scale.high]


def _bars(counts: NDArray[np.int64], most: int) -> str:
    step = (_RIGHT - _LEFT) / len(counts)
    path = []
    for i, count in enumerate(counts.tolist()):
        if count:
            # What is there at all can be seen, were it one clip of a million.
            tall = max(count / most * (_BOTTOM - _TOP), 0.7)
            x = _LEFT + i * step
            path.append(f"M{x:.1f} {_BOTTOM:g}v{-tall:.1f}h{step - 0.6:.1f}v{tall:.1f}z")
    return "".join(path)


def _shades(scale: Axis, low: float) -> list[str]:
    """What lies beyond the limits."""
    spans = [
        (_LEFT, scale.x(value)) if value == low else (scale.x(value), _RIGHT)
        for value in scale.limits
    ]
    return [
        f'<rect class="out" x="{a:.1f}" y="{_TOP - 8:g}" width="{b - a:.1f}" '
        f'height="{_BOTTOM - _TOP + 8:g}"/>'
        for a, b in spans
    ]
