"""What annotated boxes say of tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ego_ops.geometry.view import Index, Mask
from ego_ops.perception.tracks import Tracks

FEWEST = 3
"""Tracks of a group that must be seen in a box before it counts as what the box shows."""


@dataclass(frozen=True)
class Boxed:
    """Tracks beside the boxes of the object, where there are any."""

    given: bool
    inside: Mask
    """(T, N) seen in a box."""
    outside: Mask
    """(N,) seen elsewhere in a frame that has a box: not the object."""

    @staticmethod
    def of(tracks: Tracks, boxed: Mask | None) -> Boxed:
        """From boxes drawn in the frames that have them, (T, H, W)."""
        inside = np.zeros_like(tracks.visible)
        outside = np.zeros(tracks.count, bool)
        if boxed is None:
            return Boxed(False, inside, outside)
        for t in np.flatnonzero(boxed.any((1, 2))):
            who = np.flatnonzero(tracks.visible[t])
            x, y = np.rint(tracks.xy[t, who]).astype(int).T
            inside[t, who] = boxed[t, y, x]
            outside[who] |= ~boxed[t, y, x]
        return Boxed(True, inside, outside)

    def show(self, members: Index) -> bool:
        """Whether a group of tracks is what a box shows; true where no box is given."""
        return not self.given or bool((self.inside[:, members].sum(1) >= FEWEST).any())

    def lay(self, members: Index, start: int) -> int:
        """The frame up to which a group that begins to move at `start` was seen in boxes, so that
        it is no hand that was yet to come; 0 where none says so."""
        frames = np.flatnonzero(self.inside[:start, members].sum(1) >= FEWEST)
        return int(frames[-1]) + 1 if len(frames) else 0
