"""Where the manipulated object may be, without a network: annotated boxes, or near the hands."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera
from ego_ops.clip import Box, Clip
from ego_ops.geometry.view import Array, Mask
from ego_ops.perception.scene import Scene

COARSE = 4
"""Pixels of the tracking picture to one at which boxes are drawn."""


@dataclass(frozen=True)
class AnnotatedBoxes:
    """The corpus's own boxes of the object, each at its time."""

    margin: float = 0.1
    """Share of a box's size that is added on each side."""
    slack: float = 0.1
    """Seconds outside the clip at which a box still counts as one of its first or last frame."""
    lasts: float = 1.0
    """Seconds before and after its time for which a box says where to look."""
    drift: float = 0.5
    """Share of a box's size by which what it shows may leave it in one second."""

    def localise(self, clip: Clip, scene: Scene) -> Mask | None:
        """(T, H, W) places to look for points: the box nearest in time, grown by how far off it
        is. None where no box lies in the clip."""
        boxes = self._inside(clip, scene)
        if not boxes:
            return None
        where = np.zeros(scene.gray.shape, bool)
        stored = _stored(scene)
        for t, time in enumerate(scene.times):
            box = min(boxes, key=lambda box: abs(box.t - time))
            gap = abs(box.t - time)
            if gap <= self.lasts:
                where[t] = _covered(box, self.margin + self.drift * gap, stored, where.shape[1:])
        return where

    def exact(self, clip: Clip, scene: Scene) -> Mask | None:
        """(T, H, W) the boxes in the frame nearest to each, empty in the others; None likewise."""
        boxes = self._inside(clip, scene)
        if not boxes:
            return None
        where = np.zeros(scene.gray.shape, bool)
        stored = _stored(scene)
        for box in boxes:
            t = int(np.argmin(np.abs(scene.times - box.t)))
            where[t] |= _covered(box, self.margin, stored, where.shape[1:])
        return where

    def _inside(self, clip: Clip, scene: Scene) -> list[Box]:
        first, last = scene.times[0] - self.slack, scene.times[-1] + self.slack
        return [box for box in clip.boxes if first <= box.t <= last]


@dataclass(frozen=True)
class NearHands:
    """Around the places that recorded fingertips come to in the clip."""

    radius: float = 0.2
    """Metres around a fingertip."""

    def localise(self, clip: Clip, scene: Scene) -> Mask | None:
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


def _stored(scene: Scene) -> Array:
    """(h, w, 2) pixels of the stored picture that those of the tracking picture show, one in
    `COARSE` each way; NaN where the lens does not see."""
    height, width = scene.gray.shape[1:]
    middle = (COARSE - 1) / 2
    x, y = np.meshgrid(
        np.arange(middle, width + middle, COARSE), np.arange(middle, height + middle, COARSE)
    )
    rays = scene.camera.rays(np.stack((x, y), -1))
    lens = scene.recording.lens
    return scene.recording.camera.project(rays) if lens is None else lens.stored(rays)


def _covered(box: Box, margin: float, stored: Array, shape: tuple[int, ...]) -> Mask:
    """(H, W) pixels that show what lies in a box, grown by `margin` of its size on each side."""
    low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
    grow = margin * (high - low)
    with np.errstate(invalid="ignore"):
        inside = ((stored >= low - grow) & (stored <= high + grow)).all(-1)
    size = (inside.shape[1] * COARSE, inside.shape[0] * COARSE)
    drawn = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return drawn[: shape[0], : shape[1]] > 0


def _paint(mask: NDArray, camera: Camera, points: NDArray, radius: float) -> None:
    """Fill the discs that balls of `radius` metres around points (n, 3) cover."""
    points = points[points[:, 2] > 0.1]
    for (x, y), z in zip(camera.project(points), points[:, 2], strict=True):
        if abs(x) < 1e5 and abs(y) < 1e5:
            cv2.circle(mask, (round(x), round(y)), round(radius * camera.fx / z), 1, -1)
