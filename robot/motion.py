"""Motions that keep to their limits, and could always stop within them.

After every step a motion has a way to come to rest that breaks no limit, worked out to the end. A
step that is asked for is done as it is if it breaks none and leaves such a way. Otherwise, of the
ways of `robot.stops`, one is taken whose end is as near as possible to what was asked for; where
none is better than the way that is there already, that one is gone on with. (A reference governor:
see Garone, Di Cairano and Kolmanovsky, Automatica 75, 2017.)

There are G motions of D numbers each, which have nothing to do with each other: they are computed
at once because that takes the time of one. Limits are for the length of the D numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot.stops import Table, moves, stops

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NAMES = ("range", "speed", "acceleration", "jerk", "braking")
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
    """How far motions may go from where they are, by axis: (G, D) each, or infinite."""

    low: Floats
    high: Floats


class Motions:
    """Motions by differences from step to step: v and a are (G, D), a second.

    Args:
        step: (G,) most between two steps.
        rates: (3, G) speed, acceleration and jerk.
        size: D.
    """

    def __init__(self, step: Floats, rates: Floats, size: int):
        self._step, self._rates = step, rates
        speed, acceleration, jerk = rates
        needed = 1.5 * speed / acceleration + np.sqrt(6 * speed / jerk) + 4 * acceleration / jerk
        self._needed = float(np.max(needed))
        self.reset(np.zeros((len(step), size)))

    def reset(self, velocity: Floats) -> None:
        """Begin, at a constant velocity (G, D); there is no way to rest yet but to stop dead."""
        self._v, self._a = velocity.copy(), np.zeros_like(velocity)
        self._way = np.zeros((len(velocity), 1, velocity.shape[1]))
        self._planned = np.ones(len(velocity))  # the time of each one's steps
        self._behind = np.zeros_like(velocity)  # how far the last wish is from here
        self._follows = np.ones(len(velocity), bool)  # whether that was done as it was
        self._dt = 0.0

    def advance(self, wish: Floats, room: Room, dt: float) -> tuple[Floats, Bools]:
        """Displacements (G, D) of the next step, and (5, G) which of `NAMES` the wish for it would
        have broken.

        Args:
            wish: (G, D) displacements to where they should go; they are given back to the bit where
                they are right.
            dt: seconds of the step.
        """
        self._set(dt)
        broken = self._broken(wish, room)
        good: Bools = ~np.any(broken, axis=0)
        done, ways = wish.copy(), np.zeros_like(self._way)
        if good.any():
            left = Room(room.low - wish, room.high - wish)
            ways, found = self._stop(wish, wish - self._v * dt, left)
            broken[4] |= good & ~found
            good &= found
        if not good.all():
            rest = np.flatnonzero(~good)
            done[rest], ways[rest] = self._towards(wish[rest], room, rest)
        self._go(done, ways, good)
        self._behind, self._follows = wish - done, good
        return done, broken

    def brake(self, room: Room, dt: float) -> Floats:
        """Displacements of the next step of the shortest ways to rest."""
        self._set(dt)
        ways, found = self._stop(self._v * dt, self._a * dt**2, room)
        done, ways = ways[:, 0], _later(ways)
        rest = np.flatnonzero(~found)
        done[rest], ways[rest] = self._keep(rest)
        self._go(done, ways, found)
        self._behind, self._follows = np.zeros_like(done), np.ones_like(found)
        return done

    @property
    def resting(self) -> bool:
        """Whether all stand still."""
        return not (np.abs(self._v) > 1e-6).any()

    def _set(self, dt: float) -> None:
        """What follows from the time of a step."""
        if dt == self._dt:
            return
        self._dt = dt
        speed, acceleration, jerk = self._rates * (1 - _SLACK)
        step = np.minimum(speed * dt, self._step * (1 - _SLACK))
        limits = np.array([step, acceleration * dt**2, jerk * dt**3])
        self._squared = limits**2  # (3, G)
        longest = min(_LONGEST, max(4, math.ceil(self._needed / dt) + 2))
        self._stops, self._moves = stops(longest), moves(longest)
        more = longest - self._way.shape[1]
        if more > 0:
            self._way = np.pad(self._way, ((0, 0), (0, more), (0, 0)))

    def _go(self, done: Floats, ways: Floats, fresh: Bools) -> None:
        v = done / self._dt
        self._a = (v - self._v) / self._dt
        self._v, self._way = v, ways
        self._planned[fresh] = self._dt

    def _broken(self, wish: Floats, room: Room) -> Bools:
        """(5, G), the last as if there were ways to rest."""
        dt, follows = self._dt, self._follows
        b = wish - self._v * dt
        broken = np.zeros((5, len(wish)), bool)
        broken[0] = ((wish < room.low) | (wish > room.high)).any(-1)
        broken[1:4] = _squares(np.array([wish, b, b - self._a * dt**2])) > self._squared
        if not follows.all():
            # One that has been off its wishes joins them where it can go on with them, as they now
            # go: to jump onto them as soon as they are in reach would be to fly past.
            moved = wish - self._behind
            turn = moved - wish
            over = _squares(np.array([turn, turn - b])) > self._squared[1:]
            broken[4] = ~follows & over.any(0) & ~broken[:4].any(0)
        return broken

    def _stop(self, w: Floats, b: Floats, room: Room) -> tuple[Floats, Bools]:
        """(G, N, D) displacements of the shortest ways to rest that break no limit, and (G,)
        whether there are."""
        rates, place = self._along(self._stops, np.array([w, b]))
        good = (_squares(rates[:, :-1]) <= self._squared[:, None]).all(0)
        good &= ((place >= room.low - _NEAR) & (place <= room.high + _NEAR)).all(-1)
        whole = np.logical_and.reduceat(good, self._stops.begins)
        found: Bools = np.any(whole, axis=0)
        return self._picked(self._stops, rates[0], whole.argmax(0)), found

    def _towards(self, wish: Floats, room: Room, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Of some motions: displacements of the next step, and the ways to rest after it, whose
        ends go as far as can be from those of the present ways towards the wishes."""
        room = Room(room.low[which], room.high[which])
        wish = np.minimum(np.maximum(wish, room.low), room.high)
        now = self._way[which].sum(1)
        ahead = wish - now
        began = np.array([self._v[which] * self._dt, self._a[which] * self._dt**2, now])
        rates, place = self._along(self._moves, began)
        slope = self._moves.rates[:, 2].reshape(3, -1, 1, 1) * ahead
        far = self._moves.place[:, 2, None, None] * ahead
        low, high = _short(rates[:, :-1], slope[:, :-1], self._squared[:, which])
        least, most = _between(room.low - _NEAR - place, room.high + _NEAR - place, far)
        begins = self._moves.begins
        low = np.maximum.reduceat(np.maximum(low, least), begins)
        high = np.minimum(np.minimum.reduceat(np.minimum(high, most), begins), 1.0)
        share = np.where(np.maximum(low, 0) <= high, high, 0.0)
        best = share.argmax(0)
        gain = share[best, np.arange(len(which))]
        better = (gain > _GAIN) & (np.abs(ahead) > _NEAR).any(-1)
        ways = self._picked(self._moves, rates[0] + gain[:, None] * slope[0], best)
        done, later = ways[:, 0].copy(), _later(ways)
        kept = np.flatnonzero(~better)
        if len(kept):
            done[kept], later[kept] = self._keep(which[kept])
        self._planned[which[better]] = self._dt
        return done, later

    def _keep(self, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """The next steps of the ways that are there, and what is left of them. A step that takes
        less time than was planned goes less far, so no speed is above what was planned."""
        ways = self._way[which]
        share = np.minimum(1.0, self._dt / self._planned[which])[:, None]
        done = ways[:, 0] * share
        partly = share < 1 - _SLACK
        left = ways.copy()
        left[:, 0] -= done
        return done, np.where(partly[:, None], left, _later(ways))

    def _along(self, table: Table, began: Floats) -> tuple[Floats, Floats]:
        """(3, M + 1, G, D) rates and (M, G, D) places of all ways, begun with (C, G, D)."""
        flat = began.reshape(len(began), -1)
        rates = (table.rates @ flat).reshape(3, -1, *began.shape[1:])
        return rates, (table.place @ flat).reshape(-1, *began.shape[1:])

    def _picked(self, table: Table, steps: Floats, which: NDArray[np.intp]) -> Floats:
        """(G, N, D) displacements of the way of that number, for each motion, of (M + 1, G, D)."""
        chosen = steps[table.steps[which], np.arange(len(which))[:, None]]
        more = self._way.shape[1] - chosen.shape[1]
        return chosen if more <= 0 else np.pad(chosen, ((0, 0), (0, more), (0, 0)))


def _squares(numbers: Floats) -> Floats:
    """Of the lengths of D numbers: (..., D) to (...)."""
    return np.einsum("...i,...i->...", numbers, numbers)


def _later(ways: Floats) -> Floats:
    """What is left of ways after a step."""
    return np.concatenate([ways[:, 1:], np.zeros_like(ways[:, :1])], axis=1)


def _between(low: Floats, high: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """(M, G) least and most k with low <= k slope <= high in all of D numbers; all (M, G, D)."""
    steep = np.where(np.abs(slope) < _TINY, _TINY, slope)
    a, b = low / steep, high / steep
    return np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)


def _short(fixed: Floats, slope: Floats, squared: Floats) -> tuple[Floats, Floats]:
    """(M, G) least and most k for which all of fixed + k slope (3, M, G, D) is no longer than
    limits whose squares are (3, G)."""
    a = np.maximum(_squares(slope), _TINY)
    b = np.einsum("...i,...i->...", fixed, slope)
    c = _squares(fixed) - squared[:, None]
    inside = b**2 - a * c
    root = np.sqrt(np.maximum(inside, 0))
    low = np.where(inside < 0, np.inf, (-b - root) / a)
    high = np.where(inside < 0, -np.inf, (-b + root) / a)
    return low.max(0), high.min(0)
