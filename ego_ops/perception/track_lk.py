"""Pyramidal Lucas-Kanade with a forward-backward check (Bouguet 2001; Kalal et al. 2010)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.perception.tracks import Tracks

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class LucasKanade:
    """Corners followed from frame to frame; new ones are sought wherever none is followed."""

    every: int = 4
    """Frames between searches for new corners."""
    most: int = 250
    """Corners that one search may add."""
    spacing: int = 7
    """Pixels between corners."""
    quality: float = 0.003
    """The weakest corner's strength, as a share of the strongest in the frame."""
    window: int = 11
    """Pixels; small, since a wide window sees two surfaces at once where one ends."""
    levels: int = 4
    """Pyramid levels above the full image."""
    forward_backward: float = 1.0
    """Pixels. A point that does not come back to within this is lost."""

    def track(self, frames: Image, where: NDArray[np.bool_] | None = None) -> Tracks:
        """Tracks of the corners of grey frames (T, H, W).

        A corner is followed from the frame it is found in to both ends of the clip.

        Args:
            where: (T, H, W) where to look for corners; everywhere by default.
        """
        steps = len(frames)
        xy: list[NDArray] = []
        start: list[NDArray] = []
        now = np.zeros((0, 2), np.float32)
        for t in range(steps):
            if t:
                now = self._step(frames[t - 1], frames[t], now)
            if t % self.every == 0:
                found = self._corners(frames[t], None if where is None else where[t], now)
                now = np.concatenate((now, found))
                start.append(np.full(len(found), t))
            xy.append(now)
        begun = np.concatenate(start)
        table = np.full((steps, len(begun), 2), np.nan, np.float32)
        for t, points in enumerate(xy):
            table[t, : len(points)] = points
        back = np.full((len(begun), 2), np.nan, np.float32)
        for t in range(steps - 1, 0, -1):
            back = np.where((begun == t)[:, None], table[t], back)
            back = self._step(frames[t], frames[t - 1], back)
            table[t - 1, begun >= t] = back[begun >= t]
        return Tracks(table.astype(float), np.isfinite(table[..., 0]), begun)

    def _step(self, here: Image, there: Image, points: NDArray) -> NDArray[np.float32]:
        """Points (n, 2) one frame on; NaN for those lost, now or before."""
        moved = np.full_like(points, np.nan)
        who = np.flatnonzero(np.isfinite(points[:, 0]))
        if not len(who):
            return moved
        options: dict[str, Any] = {
            "winSize": (self.window, self.window),
            "maxLevel": self.levels,
            "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.01),
            "minEigThreshold": 1e-4,
        }
        sent = np.ascontiguousarray(points[who]).reshape(-1, 1, 2)
        found, ok, _ = cv2.calcOpticalFlowPyrLK(here, there, sent, None, **options)
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(there, here, found, None, **options)
        height, width = here.shape
        inside = (found > 2).all(-1) & (found < (width - 3, height - 3)).all(-1)
        returned = np.linalg.norm(back - sent, axis=-1) < self.forward_backward
        kept = ((ok > 0) & (ok_back > 0) & inside & returned)[:, 0]
        moved[who[kept]] = found[kept, 0]
        return moved

    def _corners(
        self, frame: Image, where: NDArray[np.bool_] | None, taken: NDArray
    ) -> NDArray[np.float32]:
        """Shi-Tomasi corners (n, 2) of a frame, away from points (m, 2) already followed."""
        mask = np.full(frame.shape, 255, np.uint8)
        if where is not None:
            mask[~where] = 0
        for x, y in np.rint(taken[np.isfinite(taken[:, 0])]).astype(int):
            cv2.circle(mask, (int(x), int(y)), self.spacing, 0, -1)
        found = cv2.goodFeaturesToTrack(frame, self.most, self.quality, self.spacing, mask=mask)
        return np.zeros((0, 2), np.float32) if found is None else found[:, 0]
