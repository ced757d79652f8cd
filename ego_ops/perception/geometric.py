"""Perception without weights: corners, triangulation, and what moves rigidly near a hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops import extraction
from ego_ops.clip import Clip
from ego_ops.extraction import Asked, Perceived
from ego_ops.geometry.object_motion import first_frame, solve, world_points
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import Mask, rms
from ego_ops.perception import DepthEstimator, Localizer, Segmenter, Tracker
from ego_ops.perception.anchors import AnchoredDepth
from ego_ops.perception.decoded import Decoding
from ego_ops.perception.depth import RecordedDepth, TriangulatedDepth
from ego_ops.perception.ego_path import with_path
from ego_ops.perception.localise import AnnotatedBoxes, NearHands
from ego_ops.perception.retrack import Retracker
from ego_ops.perception.scene import BACKGROUND, OBJECT, Scene
from ego_ops.perception.segment import HELD, MovingGroup
from ego_ops.perception.surroundings import widened, with_surroundings
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks
from ego_ops.pipeline import Extraction


@dataclass(frozen=True)
class GeometricPipeline:
    """The pipeline behind `--perception geometric`: no weights, no download, CPU only."""

    fps: float = 20.0
    """Steps a second; videos of a lower rate keep their own."""
    max_side: int = 960
    """Pixels of the longer side that tracking works at."""
    decoder: Literal["pyav", "decord"] = "pyav"
    """`pyav` or `decord`."""
    lead: float = 1.0
    """Seconds looked at before an annotated interval, in which the thing still lies: an annotator
    begins with the touch, but what a thing's place and shape can be told from comes before it."""
    tail: float = 0.3
    """Seconds looked at after an annotated interval."""
    overview: Tracker = field(default_factory=lambda: LucasKanade(every=20, most=200, spacing=15))
    """Tracks over the whole picture, for the background."""
    closeup: Tracker = field(default_factory=LucasKanade)
    """Tracks where the object may be."""
    boxes: AnnotatedBoxes = field(default_factory=AnnotatedBoxes)
    """Say where to look, and what the object is not."""
    hands: Localizer = field(default_factory=NearHands)
    """Says where to look where there is no box; everywhere where it cannot either."""
    segmenter: Segmenter = field(default_factory=MovingGroup)
    retracker: Retracker = field(default_factory=Retracker)

    def perceive(self, clip: Clip) -> Perceived:
        """Decode a clip and follow its manipulated object.

        Raises:
            ClipError: the clip's files cannot be used.
            Rejection: there is nothing in it that can be followed.
        """
        cv2.setNumThreads(1)  # processes are parallel, one a core
        wide = widened(clip, self.lead, self.tail, self.fps)
        return with_surroundings(clip, wide, lambda wide: self._look(clip, wide))

    def _look(self, clip: Clip, wide: Clip) -> Perceived:
        """Follow the object through `wide`, for a trajectory of `clip`."""
        decoded = Decoding(self.fps, self.max_side, self.decoder)(wide)
        background = self.overview.track(decoded.scene.gray)
        scene, path = with_path(clip, decoded.scene, background)
        where = self._where(clip, scene)
        tracks = Tracks.joined([background, self.closeup.track(scene.gray, where)])
        tracks = tracks.select(tracks.visible.sum(0) >= 6)
        depth = _depth_estimator(scene).depth(scene, path, tracks)
        boxed = self.boxes.exact(clip, scene)
        labels = self.segmenter.segment(scene, path, tracks, depth, boxed)
        asked = decoded.asked((clip.t_start, clip.t_end))
        return self._perceived(asked, scene, path, tracks, depth, labels)

    def solve(self, clip: Clip, perceived: Perceived) -> Extraction:
        """The object's trajectory from its tracks.

        Raises:
            Rejection: the trajectory cannot be right, or nobody can vouch for it.
        """
        return extraction.extract(perceived)

    def _where(self, clip: Clip, scene: Scene) -> Mask | None:
        for localizer in (self.boxes, self.hands):
            where = localizer.localise(clip, scene)
            if where is not None:
                return where
        return None

    def _perceived(
        self,
        asked: Asked,
        scene: Scene,
        path: RigidTransform,
        tracks: Tracks,
        depth: NDArray[np.float64],
        labels: NDArray[np.int8],
    ) -> Perceived:
        """Keep what geometry needs, with the object's points sought once more in every frame."""
        chosen = np.flatnonzero((labels == OBJECT) | (labels == HELD))
        objects = tracks.select(chosen)
        view = scene.view(objects, path)
        onset = first_motion(view)
        points = world_points(view, depth[:, chosen], onset)
        start = first_frame(onset[np.isfinite(points[:, 0])])
        for _ in range(2):
            moved = solve(scene.view(objects, path), points, start)
            objects = self.retracker.retrack(scene, path, moved, objects)
            points = moved.points
        own = labels[chosen] == OBJECT
        objects, points = objects.select(own), points[own]
        still = scene.view(tracks.select(np.flatnonzero(labels == BACKGROUND)[:200]), path)
        return Perceived(
            asked=asked,
            object=scene.view(objects, path),
            points=points,
            start=start,
            background_rmse=float(np.median(rms(triangulate(still).residual))),
            clock_offset=scene.offset,
        )


def _depth_estimator(scene: Scene) -> DepthEstimator:
    if scene.recording.depth is not None:
        return RecordedDepth()
    return TriangulatedDepth() if scene.recording.landmarks is None else AnchoredDepth()
