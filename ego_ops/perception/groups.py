"""Sets of tracks that left their places in the world as one rigid thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.object_motion import displacements_by_pnp, first_frame
from ego_ops.geometry.view import Array, Index, View


@dataclass(frozen=True)
class Group:
    """Tracks that agree on one displacement of the world in the frame that shows it best."""

    members: Index
    """(n,) indices of the tracks."""
    frame: int
    """The frame of `motion`."""
    motion: RigidTransform
    travel: float
    """Metres, median over the members."""
    start: int
    """The frame in which they begin to move."""

    @property
    def value(self) -> float:
        """How much moved: members times metres, of which ten centimetres are enough."""
        return len(self.members) * min(self.travel, 0.1)


def groups(view: View, points: Array, onset: Index, who: Index, least: int) -> list[Group]:
    """By frame, the largest set of tracks among `who` that share one rigid displacement.

    Args:
        points: (N, 3) where the tracks lay before they moved, in the world.
        onset: (N,) the frame in which each begins to move.
        least: members that a group must have.

    Returns:
        The groups of all frames, greatest value first. They overlap.
    """
    if len(who) < least:
        return []
    # Before its onset a track only says that it was still; neighbouring frames say the same.
    frame = np.arange(view.steps)[:, None]
    found = displacements_by_pnp(
        view.where((frame >= onset) & (frame % 2 == 0)).select(who), points[who]
    )
    result = []
    for t, (motion, inliers) in found.items():
        members = who[inliers]
        if len(members) >= least:
            moved = np.linalg.norm(motion.apply(points[members]) - points[members], axis=-1)
            start = first_frame(onset[members])
            result.append(Group(members, t, motion, float(np.median(moved)), start))
    return sorted(result, key=lambda group: -group.value)


def neighbours(points: Array, who: Index, apart: float) -> list[Index]:
    """`who` split where more than `apart` metres lie between one part's points and the next's."""
    if not len(who):
        return []
    pairs = cKDTree(points[who]).sparse_distance_matrix(cKDTree(points[who]), apart)
    count, label = connected_components(pairs, directed=False)
    return [who[label == k] for k in range(count)]


def staying(view: View, points: Array, onset: Index, group: Group, amid: float = 0.02) -> int:
    """Tracks amid a group's, seen before it moves and when it is away, that stay in place.

    There are many where a shadow's edge drags some of a thing's corners along.

    Args:
        amid: metres from a group's point within which another lies amid the group.
    """
    stays = (onset >= view.steps) & np.isfinite(points[:, 0]) & view.visible[group.frame]
    stays &= view.visible[: max(group.start - 1, 1)].any(0)
    gap, _ = cKDTree(points[group.members]).query(points[stays], distance_upper_bound=amid)
    return int(np.isfinite(gap).sum())
