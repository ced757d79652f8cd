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

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Retracker:
    """Finds an object's points again in each frame, given its motion so far."""

    window: int = 9
    """Pixels; small, since a wide window sees the background past the object's edge."""
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
        poses = path.inv() * moved.motion
        expected = pixels(
            scene.camera, scene.view(tracks, path).from_object(moved.motion).local(moved.points)
        )
        inside = scene.camera.contains(expected, 8)
        for frame in np.unique(key[key >= 0]):
            warps = self._warps(scene, poses, moved.middle, frame)
            for t in range(len(scene.times)):
                who = np.flatnonzero((key == frame) & inside[t])
                if t == frame or not len(who):
                    continue
                found = self._match(
                    scene.gray[frame],
                    scene.gray[t],
                    warps[t],
                    tracks.xy[frame, who],
                    expected[t, who],
                )
                good = np.isfinite(found[:, 0])
                xy[t, who[good]] = found[good]
        return Tracks(xy, np.isfinite(xy[..., 0]), tracks.start)

    def _match(
        self, keyframe: Image, frame: Image, warp: Array, seen: Array, expected: Array
    ) -> Array:
        """(n, 2) pixels in a frame of points `seen` (n, 2) in a keyframe; NaN for those not found.

        Args:
            warp: (2, 3) affine map of the keyframe's pixels to the frame's.
            expected: (n, 2) pixels where the motion puts the points, all inside the picture.
        """
        low = np.maximum(np.floor(expected.min(0)).astype(int) - self.margin, 0)
        high = np.ceil(expected.max(0)).astype(int) + self.margin
        patch = frame[low[1] : high[1], low[0] : high[0]]
        into = np.column_stack((warp[:, :2], warp[:, 2] - low))
        key = cv2.warpAffine(keyframe, into, patch.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        begin = (seen @ into[:, :2].T + into[:, 2]).astype(np.float32)[:, None]
        guess = (expected - low).astype(np.float32)[:, None]
        found, ok = self._flow(key, patch, begin, guess)
        back, ok_back = self._flow(patch, key, found, begin)
        good = ok & ok_back & (np.linalg.norm(back - begin, axis=-1)[:, 0] < 1.0)
        good &= np.linalg.norm(found - guess, axis=-1)[:, 0] < self.search
        for i in np.flatnonzero(good):
            good[i] = correlation(key, patch, begin[i, 0], found[i, 0]) > self.correlation
        return np.where(good[:, None], found[:, 0] + low, np.nan)

    def _flow(
        self, here: Image, there: Image, points: NDArray, guess: NDArray
    ) -> tuple[NDArray, NDArray[np.bool_]]:
        """Lucas-Kanade from a guess: (n, 1, 2) pixels and which (n,) were found."""
        found, ok, _ = cv2.calcOpticalFlowPyrLK(
            here, there, points, guess.copy(), winSize=(self.window, self.window), maxLevel=2,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        return found, ok[:, 0] > 0

    def _warps(self, scene: Scene, poses: RigidTransform, middle: Array, frame: int) -> Array:
        """(T, 2, 3) affine maps of a keyframe's pixels to every frame, exact for one plane.

        The plane through the object's middle that faces the keyframe's camera stands in for its
        surface.

        Args:
            poses: T poses that map the object's points, as they lay, to the camera.
        """
        corners = poses[frame].apply(middle) + 0.02 * np.eye(3)[[2, 0, 1]] * [[0], [1], [1]]
        source = pixels(scene.camera, corners).astype(np.float32)
        moves = poses * poses[frame].inv()
        places = np.einsum("tij,nj->tni", moves.rotation.as_matrix(), corners)
        target = pixels(scene.camera, places + moves.translation[:, None]).astype(np.float32)
        return np.stack([cv2.getAffineTransform(source, corner) for corner in target])


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
