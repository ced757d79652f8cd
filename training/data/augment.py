"""Pictures as training sees them: fitted to the model, and each sample changed by chance.

The changes are openpi's: cameras that are not on a wrist are cropped to 95 %, scaled back and
turned by up to 5 degrees; all have brightness, contrast and saturation changed. Crop, scale and
turn are one resampling here, and so are the colours one matrix, clipped once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.jpeg import letterbox

CROP = 0.95
TURN_RAD = math.radians(5)
BRIGHTNESS, CONTRAST, SATURATION = 0.3, 0.4, 0.5
_GREY = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""


@dataclass(frozen=True)
class View:
    """How a picture is framed."""

    scale: float = 1.0
    """Side of what is cut out, of the picture's."""
    left: float = 0.0
    """Where it is cut out: 0 at the left, 1 at the right end of where it can be."""
    top: float = 0.0
    turn: float = 0.0
    """Radians that the picture is turned by, about its centre, as seen clockwise."""


@dataclass(frozen=True)
class Colours:
    """Factors; 1 leaves a picture as it is."""

    brightness: float = 1.0
    contrast: float = 1.0
    """Of the difference to the picture's mean."""
    saturation: float = 1.0
    """Of the difference to grey."""


def draw_view(chance: np.random.Generator) -> View:
    """How to frame one picture."""
    left, top, turn = chance.random(3)
    return View(CROP, float(left), float(top), float(2 * turn - 1) * TURN_RAD)


def draw_colours(chance: np.random.Generator) -> Colours:
    """How to colour one picture."""
    sides = 2 * chance.random(3) - 1
    factors = 1 + sides * np.array([BRIGHTNESS, CONTRAST, SATURATION])
    return Colours(*factors.tolist())


def augment(
    image: NDArray[np.uint8], chance: np.random.Generator, wrist: bool
) -> NDArray[np.uint8]:
    """Change an (H, W, 3) RGB picture; one on a wrist only in its colours."""
    if not wrist:
        image = framed(image, draw_view(chance))
    return coloured(image, draw_colours(chance))


def framed(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Cut out of an (H, W, 3) picture, scale back to (H, W, 3), then turn. Outside is black."""
    height, width = image.shape[:2]
    cos, sin = math.cos(view.turn), math.sin(view.turn)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    # From a pixel of the result back to the picture: turned back, then into the cut. Pixel centres
    # are at whole numbers, so that the picture begins at -0.5.
    back = view.scale * np.array([[cos, sin], [-sin, cos]])
    room = (1 - view.scale) * np.array([width, height])
    corner = room * np.array([view.left, view.top]) + 0.5 * view.scale - 0.5
    shift = corner + view.scale * centre - back @ centre
    return cv2.warpAffine(
        image,
        np.column_stack([back, shift]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )


def coloured(image: NDArray[np.uint8], colours: Colours) -> NDArray[np.uint8]:
    """Change brightness, then contrast, then saturation of an (H, W, 3) RGB picture."""
    mean = colours.brightness * float(np.mean(cv2.mean(image)[:3]))
    gain = colours.brightness * colours.contrast
    saturation = colours.saturation
    matrix = gain * (saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1)))
    offset = np.full((3, 1), (1 - colours.contrast) * mean)
    return cv2.transform(image, np.hstack([matrix, offset]))


def fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """An (H, W, 3) picture as (size, size, 3): scaled, aspect kept, centred on black."""
    if image.shape[:2] == (size, size):
        return image
    return letterbox(image, size)
