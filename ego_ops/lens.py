"""From the picture as it is stored to the upright pinhole picture that everything else works on."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.camera import Camera

Array = NDArray[np.float64]


class Lens(Protocol):
    """A camera that is no upright pinhole: a fisheye, or one that is mounted on its side.

    Implementations are hashable, so that maps of one lens are made once a process.
    """

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored picture."""

    def stored(self, rays: Array) -> Array:
        """Pixels (..., 2) of the stored picture for points (..., 3) in the frame of the upright
        camera; pixel centres at whole numbers, NaN where the lens does not see."""


def rectify(images: NDArray[np.uint8], lens: Lens, camera: Camera) -> NDArray[np.uint8]:
    """Pictures as `camera` would have taken them.

    Args:
        images: (T, h, w, 3) stored pictures, of the lens's size or scaled from it.
        camera: pinhole of the pictures to make.

    Returns:
        (T, camera.height, camera.width, 3), black where the lens does not see.
    """
