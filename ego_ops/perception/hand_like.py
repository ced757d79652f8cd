"""Whether a thing was moved by a hand, or is one, where no hand is recorded.

A hand lies still and then moves as a rigid thing may, so motion alone does not tell it from what
it carries. What does is that a thing moves only while a hand is at it: it lies where it lies
before something comes to it, or stays where it was put after something has left it. A hand begins
and ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.triangulate import triangulate
from ego_ops.geometry.view import Array, Index, Mask, View, rms
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks

PROOF = 3
"""Frames in which a point must be seen with the thing, and nothing at it, to count as its own."""


@dataclass(frozen=True)
class Handling:
    """When a thing was seen at rest with nothing that moves at it."""

    before: int
    """Frames from the clip's first in which it lay still and nothing had come to it yet."""
    after: int
    """The first of the frames, up to the clip's last, in which it lies where it was put and what
    moved it has left; T where that was not seen."""

    def alone(self, steps: int) -> Mask:
        """(T,) those frames."""
        frame = np.arange(steps)
        return (frame < self.before) | (frame >= self.after)


@dataclass(frozen=True)
class HandWatch:
    """Looks for what comes to a thing before it moves, and leaves it once it rests again."""

    around: float = 0.04
    """Metres around a thing's points that count as being at it."""
    way: float = 0.06
    """Metres further out that something must have been to have come from elsewhere."""
    least: int = 4
    """Tracks that must do so; single tracks slide along edges."""
    wander: float = 6.0
    """Pixels (RMS) by which a track must miss every still point of the world to count as moving."""
    settled: float = 0.01
    """Metres from its last place within which a thing counts as put down."""
    rest: float = 0.25
    """Seconds that it must be seen there."""

    def watch(self, view: View, moved: ObjectMotion, wanders: Mask) -> Handling:
        """When a thing with a known motion was seen alone.

        Args:
            view: all N tracks of the clip.
            moved: motion of the thing and its points.
            wanders: (N,) tracks of what does not stand still.
        """
        size = np.nanpercentile(np.linalg.norm(moved.points - moved.middle, axis=-1), 90)
        radius = float(size) + self.around
        view = view.select(wanders)
        first = np.repeat(moved.middle[None], moved.start, 0)
        came = self._arrival(self._gap(view, 0, first), radius)
        world = moved.motion.apply(moved.middle)
        end = self._end(view.times, world)
        if end >= view.steps:
            return Handling(came, view.steps)
        gap = self._gap(view, end, world[end:])
        return Handling(came, view.steps - self._arrival(gap[::-1], radius))

    def wanders(self, view: View, who: Index) -> Mask:
        """(N,) tracks, sought among `who`, that no still point of the world explains."""
        some = view.select(who)
        moving = (rms(triangulate(some).residual) > self.wander) & (some.visible.sum(0) >= 3)
        return np.isin(np.arange(view.count), who[moving])

    def _end(self, times: Array, world: Array) -> int:
        """The frame in which a thing that moves along (T, 3) has come to rest, T for never."""
        away = np.linalg.norm(world - world[-1], axis=-1) > self.settled
        end = int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0
        return end if end < len(times) and times[-1] - times[end] >= self.rest else len(times)

    def _gap(self, view: View, begin: int, places: Array) -> Array:
        """(t, N) metres of tracks from places (t, 3) in the frames from `begin` on, as if they
        were as far from the camera; NaN where not visible."""
        frames = np.arange(begin, begin + len(places))
        local = view.path[frames].inv().apply(places)
        rays = view.camera.rays(view.xy[frames])
        gap = np.linalg.norm(rays * local[:, None, 2:] - local[:, None], axis=-1)
        return np.where(view.visible[frames], gap, np.nan)

    def _arrival(self, gap: Array, radius: float) -> int:
        """The frame (of t) before which nothing has come to within `radius` metres; 0 where
        nothing is seen to come."""
        with np.errstate(invalid="ignore"):
            outside, inside = gap > radius + self.way, gap < radius
        arrives = inside & np.maximum.accumulate(outside, 0)
        who = arrives.any(0)
        if who.sum() < self.least:
            return 0
        return int(np.percentile(arrives[:, who].argmax(0), 10))


def proven(moved: ObjectMotion, handling: Handling) -> Mask:
    """(N,) points that rest with the thing while nothing is at it: no part of a hand."""
    alone = handling.alone(len(moved.inliers))
    return (moved.inliers & alone[:, None]).sum(0) >= PROOF


def starts_on_hand(scene: Scene, path: RigidTransform, tracks: Tracks, radius: float) -> Mask:
    """(N,) tracks whose first pixel is covered by a recorded hand, `radius` metres thick."""
    covered = np.zeros(tracks.count, bool)
    joints = scene.hand_joints()
    for t in np.unique(tracks.start) if joints.size else ():
        who = np.flatnonzero(tracks.start == t)
        local = path[t].inv().apply(joints[t])
        local = local[np.isfinite(local).all(-1) & (local[:, 2] > 0.05)]
        if len(local):
            gap = tracks.xy[t, who][:, None] - scene.camera.project(local)
            size = radius * scene.camera.fx / local[:, 2]
            covered[who] = (np.linalg.norm(gap, axis=-1) < size).any(1)
    return covered
