"""Pictures through a lens that is no pinhole: rendered with a wide pinhole, then bent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.synthetic.render import Studio
from ego_ops.synthetic.take import Take

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]
PIXELS = 1.44e6
"""Pixels that are rendered of each picture; the lens makes some 2 million of them at full size."""
_ROAM = 64
"""Pixels by which the sensor noise is shifted from frame to frame."""


class LensCamera:
    """Films a take through a lens.

    Args:
        rays: (H, W, 3) of the stored picture's pixels in the frame of the upright camera (any
            length, z > 0), NaN where the lens does not see.
        pixels: how many to render of each picture.

    Raises:
        UserError: there is nothing to render with.
    """

    def __init__(self, take: Take, rays: Floats, pixels: float = PIXELS):
        self._take = take
        flat = rays[..., :2] / rays[..., 2:]
        reach = np.nanmax(np.abs(flat), axis=(0, 1))
        self.focal = float(np.sqrt(pixels / np.prod(2 * reach)))
        """Of the pinhole that is rendered, pixels; its principal point is the middle."""
        width, height = (int(np.ceil(2 * side * self.focal)) + 2 for side in reach)
        middle = np.array([width - 1, height - 1]) / 2
        where = np.where(np.isnan(flat), -9.0, flat * self.focal + middle).astype(np.float32)
        self._map: tuple[Any, Any] = cv2.convertMaps(
            np.ascontiguousarray(where[..., 0]), np.ascontiguousarray(where[..., 1]), cv2.CV_16SC2
        )
        self._studio = Studio(take.scene, (width, height), self.focal)
        self._rng = np.random.default_rng([*take.scene.seed, 2])
        shape = (rays.shape[0] + _ROAM, rays.shape[1] + _ROAM, 3)
        self._grain = (1.5 * self._rng.standard_normal(shape, np.float32)).round().astype(np.int16)

    def __enter__(self) -> LensCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._studio.__exit__()

    def frames(self) -> Iterator[Image]:
        """(H, W, 3) RGB of every frame of the take, with sensor noise."""
        for image in self._studio.pictures(self._take.scene_times(self._take.times)):
            bent = self._bent(cv2.GaussianBlur(image, (0, 0), 0.5), cv2.INTER_LINEAR)
            y, x = self._rng.integers(0, _ROAM, 2)
            noise = self._grain[y : y + bent.shape[0], x : x + bent.shape[1]]
            yield np.asarray(cv2.add(bent, noise, dtype=cv2.CV_8U), np.uint8)

    def boxes(self, times: Floats) -> list[Box | None]:
        """(x0, y0, x1, y1) around what is seen of the carried thing at video `times`, in pixels
        of the stored picture; None where nothing is."""
        found: list[Box | None] = []
        for shot in self._studio.shots(self._take.scene_times(times)):
            rows, columns = np.nonzero(self._bent(shot.mask.astype(np.uint8), cv2.INTER_NEAREST))
            if len(rows):
                x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
                found.append((float(x0), float(y0), float(x1), float(y1)))
            else:
                found.append(None)
        return found

    def still(self, times: Floats) -> Iterator[tuple[Floats, Image]]:
        """Depth and picture of the pinhole that is rendered, at video `times`.

        Depth (h, w) is in metres, NaN where a hand or the carried thing is seen.
        """
        for shot in self._studio.shots(self._take.scene_times(times), depth=True):
            moves = cv2.dilate((shot.hands | shot.mask).astype(np.uint8), np.ones((9, 9), np.uint8))
            depth = np.asarray(shot.depth, float)
            yield np.where((moves > 0) | (depth > 8), np.nan, depth), shot.image

    def _bent(self, image: Image, interpolation: int) -> Image:
        out = cv2.remap(image, *self._map, interpolation, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(out, np.uint8)
