"""Where the moved thing and the hands are: annotated, recorded, or drawn by the detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ego_ops.clip import Clip
from ego_ops.errors import Rejection
from ego_ops.geometry.view import Array, Index
from ego_ops.perception.decoded import Decoded
from ego_ops.perception.learned.choose import Chooser, Hands, hands_of
from ego_ops.perception.learned.detect import Detector, Found
from ego_ops.perception.learned.endpoint_answer import Located
from ego_ops.perception.learned.hands import MediaPipeHands
from ego_ops.perception.learned.segment import Prompts
from ego_ops.perception.localise import AnnotatedBoxes
from ego_ops.perception.scene import Scene
from ego_ops.perception.tracks import Tracks
from ego_ops.video import SLACK

HAND = "hand"
_FEWEST_JOINTS = 5
"""Joints of a recorded hand that must be in the picture for it to have a box there."""


@dataclass(frozen=True)
class Finder:
    """Turns what is known of a clip, and what the detector sees in it, into prompts for masks."""

    detector: Detector
    hands: Literal["detector", "mediapipe"] = "detector"
    """Who finds hands where none are recorded."""
    every: int = 5
    """Frames between those that the detector looks at."""
    chooser: Chooser = field(default_factory=Chooser)
    annotated: AnnotatedBoxes = field(default_factory=lambda: AnnotatedBoxes(margin=0.0))

    def find(
        self, clip: Clip, decoded: Decoded, located: Located | None, background: Tracks
    ) -> Prompts:
        """Boxes of the moved thing and of the hands.

        Args:
            located: when what is moved; None where the corpus has boxes and nothing else.
            background: tracks over the whole picture.

        Raises:
            Rejection: no box shows the thing (`no_object`).
            UserError: a checkpoint cannot be loaded, or MediaPipe is asked for and missing.
        """
        scene, steps = decoded.scene, len(decoded.images)
        boxes = self._annotated(clip, scene)
        hands = recorded_hands(scene)
        if hands is None and self.hands == "mediapipe":
            seen = MediaPipeHands().find(decoded.images)
            hands = Hands(seen.boxes(), seen.tips)
        noun = located.noun if boxes is None and located else ""
        phrases = [noun] * bool(noun) + [HAND] * (hands is None)
        looked = np.arange(0, steps, self.every)
        found = self._look(decoded, looked, phrases)
        if hands is None:
            hands = hands_of({t: _of(found[t], HAND) for t in found}, steps)
        if boxes is not None:
            return Prompts(boxes, hands.boxes, int(np.argmax(np.isfinite(boxes[:, 0]))))
        if located is None:
            raise Rejection("no_object", "no box of the thing is annotated, nor what it is")
        return self._chosen(scene, found, hands, located, background)

    def _look(self, decoded: Decoded, looked: Index, phrases: list[str]) -> dict[int, list[Found]]:
        if not phrases:
            return {}
        found = self.detector.boxes(decoded.images[looked], phrases)
        return dict(zip(looked.tolist(), found, strict=True))

    def _chosen(
        self,
        scene: Scene,
        found: dict[int, list[Found]],
        hands: Hands,
        located: Located,
        background: Tracks,
    ) -> Prompts:
        """The boxes of the thing that is moved, among all that the detector drew of the noun."""
        nouns = {t: _of(boxes, located.noun) for t, boxes in found.items()}
        inside = (scene.times > located.t_start - SLACK) & (scene.times < located.t_end + SLACK)
        chain = self.chooser.manipulated(
            nouns, inside, hands, background.xy, (scene.camera.width, scene.camera.height)
        )
        if chain is None:
            count = sum(bool(inside[t]) for t in found)
            raise Rejection(
                "no_object", f"{located.noun!r} is seen in none of {count} frames looked at"
            )
        return Prompts(chain.drawn(len(scene.times)), hands.boxes, chain.best)

    def _annotated(self, clip: Clip, scene: Scene) -> Array | None:
        """(T, 4) the corpus's boxes in the frames nearest to them; None where it has none."""
        drawn = self.annotated.exact(clip, scene)
        if drawn is None or not drawn.any():
            return None
        boxes = np.full((len(drawn), 4), np.nan)
        for t in np.flatnonzero(drawn.any((1, 2))):
            y, x = np.nonzero(drawn[t])
            boxes[t] = x.min(), y.min(), x.max(), y.max()
        return boxes


def recorded_hands(scene: Scene, margin: float = 0.15) -> Hands | None:
    """Recorded hands as the picture shows them; None where none are recorded.

    Args:
        margin: share of the joints' extent that is added on each side: they lie in the flesh.
    """
    path = scene.recording.path
    if path is None or not scene.recording.hands:
        return None
    poses = path.held(scene.clock).inv()
    boxes, tips = [], []
    for hand in scene.recording.hands:
        joints = hand.at(scene.clock)
        local = np.stack([pose.apply(points) for pose, points in zip(poses, joints, strict=True)])
        xy = scene.camera.project(np.nan_to_num(local, nan=-1.0))
        boxes.append(_around(scene, xy, margin))
        tips.append(xy[:, list(hand.tips)])
    return Hands(np.stack(boxes, 1), np.stack(tips, 1))


def _around(scene: Scene, xy: Array, margin: float) -> Array:
    """(T, 4) boxes around joints (T, J, 2) of a hand, cut at the picture's border."""
    boxes = np.full((len(xy), 4), np.nan)
    limit = np.array([scene.camera.width - 1, scene.camera.height - 1])
    for t, joints in enumerate(xy):
        seen = joints[np.isfinite(joints).all(-1)]
        if scene.camera.contains(seen).sum() >= _FEWEST_JOINTS:
            low, high = seen.min(0), seen.max(0)
            grow = margin * (high - low)
            corners = np.clip([low - grow, high + grow], 0, limit)
            boxes[t] = corners.ravel()
    return boxes


def _of(found: list[Found], phrase: str) -> list[Found]:
    return [one for one in found if one.phrase == phrase]
