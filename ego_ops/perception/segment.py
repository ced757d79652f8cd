"""The manipulated object among tracks: what lay still and then moves rigidly with a hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.errors import Rejection
from ego_ops.geometry.object_motion import ObjectMotion, solve, world_points
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import NEAREST, Array, Index, Mask, View, pixels, rms
from ego_ops.perception.boxed import Boxed
from ego_ops.perception.groups import Group, groups, neighbours, staying
from ego_ops.perception.hand_like import PROOF, HandWatch, proven, starts_on_hand
from ego_ops.perception.scene import BACKGROUND, OBJECT, OTHER, Scene
from ego_ops.perception.tracks import Tracks

HELD = 3
"""Label of a track that goes with the object and was seen only while a hand was at it. It helps
to follow the object, but may be the hand's."""


@dataclass(frozen=True)
class _Movers:
    """Tracks, and which of them left a known place."""

    view: View
    points: Array
    """(N, 3) where they lay, in the world; NaN where unknown."""
    onset: Index
    """(N,) the frame in which each leaves its place, T for never."""
    barred: Mask
    """(N,) on a recorded hand or outside the annotated boxes."""
    boxes: Boxed

    @property
    def moves(self) -> Mask:
        """(N,) tracks that may be the object's."""
        known = np.isfinite(self.points).all(-1)
        return known & (self.onset < self.view.steps) & ~self.barred


@dataclass(frozen=True)
class _Found:
    """The object's first tracks."""

    members: Index
    start: int
    """The frame in which they begin to move."""
    alone: Mask
    """(T,) frames in which no hand is at it, as far as is known."""


