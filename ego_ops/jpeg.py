"""Small JPEGs of frames, letterboxed as openpi's models expect their images, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) image to fit (size, size, 3), aspect kept, centred on black."""
    height, width = image.shape[:2]
    ratio = max(height, width) / size
    new_height, new_width = max(1, int(height / ratio)), max(1, int(width / ratio))
    method = cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR
    framed = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    framed[top : top + new_height, left : left + new_width] = cv2.resize(
        image, (new_width, new_height), interpolation=method
    )
    return framed


def encode_jpegs(
    images: Iterable[NDArray[np.uint8]], size: int = 224, quality: int = 90
) -> list[bytes]:
    """Encode (H, W, 3) RGB images as letterboxed JPEGs of `size` x `size` pixels.

    Raises:
        ValueError: `quality` is not within 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must be within 1 to 100, not {quality}")
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    jpegs = []
    for image in images:
        bgr = cv2.cvtColor(letterbox(image, size), cv2.COLOR_RGB2BGR)
        jpegs.append(cv2.imencode(".jpg", bgr, parameters)[1].tobytes())
    return jpegs


def decode(file: Any) -> NDArray[np.uint8] | None:
    """A JPEG or PNG file's bytes as an (H, W, 3) RGB image; None if they are not a whole one.

    Args:
        file: bytes, or anything with a buffer of them; None is no file.
    """
    data = np.frombuffer(file, np.uint8) if file is not None else np.empty(0, np.uint8)
    # Of nothing at all OpenCV makes an exception.
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    return cast("NDArray[np.uint8] | None", image)
