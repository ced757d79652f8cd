"""Points handed on between the windows of a clip that is too long to be tracked at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ego_ops.perception.tracks import Tracks

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Span = tuple[int, int]
"""First frame and end."""

LATER, EARLIER, BOTH = 1, -1, 0


@dataclass(frozen=True)
class Errand:
    """Points to follow within one window."""

    span: Span
    who: Index
    """(n,) which of the clip's points."""
    seeds: Array
    """(n, 3) frame, x and y at which each is taken up."""
    side: Index
    """(n,) which frames are new of it: `LATER` or `EARLIER` than its seed, or `BOTH`."""


def spans(steps: int, window: int, overlap: int) -> list[Span]:
    """Windows that cover `steps` frames, evenly spread; they share `overlap` frames or more."""
    if steps <= window:
        return [(0, steps)]
    count = math.ceil((steps - overlap) / (window - overlap))
    starts = np.linspace(0, steps - window, count).round().astype(int)
    return [(int(start), int(start) + window) for start in starts]


class Course:
    """What is known of N points of a clip of T frames so far."""

    def __init__(self, points: Array, steps: int):
        self._points = points
        self._xy = np.full((steps, len(points), 2), np.nan)

    def errands(self, windows: list[Span]) -> Iterator[Errand]:
        """What to follow, window by window; what came of each is to be added before the next.

        A point starts in the window in whose middle it lies best. From there it is handed on, to
        the clip's end and then to its beginning, as long as it is visible in a frame that two
        windows share.
        """
        middles = np.array([(first + end - 1) / 2 for first, end in windows])
        home = np.abs(self._points[:, :1] - middles).argmin(1)
        for k, window in enumerate(windows):
            own = np.flatnonzero(home == k)
            who, seeds = own, self._points[own]
            if k:
                carried, places = self._handed(home < k, windows[k - 1], window)
                who, seeds = np.concatenate([who, carried]), np.concatenate([seeds, places])
            side = np.where(home[who] == k, BOTH, LATER)
            yield Errand(window, who, seeds, side)
        for k in range(len(windows) - 2, -1, -1):
            who, seeds = self._handed(home > k, windows[k], windows[k + 1])
            yield Errand(windows[k], who, seeds, np.full(len(who), EARLIER))

    def add(self, errand: Errand, xy: Array) -> None:
        """Write down (t, n, 2) pixels that an errand found, NaN where not visible."""
        first, end = errand.span
        past = np.arange(first, end)[:, None] - errand.seeds[:, 0]
        new = (past * errand.side > 0) | (errand.side == BOTH)
        known = self._xy[first:end, errand.who]
        self._xy[first:end, errand.who] = np.where(new[..., None], xy, known)

    def tracks(self, shape: tuple[int, ...]) -> Tracks:
        """The tracks, without what lies outside a picture of (H, W)."""
        height, width = shape
        x, y = self._xy[..., 0], self._xy[..., 1]
        with np.errstate(invalid="ignore"):
            visible = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        xy = np.where(visible[..., None], self._xy, np.nan)
        return Tracks(xy, visible, self._points[:, 0].astype(np.int64))

    def _handed(self, which: NDArray[np.bool_], before: Span, after: Span) -> tuple[Index, Array]:
        """Who of `which` (N,) is visible where two windows overlap, and (n, 3) frame and place of
        each, as near as may be to the middle of the overlap."""
        first, end = after[0], before[1]
        seen = np.isfinite(self._xy[first:end, :, 0])
        who = np.flatnonzero(which & seen.any(0))
        off = np.abs(np.arange(first, end) - (first + end - 1) / 2)[:, None]
        best = first + np.where(seen[:, who], off, np.inf).argmin(0)
        return who, np.column_stack([best, self._xy[best, who]])
