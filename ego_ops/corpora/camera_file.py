"""A camera's calibration in a file of our own, for video that no corpus describes.

JSON, in pixels of the upright picture, pixel centres at whole numbers as OpenCV has them:

    {"width": 1920, "height": 1080, "fx": 1350.2, "fy": 1349.8, "cx": 958.1, "cy": 541.7,
     "model": "opencv", "distortion": [-0.21, 0.07, 0.0004, -0.0002, 0.0]}

`model` is `pinhole` (the default, without distortion), `opencv` or `opencv_fisheye`. `egoscaler
calibrate` writes such a file.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any, cast

import fsspec

from ego_ops.camera import Camera
from ego_ops.errors import AnnotationError, MissingFileError
from ego_ops.lens import Lens
from ego_ops.lens_opencv import COUNTS, Model, OpenCVLens

_NUMBERS = ("width", "height", "fx", "fy", "cx", "cy")


@functools.lru_cache(maxsize=256)
def read(path: str) -> tuple[Camera, Lens | None]:
    """The pinhole of a camera file, and its lens where it has distortion.

    Raises:
        MissingFileError: there is no such file.
        AnnotationError: it is not JSON, or its numbers are no camera.
    """
    try:
        with fsspec.open(path, "rb") as file:
            content = json.loads(file.read())
    except OSError as error:
        raise MissingFileError(f"{path}: {error.strerror or 'no such file'}") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: not JSON ({error})") from error
    try:
        return parse(content)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None


def parse(content: Any) -> tuple[Camera, Lens | None]:
    """The camera that such a JSON object says; raises AnnotationError where it is none."""
    if not isinstance(content, dict):
        raise AnnotationError("not a JSON object with fx, fy, cx, cy, width, height")
    values = []
    for name in _NUMBERS:
        value = content.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise AnnotationError(f"{name} is {value!r}, not a number")
        values.append(value)
    width, height, fx, fy, cx, cy = values
    if min(width, height) < 1 or not (0 < cx < width and 0 < cy < height):
        raise AnnotationError(f"principal point {cx:g}, {cy:g} is not in {width:g} x {height:g}")
    if not all(0.05 < f / max(width, height) < 20 for f in (fx, fy)):
        raise AnnotationError(f"focal length {fx:g}, {fy:g} pixels cannot be, for {width:g} pixels")
    camera = Camera(float(fx), float(fy), float(cx), float(cy), int(width), int(height))
    model = content.get("model", "pinhole")
    if model == "pinhole":
        return camera, None
    if model not in COUNTS:
        known = ", ".join(("pinhole", *COUNTS))
        raise AnnotationError(f"camera model {model!r} is not known (known: {known})")
    distortion = content.get("distortion")
    if not isinstance(distortion, list) or not all(isinstance(d, int | float) for d in distortion):
        raise AnnotationError(f"distortion is {distortion!r}, not a list of numbers")
    return camera, OpenCVLens.of(cast(Model, model), camera, distortion)
