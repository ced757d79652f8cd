"""Ways of `robot.stops` for G motions of D numbers at once, within their limits.

Of what a way begins with, w is the displacement (G, D) of the step before it, b the change of that
from the one before. Limits are for lengths: their squares (3, G), of w, b and u.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot.stops import Table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_NEAR = 1e-12
"""Displacements up to this are none."""
_TINY = 1e-30
_GAIN = 1e-3
"""Share of the distance to a wish that a new way must gain to be taken up."""


class Room(NamedTuple):
    """How far motions may go from where they are, by axis: (G, D) each, or infinite."""

    low: Floats
    high: Floats

    def after(self, step: Floats) -> Room:
        """That which is left after a displacement."""
        return Room(self.low - step, self.high - step)

    def of(self, which: NDArray[np.intp]) -> Room:
        """That of some motions."""
        return Room(self.low[which], self.high[which])

    def holds(self, place: Floats) -> Bools:
        """(M, G) whether each of (M, G, D) places is in it."""
        inside = (place >= self.low - _NEAR) & (place <= self.high + _NEAR)
        return np.asarray(inside.all(-1))


def stop(table: Table, w: Floats, b: Floats, room: Room, squared: Floats) -> tuple[Floats, Bools]:
    """The shortest ways to rest that break no limit: (G, N, D) displacements, and (G,) whether
    there are."""
    rates, place = _along(table, np.array([w, b]))
    good = (squares(rates[:, :-1]) <= squared[:, None]).all(0) & room.holds(place)
    return _shortest(table, rates[0], good)


def meet(
    table: Table, w: Floats, b: Floats, wish: Floats, drift: Floats, room: Room, squared: Floats
) -> tuple[Floats, Bools]:
    """The shortest ways that break no limit to something that moves on: their first steps (G, D),
    and (G,) whether there are.

    Args:
        wish: (G, D) where it will be after the first step.
        drift: (G, D) by which it moves from step to step.
    """
    # As seen from it, they are ways to rest.
    rates, place = _along(table, np.array([w - drift, b, wish - drift]))
    rates[0] += drift
    place += table.number[:, None, None] * drift
    good = (squares(rates[:, :-1]) <= squared[:, None]).all(0) & room.holds(place)
    ways, found = _shortest(table, rates[0], good)
    return ways[:, 0], found


def towards(
    table: Table, w: Floats, b: Floats, rest: Floats, wish: Floats, room: Room, squared: Floats
) -> tuple[Floats, Bools]:
    """The ways to rest whose ends go as far as can be from there to a wish: (G, N, D)
    displacements, and (G,) whether their ends are any nearer to it.

    Args:
        rest: (G, D) displacements to where ways that break no limit end.
        wish: (G, D) displacements to a place in the room.
    """
    ahead = wish - rest
    rates, place = _along(table, np.array([w, b, rest]))
    slope = table.rates[:, 2].reshape(3, -1, 1, 1) * ahead
    low, high = _short(rates[:, :-1], slope[:, :-1], squared)
    far = table.place[:, 2, None, None] * ahead
    least, most = _between(room.low - _NEAR - place, room.high + _NEAR - place, far)
    low = np.maximum.reduceat(np.maximum(low, least), table.begins)
    high = np.minimum(np.minimum.reduceat(np.minimum(high, most), table.begins), 1.0)
    share = np.where(np.maximum(low, 0) <= high, high, 0.0)
    best = share.argmax(0)  # the shortest of those that go all the way
    gain = share[best, np.arange(len(best))]
    better = (gain > _GAIN) & np.any(np.abs(ahead) > _NEAR, axis=-1)
    return _picked(table, rates[0] + gain[:, None] * slope[0], best), better


def later(ways: Floats) -> Floats:
    """What is left of ways (G, N, D) after a step."""
    return np.concatenate([ways[:, 1:], np.zeros_like(ways[:, :1])], axis=1)


def squares(numbers: Floats) -> Floats:
    """Of the lengths of D numbers: (..., D) to (...)."""
    return np.einsum("...i,...i->...", numbers, numbers)


def _along(table: Table, began: Floats) -> tuple[Floats, Floats]:
    """(3, M + 1, G, D) rates and (M, G, D) places of all ways, begun with (C, G, D)."""
    flat = began.reshape(len(began), -1)
    rates = (table.rates @ flat).reshape(3, -1, *began.shape[1:])
    return rates, (table.place @ flat).reshape(-1, *began.shape[1:])


def _shortest(table: Table, steps: Floats, good: Bools) -> tuple[Floats, Bools]:
    """The first of the ways whose steps are all good, (M, G), and whether there is one."""
    whole = np.logical_and.reduceat(good, table.begins)
    return _picked(table, steps, whole.argmax(0)), np.any(whole, axis=0)


def _picked(table: Table, steps: Floats, which: NDArray[np.intp]) -> Floats:
    """(G, N, D) displacements of the way of that number, for each motion, of (M + 1, G, D)."""
    return steps[table.steps[which], np.arange(len(which))[:, None]]


def _between(low: Floats, high: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """(M, G) least and most k with low <= k slope <= high in all of D numbers; all (M, G, D)."""
    steep = np.where(np.abs(slope) < _TINY, _TINY, slope)
    a, b = low / steep, high / steep
    return np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)


def _short(fixed: Floats, slope: Floats, squared: Floats) -> tuple[Floats, Floats]:
    """(M, G) least and most k for which all of fixed + k slope (3, M, G, D) break no limit."""
    a = np.maximum(squares(slope), _TINY)
    b = np.einsum("...i,...i->...", fixed, slope)
    inside = b**2 - a * (squares(fixed) - squared[:, None])
    root = np.sqrt(np.maximum(inside, 0))
    low = np.where(inside < 0, np.inf, (-b - root) / a)
    high = np.where(inside < 0, -np.inf, (-b + root) / a)
    return low.max(0), high.min(0)
