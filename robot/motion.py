"""Motions that keep to their limits, and could always stop within them.

After every step a motion has a way to come to rest that breaks no limit, worked out to the end. A
step that is asked for is done as it is if it breaks none and leaves such a way. Otherwise a way to
where the wishes are going is begun, if the first step of it leaves a way to rest; or, of the ways
to rest, one whose end is as near as possible to the wish; and where none is nearer than that of the
way which is there already, that one is gone on with. (A reference governor: see Garone, Di Cairano
and Kolmanovsky, Automatica 75, 2017.)

There are G motions of D numbers each, which have nothing to do with each other: they are computed
at once because that takes the time of one. Limits are for the length of the D numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot.stops import moves, stops
from robot.ways import Bools, Floats, Room, later, meet, squares, stop, towards

NAMES = ("range", "speed", "acceleration", "jerk", "braking")
_LONGEST = 120
"""Steps that ways to rest have at most."""
_SLACK = 1e-9
"""Share of a limit that is left for rounding."""
_STILL = 1e-6
"""A speed that is none."""
_FRESH = 0.25
"""Weight of the last step in what is known of how wishes move."""

Which = NDArray[np.intp]


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
        self._behind = np.zeros_like(velocity)  # how far the last wish is from here
        self._drift = np.zeros_like(velocity)  # how the wishes move, a second
        self._follows = np.ones(len(velocity), bool)  # whether the last wish was done as it was
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
        self._watch(wish - self._behind)
        broken = self._broken(wish, room)
        good: Bools = ~np.any(broken, axis=0)
        done, ways = wish.copy(), self._way
        if good.any():
            b = wish - self._v * dt
            ways, found = stop(self._stops, wish, b, room.after(wish), self._squared)
            ways = self._padded(ways)
            broken[4] |= good & ~found
            good &= found
        if not good.all():
            ways = ways.copy()
            rest = np.flatnonzero(~good)
            done[rest], ways[rest] = self._lead(wish[rest], room.of(rest), rest)
        self._go(done, ways)
        self._behind, self._follows = wish - done, good
        return done, broken

    def brake(self, room: Room, dt: float) -> Floats:
        """Displacements of the next step of the shortest ways to rest."""
        self._set(dt)
        if self.resting:
            self.reset(np.zeros_like(self._v))
            return self._v
        ways, found = stop(self._stops, self._v * dt, self._a * dt**2, room, self._squared)
        ways = self._padded(ways)
        done, ways = ways[:, 0].copy(), later(ways)
        rest = np.flatnonzero(~found)
        done[rest], ways[rest] = self._keep(rest)
        self._go(done, ways)
        self._behind, self._drift = np.zeros_like(done), np.zeros_like(done)
        self._follows[:] = True
        return done

    @property
    def resting(self) -> bool:
        """Whether all stand still, and are not just turning back."""
        return bool((np.abs(self._v) < _STILL).all() and (np.abs(self._a) < _STILL * 1e3).all())

    def _set(self, dt: float) -> None:
        """What follows from the time of a step."""
        if dt == self._dt:
            return
        before, self._dt = self._dt, dt
        speed, acceleration, jerk = self._rates * (1 - _SLACK)
        step = np.minimum(speed * dt, self._step * (1 - _SLACK))
        limits = np.array([step, acceleration * dt**2, jerk * dt**3])
        self._squared = limits**2  # (3, G)
        longest = min(_LONGEST, max(4, math.ceil(self._needed / dt) + 2))
        self._stops, self._moves = stops(longest), moves(longest)
        self._way = self._padded(self._way, longest)
        if before:
            self._retime(before)

    def _padded(self, ways: Floats, longest: int = 0) -> Floats:
        """Ways (G, N, D) as long as those that are there, or as that."""
        more = max(longest, self._way.shape[1]) - ways.shape[1]
        return ways if more <= 0 else np.pad(ways, ((0, 0), (0, more), (0, 0)))

    def _watch(self, moved: Floats) -> None:
        """Learn how wishes move, of all that is no jump."""
        steady = squares(moved) <= self._squared[0]
        if steady.any():
            news = _FRESH * (moved[steady] / self._dt - self._drift[steady])
            self._drift[steady] += news

    def _go(self, done: Floats, ways: Floats) -> None:
        v = done / self._dt
        self._a = (v - self._v) / self._dt
        self._v, self._way = v, ways

    def _broken(self, wish: Floats, room: Room) -> Bools:
        """(5, G), the last as if there were ways to rest."""
        dt, follows = self._dt, self._follows
        b = wish - self._v * dt
        broken = np.zeros((5, len(wish)), bool)
        broken[0] = ((wish < room.low) | (wish > room.high)).any(-1)
        broken[1:4] = squares(np.array([wish, b, b - self._a * dt**2])) > self._squared
        if not follows.all():
            # One that has been off its wishes joins them where it can go on with them, as they now
            # move: to jump onto them as soon as they are in reach would be to fly past.
            turn = self._drift * dt - wish
            over = squares(np.array([turn, turn - b])) > self._squared[1:]
            broken[4] = ~follows & over.any(0) & ~broken[:4].any(0)
        return broken

    def _lead(self, wish: Floats, room: Room, which: Which) -> tuple[Floats, Floats]:
        """Of some motions: displacements of the next step, and the ways to rest after it."""
        done, ways = self._keep(which)
        squared = self._squared[:, which]
        w, b = self._v[which] * self._dt, self._a[which] * self._dt**2
        drift = self._drift[which] * self._dt
        met = np.zeros(len(which), bool)
        if drift.any():
            first, found = meet(self._moves, w, b, wish, drift, room, squared)
            left, safe = stop(self._stops, first, first - w, room.after(first), squared)
            met = found & safe
            done[met], ways[met] = first[met], self._padded(left)[met]
        if not met.all():
            inside = np.minimum(np.maximum(wish, room.low), room.high)
            rest = self._way[which].sum(1)
            paths, better = towards(self._moves, w, b, rest, inside, room, squared)
            better &= ~met
            paths = self._padded(paths)
            done[better], ways[better] = paths[better, 0], later(paths)[better]
        return done, ways

    def _keep(self, which: Which) -> tuple[Floats, Floats]:
        """The next steps of the ways that are there, and what is left of them."""
        ways = self._way[which]
        return ways[:, 0].copy(), later(ways)

    def _retime(self, before: float) -> None:
        """Have ways in steps of the time that they take now: the same paths, as fast as they were,
        or slower if steps would be too long."""
        for group, way in enumerate(self._way):
            count = len(np.trim_zeros(np.abs(way).max(1), "b"))
            if not count:
                continue
            path = np.zeros((count + 1, way.shape[1]))
            path[1:] = way[:count].cumsum(0)
            most = self._step[group] * (1 - _SLACK) / math.sqrt(squares(way[:count]).max())
            each = min(self._dt / before, most)
            times = each * np.arange(math.ceil(count / each) + 1)
            places = np.stack([np.interp(times, np.arange(count + 1), x) for x in path.T], axis=1)
            self._way = self._padded(self._way, len(times) - 1)
            self._way[group] = 0
            self._way[group, : len(times) - 1] = np.diff(places, axis=0)
