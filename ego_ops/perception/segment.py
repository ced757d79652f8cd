"""The manipulated object among tracks: what lay still and then moves rigidly near a hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import (
    ObjectMotion,
    displacements_by_pnp,
    first_frame,
    solve,
    world_points,
)
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import NEAREST, Array, Index, Mask, View, pixels, rms
from ego_ops.perception.scene import BACKGROUND, OBJECT, OTHER, Scene
from ego_ops.perception.tracks import Tracks


@dataclass(frozen=True)
class MovingGroup:
    """Finds the group of tracks that moves rigidly against the background, near a hand if any.

    First the tracks with a known place in the world that leave it: the frame in which most of
    them agree on one rigid displacement gives the group. Then, seen from the group, every track
    that stands still in its frame but not in the world joins it, whenever it was seeded.
    """

    reach: float = 0.15
    """Metres from a fingertip at which a point may begin to move with the hand."""
    hand_radius: float = 0.02
    """Metres around a recorded joint that its hand covers in the picture."""
    least_travel: float = 0.03
    """Metres that the group must move; less is noise or a nudge."""
    least_points: int = 6

    def segment(
        self, scene: Scene, camera_path: RigidTransform, tracks: Tracks, depth: Array
    ) -> NDArray[np.int8]:
        """(N,) labels of the tracks.

        Raises:
            Rejection: nothing moves (`nothing_moves`), or nothing as one rigid thing
                (`no_rigid_group`), or the camera moved too little to place what does
                (`too_little_parallax`).
        """
        view = scene.view(tracks, camera_path)
        onset = first_motion(view)
        points = world_points(view, depth, onset)
        on_hand = starts_on_hand(scene, camera_path, tracks, self.hand_radius)
        group = self._group(scene, view, points, onset, on_hand)
        start = first_frame(onset[group])
        for _ in range(2):
            moved = solve(view.select(group), points[group], start)
            group |= self._joining(view, moved) & ~on_hand
        labels = np.full(tracks.count, OTHER, np.int8)
        labels[(onset >= view.steps) & np.isfinite(points).all(-1)] = BACKGROUND
        labels[group] = OBJECT
        return labels

    def _group(self, scene: Scene, view: View, points: Array, onset: Index, on_hand: Mask) -> Mask:
        """(N,) the largest set of tracks that left their places as one rigid thing, and far."""
        moves = np.isfinite(points).all(-1) & (onset < view.steps) & ~on_hand
        tips = scene.fingertips()
        best, most, seen = np.zeros(0, np.int64), 0.0, 0
        # Each hand by itself: what moves near one has nothing to do with what moves near the other.
        for hand in range(tips.shape[1]) if tips.size else (None,):
            near = self._within_reach(points, onset, None if hand is None else tips[:, hand])
            who = np.flatnonzero(moves & near)
            seen += len(who)
            found = self._moved_together(view, points, onset, who)
            for t, (motion, chosen) in found.items():
                moved = motion.apply(points[chosen]) - points[chosen]
                travel = float(np.median(np.linalg.norm(moved, axis=-1)))
                value = len(chosen) * min(travel, 0.1)
                if travel < self.least_travel or value <= most:
                    continue
                start = first_frame(onset[chosen])
                if hand is None or self._carried(motion, tips[start, hand], tips[t, hand]):
                    best, most = chosen, value
        if len(best):
            return np.isin(np.arange(view.count), best)
        unplaced = int((np.isnan(points[:, 0]) & (onset < view.steps) & ~on_hand).sum())
        if seen < self.least_points <= unplaced:
            sway = np.ptp(view.path.translation, axis=0).max()
            raise Rejection(
                "too_little_parallax",
                f"{unplaced} points move, but with {100 * sway:.0f} cm of head motion "
                f"in the clip only {seen} of them could be placed while they were still",
            )
        if seen < self.least_points:
            raise Rejection(
                "nothing_moves",
                f"{seen} points of known place leave it near a hand, "
                f"{self.least_points} are needed",
            )
        raise Rejection(
            "no_rigid_group",
            f"of {seen} points that leave their place no {self.least_points} "
            f"move as one rigid thing by {self.least_travel} m",
        )

    def _within_reach(self, points: Array, onset: Index, tips: Array | None) -> Mask:
        """(N,) tracks near a fingertip (T, fingers, 3) when they begin to move."""
        if tips is None:
            return np.ones(len(points), bool)
        gap = np.linalg.norm(points[:, None] - tips[np.minimum(onset + 1, len(tips) - 1)], axis=-1)
        return np.where(np.isfinite(gap), gap, np.inf).min(-1) < self.reach

    def _moved_together(
        self, view: View, points: Array, onset: Index, who: Index
    ) -> dict[int, tuple[RigidTransform, Index]]:
        """By frame: a rigid displacement and the tracks among `who` that share it."""
        if len(who) < self.least_points:
            return {}
        # Before its onset a track only says that it was still.
        late = np.arange(view.steps)[:, None] >= onset
        found = displacements_by_pnp(view.where(late).select(who), points[who])
        return {
            t: (motion, who[inliers])
            for t, (motion, inliers) in found.items()
            if inliers.sum() >= self.least_points
        }

    def _carried(self, motion: RigidTransform, before: Array, after: Array) -> bool:
        """Whether a hand's fingertips (fingers, 3) went where a displacement takes them."""
        travel = np.linalg.norm(after - before, axis=-1).mean()
        slip = np.linalg.norm(motion.apply(before) - after, axis=-1).mean()
        return bool(travel > self.least_travel and slip < self.least_travel + 0.3 * travel)

    def _joining(self, view: View, moved: ObjectMotion) -> Mask:
        """(N,) tracks that rest in the object's frame and not in the world."""
        size = np.nanmax(np.linalg.norm(moved.points - moved.middle, axis=-1))
        reach = 1.5 * size + 0.03
        seen = view.where(moved.observed[:, None])
        who = np.flatnonzero(_close_to(seen, moved, reach) & (seen.visible.sum(0) >= 5))
        seen = seen.select(who)
        rigid, world = triangulate(seen.from_object(moved.motion)), triangulate(seen)
        error, alternative = rms(rigid.residual), rms(world.residual)
        near = np.linalg.norm(rigid.points - moved.middle, axis=-1) < reach
        joins = near & (rigid.spread < 0.03) & (error < 1.5) & (alternative > 2 * error + 1.5)
        return np.isin(np.arange(view.count), who[joins])


def _close_to(view: View, moved: ObjectMotion, reach: float) -> Mask:
    """(N,) tracks that stay, in the picture, within `reach` metres of the object's middle."""
    middle = view.from_object(moved.motion).local(moved.middle[None])[:, 0]
    radius = reach * view.camera.fx / np.maximum(middle[:, 2], NEAREST)
    gap = np.linalg.norm(view.xy - pixels(view.camera, middle)[:, None], axis=-1)
    return (~view.visible | (gap < radius[:, None])).all(0)


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
