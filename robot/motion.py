"""A motion that keeps to its limits, and could always stop within them.

After every step it has a way to come to rest that breaks no limit, worked out to the end. A step
that is asked for is done as it is if it breaks none and leaves such a way. Otherwise, of the ways
from `robot.stops`, one is taken whose end is as near as possible to what was asked for; where none
is better than the way that is there already, that one is gone on with. (A reference governor: see
Garone, Di Cairano and Kolmanovsky, Automatica 75, 2017.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot.stops import moves, stops

Floats = NDArray[np.float64]

NAMES = ("speed", "acceleration", "jerk")
_LONGEST = 120
"""Steps that ways to rest have at most."""
_SLACK = 1e-9
"""Share of a limit that is left for rounding."""
_NEAR = 1e-12
"""Displacements up to this are none."""
_TINY = 1e-30
_GAIN = 1e-3
"""Share of the distance to a wish that a new way must gain to be taken up."""


class Room(NamedTuple):
    """How far it may go from where it is, by axis: (D,) each."""

    low: Floats
    high: Floats


class Motion:
    """D numbers that move: v and a are their differences from step to step, a second.

    Args:
        step: most between two steps.
        rates: (3,) or (3, D): speed, acceleration and jerk.
        together: whether limits are for the length of all D numbers, or for each.
    """

    def __init__(self, size: int, step: Floats | float, rates: Floats, together: bool):
        self._size, self._step, self._together = size, step, together
        self._rates = np.asarray(rates, np.float64)
        speed, acceleration, jerk = self._rates
        needed = 1.5 * speed / acceleration + np.sqrt(6 * speed / jerk) + 4 * acceleration / jerk
        self._needed = float(np.max(needed))
        self.reset(np.zeros(size))

    def reset(self, velocity: Floats) -> None:
        """Begin, at a constant velocity (D,); there is no way to rest yet but to stop dead."""
        self._v, self._a = velocity, np.zeros(self._size)
        self._way, self._dt = np.zeros((0, self._size)), 1.0

    def advance(self, wish: Floats, room: Room | None, dt: float) -> tuple[Floats, tuple[str, ...]]:
        """The displacement of the next step, and which limits the wish for it would have broken.

        Args:
            wish: (D,) the displacement to where it should go; the very same is given back where it
                is right.
            dt: seconds of the step.
        """
        limits = self._limits(dt)
        broken = self._broken(wish, room, limits, dt)
        if not broken:
            left = None if room is None else Room(room.low - wish, room.high - wish)
            way = self._stop(wish, wish - self._v * dt, left, limits, dt)
            if way is not None:
                return self._go(wish, way, dt), ()
            broken = ("braking",)
        if room is not None:
            wish = np.minimum(np.maximum(wish, room.low), room.high)
        way = self._towards(wish, room, limits, dt)
        return (self._go(way[0], way[1:], dt) if way is not None else self._keep(dt)), broken

    def brake(self, room: Room | None, dt: float) -> Floats:
        """The displacement of the next step of the shortest way to rest."""
        w, b = self._v * dt, self._a * dt**2
        way = self._stop(w, b, room, self._limits(dt), dt)
        return self._go(way[0], way[1:], dt) if way is not None else self._keep(dt)

    @property
    def resting(self) -> bool:
        """Whether it stands still."""
        return not (np.abs(self._v) > 1e-6).any()

    def _go(self, w: Floats, way: Floats, dt: float) -> Floats:
        v = w / dt
        self._v, self._a = v, (v - self._v) / dt
        self._way, self._dt = way, dt
        return w

    def _keep(self, dt: float) -> Floats:
        """The next step of the way that is there. A step that takes less time than was planned goes
        less far, so no speed is above what was planned."""
        if not len(self._way):
            return self._go(np.zeros(self._size), self._way, dt)
        share = min(1.0, dt / self._dt)
        w, way = self._way[0] * share, self._way[1:]
        if share < 1 - _SLACK:
            way = np.concatenate([self._way[:1] - w, way])
        planned = self._dt
        self._go(w, way, dt)
        self._dt = planned
        return w

    def _limits(self, dt: float) -> Floats:
        """(3,) or (3, D) most of w, b and u."""
        speed, acceleration, jerk = self._rates * (1 - _SLACK)
        step = np.minimum(speed * dt, self._step)
        return np.array([step, acceleration * dt**2, jerk * dt**3])

    def _broken(
        self, wish: Floats, room: Room | None, limits: Floats, dt: float
    ) -> tuple[str, ...]:
        b = wish - self._v * dt
        numbers = np.array([wish, b, b - self._a * dt**2])
        sizes = np.sqrt((numbers**2).sum(1)) if self._together else np.abs(numbers)
        over = sizes > limits
        names = []
        if over.any():
            names = [name for name, each in zip(NAMES, over, strict=True) if np.any(each)]
        if room is not None and ((wish < room.low) | (wish > room.high)).any():
            names.insert(0, "range")
        return tuple(names)

    def _longest(self, dt: float) -> int:
        return min(_LONGEST, max(4, math.ceil(self._needed / dt) + 2))

    def _stop(
        self, w: Floats, b: Floats, room: Room | None, limits: Floats, dt: float
    ) -> Floats | None:
        """(n, D) displacements of the shortest way to rest that breaks no limit, if there is."""
        table = stops(self._longest(dt))
        began = np.array([w, b])
        rates = (table.rates @ began).reshape(3, -1, self._size)
        if self._together:
            good = ((rates**2).sum(-1) <= limits[:, None] ** 2).all(0)
        else:
            good = (np.abs(rates) <= limits[:, None]).all((0, 2))
        if room is not None:
            place = table.place @ began
            good &= ((place >= room.low - _NEAR) & (place <= room.high + _NEAR)).all(1)
        whole = np.logical_and.reduceat(good, table.begins)
        if not whole.any():
            return None
        first = int(whole.argmax())
        begin = table.begins[first]
        return rates[0, begin : begin + table.counts[first]]

    def _towards(self, wish: Floats, room: Room | None, limits: Floats, dt: float) -> Floats | None:
        """(n, D) displacements of the way whose end goes farthest from that of the present way
        towards the wish; None if no way goes farther, or the present one leads there."""
        now = self._way.sum(0)
        ahead = wish - now
        if (np.abs(ahead) <= _NEAR).all():
            return None
        table = moves(self._longest(dt))
        began = np.array([self._v * dt, self._a * dt**2, now])
        rates = (table.rates @ began).reshape(3, -1, self._size)
        slopes = (table.rates[:, 2:] * ahead).reshape(3, -1, self._size)
        spans = _together(rates, slopes, limits) if self._together else _each(rates, slopes, limits)
        if room is not None:
            place = table.place @ began
            margin = Room(room.low - _NEAR, room.high + _NEAR)
            inside = _between(margin.low - place, margin.high - place, table.place[:, 2:] * ahead)
            spans = np.maximum(spans[0], inside[0]), np.minimum(spans[1], inside[1])
        low = np.maximum(np.maximum.reduceat(spans[0], table.begins), 0.0)
        high = np.minimum(np.minimum.reduceat(spans[1], table.begins), 1.0)
        share = np.where(low <= high, high, 0.0)
        best = int(share.argmax())
        if share[best] <= _GAIN:
            return None
        chosen = slice(table.begins[best], table.begins[best] + table.counts[best])
        return rates[0, chosen] + share[best] * slopes[0, chosen]


def _between(low: Floats, high: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """(M,) least and most k with low <= k slope <= high in all of D numbers; all are (M, D)."""
    steep = np.where(np.abs(slope) < _TINY, _TINY, slope)
    a, b = low / steep, high / steep
    return np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)


def _each(fixed: Floats, slope: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """(M,) least and most k with |fixed + k slope| <= limits: (3, M, D) twice, and (3, D)."""
    most = limits[:, None]
    low, high = _between(-most - fixed, most - fixed, slope)
    return low.max(0), high.min(0)


def _together(fixed: Floats, slope: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """As `_each`, for the lengths of the D numbers, and limits (3,)."""
    a = np.maximum((slope**2).sum(-1), _TINY)
    b = (fixed * slope).sum(-1)
    within = b**2 - a * ((fixed**2).sum(-1) - limits[:, None] ** 2)
    root = np.sqrt(np.maximum(within, 0))
    low = np.where(within < 0, np.inf, (-b - root) / a)
    high = np.where(within < 0, -np.inf, (-b + root) / a)
    return low.max(0), high.min(0)
