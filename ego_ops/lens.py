"""From the picture as it is stored to the upright pinhole picture that everything else works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import RigidTransform, Rotation

from ego_ops.camera import Camera
from ego_ops.errors import AnnotationError
from ego_ops.fisheye import Fisheye624

Array = NDArray[np.float64]

OUTSIDE = -1e4
"""Where a map points for pixels that the lens does not see: outside any picture."""

ROWS = 128
"""Rows of a map that are computed at once, which bounds the memory of a large picture's map."""

T_SENSOR_UPRIGHT = RigidTransform.from_rotation(
    Rotation.from_matrix([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
)
"""From the camera of the picture turned upright (90 degrees clockwise) to that of Aria's sensor,
which is mounted on its side: a quarter turn about the optical axis.
T_device_upright = T_device_camera * T_SENSOR_UPRIGHT."""


class Lens(Protocol):
    """A camera that is no upright pinhole: a fisheye, or one that is mounted on its side.

    Implementations are hashable, so that maps of one lens are made once a process.
    """

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored picture."""

    def __hash__(self) -> int: ...

    def stored(self, rays: Array) -> Array:
        """Pixels (..., 2) of the stored picture for points (..., 3) in the frame of the upright
        camera; pixel centres at whole numbers, NaN where the lens does not see."""


@dataclass(frozen=True)
class AriaLens:
    """An Aria RGB camera: a fisheye on its side, whose picture may be stored turned.

    The upright picture is the sensor's turned 90 degrees clockwise.
    """

    fisheye: Fisheye624
    """The calibration, which describes the sensor's picture."""
    turns: int
    """Clockwise quarter turns from the sensor's picture to the stored one: 0 in a VRS file, 1 in
    an MP4 that was turned upright."""

    def __post_init__(self) -> None:
        if self.turns not in range(4):
            raise AnnotationError(f"a picture is turned by 0 to 3 quarters, not {self.turns}")

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.fisheye.width, self.fisheye.height
        return (height, width) if self.turns % 2 else (width, height)

    def stored(self, rays: Array) -> Array:
        """See `Lens`."""
        rays = np.asarray(rays, dtype=float)
        sensor = np.stack((rays[..., 1], -rays[..., 0], rays[..., 2]), -1)  # T_SENSOR_UPRIGHT
        pixels = self.fisheye.project(sensor)
        x, y = pixels[..., 0], pixels[..., 1]
        width, height = self.fisheye.width, self.fisheye.height
        for _ in range(self.turns):
            x, y = height - 1 - y, x
            width, height = height, width
        return np.stack((x, y), -1)


def upright_pinhole(lens: AriaLens) -> Camera:
    """The upright pinhole that stands for an Aria lens.

    Its focal length is the fisheye's, so that the middle of the picture keeps its scale; its size
    is the sensor's, turned upright, with the principal point in the middle.
    """
    width, height = lens.fisheye.height, lens.fisheye.width
    focal_x, focal_y = lens.fisheye.fv, lens.fisheye.fu
    return Camera(focal_x, focal_y, width / 2 - 0.5, height / 2 - 0.5, width, height)


def rectify(images: NDArray[np.uint8], lens: Lens, camera: Camera) -> NDArray[np.uint8]:
    """Pictures as `camera` would have taken them.

    Args:
        images: (T, h, w, 3) stored pictures, of the lens's size or scaled from it.
        camera: pinhole of the pictures to make.

    Returns:
        (T, camera.height, camera.width, 3), black where the lens does not see.

    Raises:
        AnnotationError: the pictures' aspect ratio is not the lens's (to 2 %).
    """
    height, width = images.shape[1:3]
    where, fraction = _maps(lens, (width, height), camera)
    pictures = np.empty((len(images), camera.height, camera.width, 3), np.uint8)
    for image, picture in zip(images, pictures, strict=True):
        cv2.remap(image, where, fraction, cv2.INTER_LINEAR, dst=picture)
    return pictures


@lru_cache(maxsize=4)
def _maps(
    lens: Lens, size: tuple[int, int], camera: Camera
) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """OpenCV's fixed-point maps from pixels of `camera` to a stored picture of (width, height)."""
    sx, sy = size[0] / lens.size[0], size[1] / lens.size[1]
    if abs(sx / sy - 1) > 0.02:
        raise AnnotationError(
            f"the picture is {size[0]} x {size[1]}, its calibration is for "
            f"{lens.size[0]} x {lens.size[1]}: not the same aspect ratio"
        )
    stored = np.empty((camera.height, camera.width, 2), np.float32)
    for top in range(0, camera.height, ROWS):
        rows = np.arange(top, min(top + ROWS, camera.height))
        pixels = np.stack(np.meshgrid(np.arange(camera.width), rows), -1).astype(float)
        # A resize keeps the borders, half a pixel outside the outermost pixel centres.
        stored[rows] = (lens.stored(camera.rays(pixels)) + 0.5) * (sx, sy) - 0.5
    stored[~np.isfinite(stored).all(-1)] = OUTSIDE
    return cv2.convertMaps(stored, None, cv2.CV_16SC2)
