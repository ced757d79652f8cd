"""Depth of tracked points from a map of the place, where the clip itself has too little parallax.

Headsets with a tracking service keep the static points that they measured over the whole
recording (Aria's semi-dense points). Those that are seen beside a track tell how far away its
surface is, however still the head is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import RigidTransform

from ego_ops.camera import Camera
from ego_ops.errors import Rejection
from ego_ops.geometry.triangulate import first_motion
from ego_ops.geometry.view import Array, Index, View, rms
from ego_ops.perception.depth import TriangulatedDepth
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks


@dataclass(frozen=True)
class Surface:
    """How landmarks near a pixel vote on its depth."""

    nearest: int = 24
    """Landmarks that are asked, those nearest in the picture."""
    radius: float = 0.03
    """How near they must be, as a share of the picture's width."""
    least: int = 4
    """Landmarks that must lie on one surface."""
    thick: float = 0.08
    """Depth that one surface may span among them, as a share of it."""
    rough: float = 0.02
    """Their RMS distance from the plane fitted to them, likewise."""

    def depth(self, camera: Camera, landmarks: Array, seen: Array) -> Array:
        """(n,) metres along the optical axis at pixels `seen` (n, 2); NaN where none is sure.

        Of the landmarks beside a pixel those of the nearest surface that `least` of them agree on
        have a say: what lies behind it was measured from elsewhere. A plane through them, whose
        inverse depth is linear in the picture, gives the depth.

        Args:
            landmarks: (m, 3) in the camera frame, metres.
        """
        reach = self.radius * camera.width
        places = camera.project(landmarks)
        near = np.isfinite(places).all(-1) & (landmarks[:, 2] > 0.1)
        near[near] = camera.contains(places[near], -reach)
        places, depth = places[near], landmarks[near, 2]
        found = np.full(len(seen), np.nan)
        if len(places) < self.least:
            return found
        gap, index = cKDTree(places).query(seen, self.nearest, distance_upper_bound=reach)
        for i in range(len(seen)):
            who = index[i, np.isfinite(gap[i])]
            if len(who) >= self.least:
                found[i] = self._front(depth[who], (places[who] - seen[i]) / reach)
        return found

    def _front(self, depth: Array, offset: Array) -> float:
        """Metres at the middle of k landmarks, `offset` (k, 2) from it; NaN where unsure."""
        order = np.sort(depth)
        spans = order[self.least - 1 :] <= order[: len(order) - self.least + 1] * (1 + self.thick)
        if not spans.any():
            return np.nan
        first = order[int(np.argmax(spans))]
        front = (depth >= first) & (depth <= first * (1 + self.thick))
        rows = np.column_stack((np.ones(front.sum()), offset[front]))
        # A light pull to a plane that faces the camera, for landmarks along a line.
        pull = np.diag([0.0, 0.1, 0.1])
        plane = np.linalg.solve(rows.T @ rows + pull, rows.T @ (1 / depth[front]))
        miss = (1 / depth[front] - rows @ plane) * depth[front]
        inside = first * (1 - self.thick) < 1 / plane[0] < first * (1 + 2 * self.thick)
        return float(1 / plane[0]) if inside and np.sqrt(np.mean(miss**2)) < self.rough else np.nan


@dataclass(frozen=True)
class AnchoredDepth:
    """Triangulated depth and, for still tracks that it cannot place, that of recorded landmarks."""

    triangulated: TriangulatedDepth = field(default_factory=TriangulatedDepth)
    surface: Surface = field(default_factory=Surface)
    worst: float = 2.5
    """Pixels (RMS) by which a track may miss the still point that its landmarks make of it."""

    def depth(self, scene: Scene, camera_path: RigidTransform | None, tracks: Tracks) -> Array:
        """(T, N) metres in the frames in which a track was still; NaN elsewhere.

        Raises:
            Rejection: the camera path is not known, or there are no landmarks.
        """
        depth = self.triangulated.depth(scene, camera_path, tracks)
        landmarks = scene.recording.landmarks
        if landmarks is None or camera_path is None:
            raise Rejection("no_metric_scale", "no landmarks are recorded")
        who = np.flatnonzero(np.isnan(depth).all(0))
        view = scene.view(tracks.select(who), camera_path)
        moved = first_motion(view)
        last = np.where(moved < view.steps, moved - self.triangulated.back_off, view.steps)
        still = view.where(np.arange(view.steps)[:, None] < last)
        points = self._placed(still, landmarks)
        anchored = still.local(points)[..., 2]
        fits = rms(still.error(points)) < self.worst
        depth[:, who] = np.where(still.visible & fits & (anchored > 0), anchored, np.nan)
        return depth

    def _placed(self, still: View, landmarks: Array) -> Array:
        """(N, 3) of tracks in the world, each read in the middle of its still frames."""
        points = np.full((still.count, 3), np.nan)
        frames = _middle(still)
        for t in np.unique(frames[frames >= 0]):
            who = np.flatnonzero(frames == t)
            seen = still.xy[t, who]
            local = still.path[t].inv().apply(landmarks)
            depth = self.surface.depth(still.camera, local, seen)
            points[who] = still.path[t].apply(still.camera.rays(seen) * depth[:, None])
        return points


def _middle(view: View) -> Index:
    """(N,) the frame nearest to the middle of those that see each track, of every fifth frame
    where one of these does, so that few frames serve many tracks; -1 for a track never seen."""
    coarse = view.where((np.arange(view.steps) % 5 == 0)[:, None]).visible
    visible = np.where(coarse.any(0), coarse, view.visible)
    frame = np.arange(view.steps)[:, None]
    count = view.visible.sum(0)
    middle = (frame * view.visible).sum(0) / np.maximum(count, 1)
    gap = np.where(visible, np.abs(frame - middle), np.inf)
    return np.where(count > 0, gap.argmin(0), -1)
