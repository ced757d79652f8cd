"""JPEGs of frames: letterboxed, centred, readable by any decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ego_ops.jpeg import encode_jpegs


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("height", "width", "inside"),
    [
        (540, 960, (slice(49, 175), slice(0, 224))),
        (960, 540, (slice(0, 224), slice(49, 175))),
        (300, 300, (slice(0, 224), slice(0, 224))),
        (48, 64, (slice(28, 196), slice(0, 224))),
    ],
)
def test_the_picture_is_centred_on_black(height: int, width: int, inside: tuple) -> None:
    image = np.full((height, width, 3), (200, 100, 30), np.uint8)
    (data,) = encode_jpegs([image])
    result = decoded(data).astype(int)
    assert result.shape == (224, 224, 3)
    expected = np.zeros((224, 224, 3))
    expected[inside] = (200, 100, 30)
    inner = np.abs(result - expected).max(axis=2)
    assert np.median(inner) <= 2
    assert (inner > 24).mean() < 0.02  # ringing at the edge of the bars only


def test_content_keeps_its_place() -> None:
    image = np.zeros((450, 900, 3), np.uint8)
    image[:225, :450], image[225:, 450:] = (255, 0, 0), (0, 0, 255)
    (data,) = encode_jpegs([image], size=100)
    result = decoded(data)
    assert result.shape == (100, 100, 3)
    assert result[37, 25].argmax() == 0
    assert result[37, 25].max() > 200
    assert result[62, 75].argmax() == 2
    assert result[62, 25].max() < 40


def test_quality_trades_size() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), dtype=np.uint8)
    fine, coarse = encode_jpegs(noise, quality=95), encode_jpegs(noise, quality=30)
    assert len(fine) == len(coarse) == 3
    assert all(len(a) > 2 * len(b) for a, b in zip(fine, coarse, strict=True))
    with pytest.raises(ValueError, match="quality"):
        encode_jpegs(noise, quality=0)