@dataclass(frozen=True)
class MovingGroup:
    """Finds the group of tracks that moves rigidly against the background, by a hand.

    First the tracks with a known place in the world that leave it: the frame in which most of
    them agree on one rigid displacement gives the group. Where hands are recorded it must begin
    near a fingertip and move with it. Where none is, something must be seen to come to the group
    before it moves or to leave it after, and only what rests while that is away belongs to it.
    Then, seen from the group, every track that stands still in its frame but not in the world
    joins it, whenever it was seeded.
    """

    reach: float = 0.15
    """Metres from a fingertip at which a point may begin to move with the hand."""
    hand_radius: float = 0.02
    """Metres around a recorded joint that its hand covers in the picture."""
    least_travel: float = 0.03
    """Metres that the group must move; less is noise or a nudge."""
    least_points: int = 6
    least_unheld: int = 12
    """The same where neither a hand nor a box says what to look at."""
    apart: float = 0.05
    """Metres between points of different things, where no hand says what to look at."""
    tries: int = 4
    """Groups, the greatest first, that are looked at where no hand is recorded."""
    most_stay: float = 0.25
    """Tracks amid a group that may stay when it goes, as a share of its members."""
    hold: float = 0.5
    """Seconds before motion is seen in which a hand may already be in an annotated box."""
    watch: HandWatch = field(default_factory=HandWatch)

    def segment(
        self,
        scene: Scene,
        camera_path: RigidTransform,
        tracks: Tracks,
        depth: Array,
        boxed: Mask | None = None,
    ) -> NDArray[np.int8]:
        """(N,) labels of the tracks, `HELD` among them where no hand is recorded.

        Args:
            boxed: (T, H, W) where the object is known to be, empty in frames without a word.

        Raises:
            Rejection: nothing moves (`nothing_moves`), or nothing as one rigid thing
                (`no_rigid_group`), or the camera moved too little to place what does
                (`too_little_parallax`), or what does may be a hand (`no_hand_seen`).
        """
        view = scene.view(tracks, camera_path)
        onset = first_motion(view)
        barred = starts_on_hand(scene, camera_path, tracks, self.hand_radius)
        boxes = Boxed.of(tracks, boxed)
        movers = _Movers(
            view, world_points(view, depth, onset), onset, barred | boxes.outside, boxes
        )
        recorded = scene.fingertips().size > 0
        found = self._beside_hand(scene, movers) if recorded else self._handled(movers)
        points, group = movers.points, np.isin(np.arange(view.count), found.members)
        for _ in range(2):
            moved = solve(view.select(group), points[group], found.start)
            group |= self._joining(view, moved) & ~movers.barred
        labels = np.full(tracks.count, OTHER, np.int8)
        labels[(onset >= view.steps) & np.isfinite(points).all(-1)] = BACKGROUND
        labels[group] = np.where(view.visible[found.alone].sum(0) >= PROOF, OBJECT, HELD)[group]
        return labels

    def _beside_hand(self, scene: Scene, movers: _Movers) -> _Found:
        """The largest group that a recorded hand took."""
        tips = scene.fingertips()
        best, seen = None, 0
        # Each hand by itself: what moves near one has nothing to do with what moves near the other.
        for hand in range(tips.shape[1]):
            near = self._within_reach(movers.points, movers.onset, tips[:, hand])
            who = np.flatnonzero(movers.moves & near)
            seen += len(who)
            for group in self._groups(movers, who):
                before, after = tips[group.start, hand], tips[group.frame, hand]
                more = best is None or group.value > best.value
                if more and self._carried(group.motion, before, after):
                    best = group
        if best is None:
            raise self._nothing(movers, seen)
        return _Found(best.members, best.start, np.ones(movers.view.steps, bool))

    def _handled(self, movers: _Movers) -> _Found:
        """The largest group that something came to or left, without what came and left."""
        view, points = movers.view, movers.points
        ranked = self._by_place(movers)
        if not ranked:
            raise self._nothing(movers, int(movers.moves.sum()))
        wanders = self.watch.wanders(view, np.flatnonzero(movers.onset < view.steps))
        for group in ranked[: self.tries]:
            if staying(movers.view, movers.points, movers.onset, group) > (
                self.most_stay * len(group.members)
            ):
                continue
            try:
                moved = solve(view.select(group.members), points[group.members], group.start)
            except Rejection:  # no thing after all: the next group may be one
                continue
            handling = self.watch.watch(view, moved, wanders)
            early = round(self.hold / float(np.median(np.diff(view.times))))
            lay = movers.boxes.lay(group.members, max(group.start - early, 0))
            handling = replace(handling, before=max(handling.before, lay))
            members = group.members[proven(moved, handling)]
            least = self.least_points if movers.boxes.given else self.least_unheld
            if len(members) >= least:
                return _Found(members, group.start, handling.alone(view.steps))
        raise Rejection(
            "no_hand_seen",
            f"{len(ranked[0].members)} points move as one, but may be a hand's or a shadow's: "
            "nothing was seen to come to enough of them before or to leave them after",
        )

    def _groups(self, movers: _Movers, who: Index) -> list[Group]:
        """Groups among some tracks that move far enough and are in the boxes, greatest first."""
        found = groups(movers.view, movers.points, movers.onset, who, self.least_points)
        return [
            group
            for group in found
            if group.travel >= self.least_travel and movers.boxes.show(group.members)
        ]

    def _by_place(self, movers: _Movers) -> list[Group]:
        """Groups that lay apart or move apart, greatest first."""
        found = []
        for part in neighbours(movers.points, np.flatnonzero(movers.moves), self.apart):
            for _ in range(2):
                best = next(iter(self._groups(movers, part)), None)
                if best is not None:
                    found.append(best)
                    part = np.setdiff1d(part, best.members)
        return sorted(found, key=lambda group: -group.value)

    def _nothing(self, movers: _Movers, seen: int) -> Rejection:
        """Why there is no group."""
        moving = (movers.onset < movers.view.steps) & ~movers.barred
        if movers.boxes.given:
            moving &= movers.boxes.inside.any(0)
        unplaced = int((np.isnan(movers.points[:, 0]) & moving).sum())
        where = "in the annotated boxes" if movers.boxes.given else "where a hand may be"
        if seen < self.least_points <= unplaced:
            sway = np.ptp(movers.view.path.translation, axis=0).max()
            return Rejection(
                "too_little_parallax",
                f"{unplaced} points move, but with {100 * sway:.0f} cm of head motion "
                f"in the clip only {seen} of them could be placed while they were still",
            )
        if seen < self.least_points:
            return Rejection(
                "nothing_moves",
                f"{seen} points of known place leave it {where}, {self.least_points} are needed",
            )
        return Rejection(
            "no_rigid_group",
            f"of {seen} points that leave their place {where} no {self.least_points} "
            f"move as one rigid thing by {self.least_travel} m",
        )

    def _within_reach(self, points: Array, onset: Index, tips: Array) -> Mask:
        """(N,) tracks near a fingertip (T, fingers, 3) when they begin to move."""
        gap = np.linalg.norm(points[:, None] - tips[np.minimum(onset + 1, len(tips) - 1)], axis=-1)
        return np.where(np.isfinite(gap), gap, np.inf).min(-1) < self.reach

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
