"""Second look at the object: its points sought again in every frame, straight from keyframes.

Following from frame to frame loses points in fast motion and behind fingers, and drifts. Once the
motion is roughly known, each point can be sought where it must be: the keyframe is warped to the
frame's view of the object, so that little motion is left for Lucas-Kanade, and the match is
checked by correlation. Nothing drifts, and what reappears is found again.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops.geometry.object_motion import ObjectMotion
from ego_ops.geometry.view import Array, pixels
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


@dataclass(frozen=True)
class Retracker:
    """Finds an object's points again in each frame, given its motion so far."""

    window: int = 21
    """Pixels."""
    correlation: float = 0.8
    """Least normalised correlation of a point's patch with its keyframe's."""
    search: float = 20.0
    """Pixels from the predicted place."""
    margin: int = 48
    """Pixels around the object in which matching happens."""

    def retrack(
        self, scene: Scene, path: RigidTransform, moved: ObjectMotion, tracks: Tracks
    ) -> Tracks:
        """The object's tracks found anew; where that fails, the old ones that fit the motion.

        Args:
            tracks: of the object, as `moved` was computed from.
        """
        key = keyframes(moved, tracks)
        xy = np.where(moved.inliers[..., None], tracks.xy, np.nan)
        for frame in np.unique(key[key >= 0]):
            who = np.flatnonzero(key == frame)
            for t in range(len(scene.times)):
                if t != frame:
                    found = self._match(scene, path, moved, tracks.xy[frame, who], who, frame, t)
                    good = np.isfinite(found[:, 0])
                    xy[t, who[good]] = found[good]
        return Tracks(xy, np.isfinite(xy[..., 0]), tracks.start)

    def _match(
        self,
        scene: Scene,
        path: RigidTransform,
        moved: ObjectMotion,
        seen: Array,
        who: NDArray[np.int64],
        frame: int,
        t: int,
    ) -> Array:
        """(n, 2) pixels in frame t of points `who`, `seen` (n, 2) in the keyframe; NaN if lost."""
        lost = np.full((len(who), 2), np.nan)
        camera = scene.camera
        there = (path[t].inv() * moved.motion[t]).apply(moved.points[who])
        expected = pixels(camera, there)
        inside = camera.contains(expected, 8) & (there[:, 2] > 0.05)
        if not inside.any():
            return lost
        warp = self._warp(scene, path, moved, frame, t)
        low = np.maximum(np.floor(expected[inside].min(0)).astype(int) - self.margin, 0)
        high = np.ceil(expected[inside].max(0)).astype(int) + self.margin
        patch = scene.gray[t, low[1] : high[1], low[0] : high[0]]
        warp[:, 2] -= low
        key = cv2.warpAffine(
            scene.gray[frame], warp, patch.shape[::-1], borderMode=cv2.BORDER_REPLICATE
        )
        begin = (seen @ warp[:, :2].T + warp[:, 2]).astype(np.float32)[:, None]
        size = (self.window, self.window)
        guess = (expected - low).astype(np.float32)[:, None]
        found, ok, _ = cv2.calcOpticalFlowPyrLK(
            key, patch, begin, guess.copy(), winSize=size, maxLevel=2,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(
            patch, key, found, begin.copy(), winSize=size, maxLevel=2,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        good = inside & (ok[:, 0] > 0) & (ok_back[:, 0] > 0)
        good &= np.linalg.norm(back - begin, axis=-1)[:, 0] < 1.0
        good &= np.linalg.norm(found - guess, axis=-1)[:, 0] < self.search
        for i in np.flatnonzero(good):
            good[i] = correlation(key, patch, begin[i, 0], found[i, 0]) > self.correlation
        return np.where(good[:, None], found[:, 0] + low, lost)

    def _warp(
        self, scene: Scene, path: RigidTransform, moved: ObjectMotion, frame: int, t: int
    ) -> Array:
        """(2, 3) affine map of keyframe pixels to frame t, exact for the object's own plane.

        The plane through its middle that faces the keyframe's camera stands in for its surface.
        """
        key = path[frame].inv() * moved.motion[frame]
        middle = key.apply(moved.middle)
        corner = middle + 0.02 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
        move = path[t].inv() * moved.motion[t] * key.inv()
        source = pixels(scene.camera, corner).astype(np.float32)
        target = pixels(scene.camera, move.apply(corner)).astype(np.float32)
        return cv2.getAffineTransform(source, target)


def keyframes(moved: ObjectMotion, tracks: Tracks) -> NDArray[np.int64]:
    """(N,) the frame whose picture of each point serves as its template; -1 for none.

    The last search for corners before the motion in which the point was seen, because that view
    is nearest to those that follow; for a point that came later, the frame it was found in.
    """
    key = np.full(tracks.count, -1)
    placed = np.isfinite(moved.points).all(-1)
    for t in np.unique(tracks.start):
        seen = moved.inliers[t] & placed
        before = t < moved.start
        key[seen & (before | (key < 0))] = t
    return key


def correlation(a: NDArray, b: NDArray, at_a: NDArray, at_b: NDArray, size: int = 15) -> float:
    """Normalised correlation of two patches of `size` pixels, centred at sub-pixel places."""
    p = cv2.getRectSubPix(a, (size, size), (float(at_a[0]), float(at_a[1]))).astype(float)
    q = cv2.getRectSubPix(b, (size, size), (float(at_b[0]), float(at_b[1]))).astype(float)
    p -= p.mean()
    q -= q.mean()
    return float((p * q).sum() / (np.sqrt((p**2).sum() * (q**2).sum()) + 1e-9))
