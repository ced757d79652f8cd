"""Perception without weights: corners, triangulation, and what moves rigidly near a hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform

from ego_ops import corpora, extraction
from ego_ops.clip import Clip
from ego_ops.errors import AnnotationError, Rejection
from ego_ops.extraction import Perceived
from ego_ops.geometry.object_motion import first_frame, solve, world_points
from ego_ops.geometry.triangulate import first_motion, triangulate
from ego_ops.geometry.view import Mask, rms
from ego_ops.jpeg import encode_jpegs
from ego_ops.perception import DepthEstimator, Localizer, Segmenter, Tracker
from ego_ops.perception.anchors import AnchoredDepth
from ego_ops.perception.depth import RecordedDepth, TriangulatedDepth
from ego_ops.perception.ego_path import with_path
from ego_ops.perception.localise import AnnotatedBoxes, NearHands
from ego_ops.perception.retrack import Retracker
from ego_ops.perception.scene import BACKGROUND, OBJECT, Scene
from ego_ops.perception.segment import HELD, MovingGroup
from ego_ops.perception.track_lk import LucasKanade
from ego_ops.perception.tracks import Tracks
from ego_ops.pictures import pictures
from ego_ops.pipeline import Extraction
from ego_ops.recording import Recording
from ego_ops.video import SLACK, Frames

FEWEST_FRAMES = 12
"""Frames below which a clip is too short to see a thing lie, move and lie."""


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
        wide = self._wide(clip)
        try:
            return self._look(clip, wide)
        except AnnotationError:
            if wide is clip:
                raise
            return self._look(clip, clip)  # of what surrounds it, nothing was recorded

    def _wide(self, clip: Clip) -> Clip:
        """The clip with what surrounds it, as far as its interval is a tight one."""
        if clip.interval != "annotated":
            return clip
        lead = math.floor(min(self.lead, clip.t_start) * self.fps) / self.fps  # keeps the steps
        return replace(clip, t_start=clip.t_start - lead, t_end=clip.t_end + self.tail)

    def _look(self, clip: Clip, wide: Clip) -> Perceived:
        """Follow the object through `wide`, for a trajectory of `clip`."""
        recording = corpora.get(clip.corpus).recording(wide)
        frames, camera = pictures(
            wide, recording, (wide.t_start, wide.t_end),
            fps=self.fps, max_side=self.max_side, backend=self.decoder,
        )  # fmt: skip
        scene = _scene(frames, replace(recording, camera=camera))
        background = self.overview.track(scene.gray)
        scene, path = with_path(clip, scene, background)
        where = self._where(clip, scene)
        tracks = Tracks.joined([background, self.closeup.track(scene.gray, where)])
        tracks = tracks.select(tracks.visible.sum(0) >= 6)
        depth = _depth_estimator(scene).depth(scene, path, tracks)
        boxed = self.boxes.exact(clip, scene)
        labels = self.segmenter.segment(scene, path, tracks, depth, boxed)
        steps = (frames.times > clip.t_start - SLACK) & (frames.times < clip.t_end - SLACK)
        if steps.sum() < 2:
            raise Rejection("too_short", f"{steps.sum()} steps, two are needed")
        asked = replace(frames, images=frames.images[steps], times=frames.times[steps])
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
        frames: Frames,
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
            steps=frames.times,
            fps=frames.fps,
            frames=encode_jpegs(frames.images),
            camera=scene.recording.camera,
            object=scene.view(objects, path),
            points=points,
            start=start,
            background_rmse=float(np.median(rms(triangulate(still).residual))),
            clock_offset=scene.offset,
        )


def _scene(frames: Frames, recording: Recording) -> Scene:
    """The decoded frames, each once, with the camera scaled to them."""
    pts, kept = np.unique(frames.pts, return_index=True)
    if len(pts) < FEWEST_FRAMES:
        raise Rejection("too_short", f"{len(pts)} frames, {FEWEST_FRAMES} are needed")
    height, width = frames.images.shape[1:3]
    return Scene(frames.gray()[kept], pts, recording.camera.scaled(width, height), recording)


def _depth_estimator(scene: Scene) -> DepthEstimator:
    if scene.recording.depth is not None:
        return RecordedDepth()
    return TriangulatedDepth() if scene.recording.landmarks is None else AnchoredDepth()
