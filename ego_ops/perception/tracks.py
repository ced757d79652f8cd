"""Point tracks: what a tracker gives and geometry takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tracks:
    """N points followed through T frames."""

    xy: NDArray[np.float64]
    """(T, N, 2) pixels of the scaled frames; NaN where not visible."""
    visible: NDArray[np.bool_]
    """(T, N)."""
    start: NDArray[np.int64]
    """(N,) the frame each point was seeded in."""

    @property
    def count(self) -> int:
        return len(self.start)

    def select(self, which: NDArray) -> Tracks:
        """The tracks chosen by a mask or by indices (n,)."""
        return Tracks(self.xy[:, which], self.visible[:, which], self.start[which])

    @staticmethod
    def joined(parts: list[Tracks]) -> Tracks:
        """All tracks of `parts`, in that order."""
        return Tracks(
            np.concatenate([part.xy for part in parts], 1),
            np.concatenate([part.visible for part in parts], 1),
            np.concatenate([part.start for part in parts]),
        )
