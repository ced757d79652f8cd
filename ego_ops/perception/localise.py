"""Where the manipulated object may be, without a network: annotated boxes, or near the hands."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera
from ego_ops.clip import Clip
from ego_ops.perception.scene import Scene


@dataclass(frozen=True)
class AnnotatedBoxes:
    """The corpus's own boxes of the object, each at its time."""

    margin: float = 0.1
    """Share of a box's size that is added on each side."""

    def localise(self, clip: Clip, scene: Scene) -> NDArray[np.bool_] | None:
        """(T, H, W), true inside the boxes in the frame nearest to each; None without boxes."""
        if not clip.boxes:
            return None
        full = scene.recording.camera
        scale = scene.camera.width / full.width
        mask = np.zeros(scene.gray.shape, bool)
        for box in clip.boxes:
            t = int(np.argmin(np.abs(scene.times - box.t)))
            grow_x, grow_y = self.margin * (box.x1 - box.x0), self.margin * (box.y1 - box.y0)
            x0, x1 = np.clip([box.x0 - grow_x, box.x1 + grow_x], 0, full.width) * scale
            y0, y1 = np.clip([box.y0 - grow_y, box.y1 + grow_y], 0, full.height) * scale
            mask[t, round(y0) : round(y1) + 1, round(x0) : round(x1) + 1] = True
        return mask


@dataclass(frozen=True)
class NearHands:
    """Around the places that recorded fingertips come to in the clip."""

    radius: float = 0.2
    """Metres around a fingertip."""

    def localise(self, clip: Clip, scene: Scene) -> NDArray[np.bool_] | None:
        """(T, H, W), true near any place a fingertip visits; None where no hand is recorded."""
        tips = scene.fingertips()
        path = scene.recording.path
        if not tips.size or path is None:
            return None
        places = tips.reshape(-1, 3)
        places = _thinned(places[np.isfinite(places).all(-1)])
        mask = np.zeros(scene.gray.shape, np.uint8)
        for t, pose in enumerate(path.at(scene.clock)):
            _paint(mask[t], scene.camera, pose.inv().apply(places), self.radius)
        return mask > 0


def _thinned(points: NDArray, cell: float = 0.05) -> NDArray:
    """One point per cube of `cell` metres."""
    _, first = np.unique(np.floor(points / cell).astype(int), axis=0, return_index=True)
    return points[np.sort(first)]


def _paint(mask: NDArray, camera: Camera, points: NDArray, radius: float) -> None:
    """Fill the discs that balls of `radius` metres around points (n, 3) cover."""
    points = points[points[:, 2] > 0.1]
    for (x, y), z in zip(camera.project(points), points[:, 2], strict=True):
        if abs(x) < 1e5 and abs(y) < 1e5:
            cv2.circle(mask, (round(x), round(y)), round(radius * camera.fx / z), 1, -1)
