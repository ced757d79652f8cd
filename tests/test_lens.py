"""Rectification: a scene through a fisheye, turned and scaled, against a pinhole's own view."""

import cv2
import numpy as np
import pytest

from ego_ops import lens as lenses
from ego_ops.camera import Camera
from ego_ops.errors import AnnotationError
from ego_ops.fisheye import Fisheye624
from ego_ops.lens import T_SENSOR_UPRIGHT, AriaLens, rectify, upright_pinhole

PARAMS = (
    *(303.5, 359.2, 351.3),
    *(0.404986, -0.496066, 0.236689, 0.994819, -1.57395, 0.608673),
    *(-0.000367219, -0.000741391, -0.000583998, -0.000219341, 0.000193627, -0.000204247),
)
FISHEYE = Fisheye624.from_params(PARAMS, 704, 704, 353.75)
OBLONG = Fisheye624.from_params((300.0, 330.0, 310.0, 250.0, *PARAMS[3:]), 640, 480)


def scene(directions: np.ndarray) -> np.ndarray:
    """Smooth colours, different everywhere, by the direction of the ray in the upright camera."""
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    x, y = unit[..., 0], unit[..., 1]
    colours = (np.sin(9 * x + 2), np.sin(8 * y - 1), np.sin(6 * x - 7 * y))
    return np.nan_to_num(128 + 100 * np.stack(colours, -1)).astype(np.uint8)


def grid(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float)


def taken_by(fisheye: Fisheye624, turns: int) -> np.ndarray:
    """The picture of `scene` as stored: unprojected pixel by pixel, then turned as an array."""
    sensor = fisheye.unproject(grid(fisheye.width, fisheye.height))
    upright = T_SENSOR_UPRIGHT.inv().apply(sensor.reshape(-1, 3)).reshape(sensor.shape)
    return np.rot90(scene(upright), -turns).copy()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("fisheye", [FISHEYE, OBLONG])
def test_a_rectified_fisheye_is_the_pinholes_own_view(fisheye, turns):
    lens = AriaLens(fisheye, turns)
    stored = taken_by(fisheye, turns)
    assert lens.size == stored.shape[1::-1]
    camera = upright_pinhole(lens)
    rays = camera.rays(grid(camera.width, camera.height))
    (picture,) = rectify(stored[None], lens, camera)
    known = cv2.erode((stored.max(-1) > 0).astype(np.uint8), np.ones((3, 3)))
    x, y = np.nan_to_num(lens.stored(rays), nan=-9).astype(np.float32).transpose(2, 0, 1)
    inside = cv2.remap(known, x, y, cv2.INTER_NEAREST) > 0
    inside &= (x >= 1) & (y >= 1) & (x <= lens.size[0] - 2) & (y <= lens.size[1] - 2)
    assert inside.mean() > 0.6
    difference = np.abs(picture.astype(int) - scene(rays))[inside]
    assert difference.max() <= 3
    assert difference.mean() < 1


@pytest.mark.parametrize("turns", [0, 1])
def test_scaled_pictures_and_other_pinholes(turns):
    lens = AriaLens(FISHEYE, turns)
    full = taken_by(FISHEYE, turns)
    camera = Camera(170.0, 165.0, 130.0, 100.0, 256, 192)
    direct = scene(camera.rays(grid(256, 192)))
    half = cv2.resize(full, (352, 352), interpolation=cv2.INTER_AREA)
    for stored in (full, half):
        pictures = rectify(np.stack([stored, stored[::-1]]), lens, camera)
        assert pictures.shape == (2, 192, 256, 3)
        assert np.abs(pictures[0].astype(int) - direct).max() <= 4
        assert np.abs(pictures[1].astype(int) - direct).max() > 50


def test_upright_is_the_sensors_picture_turned_clockwise():
    """What the sensor sees at its left edge is at the top of the upright picture."""
    lens = AriaLens(FISHEYE, 0)
    up = lens.stored([0.0, -0.5, 1.0])
    right = lens.stored([0.5, 0.0, 1.0])
    assert up[0] < FISHEYE.cu - 100
    assert abs(up[1] - FISHEYE.cv) < 2
    assert right[1] < FISHEYE.cv - 100
    assert abs(right[0] - FISHEYE.cu) < 2
    rays = np.random.default_rng(0).normal(size=(50, 3)) + [0, 0, 3]
    np.testing.assert_allclose(lens.stored(rays), FISHEYE.project(T_SENSOR_UPRIGHT.apply(rays)))


def test_black_where_the_lens_does_not_see():
    camera = Camera(60.0, 60.0, 150.0, 150.0, 301, 301)  # 68 degrees to the middle of each side
    lens = AriaLens(FISHEYE, 0)
    (picture,) = rectify(np.full((1, 704, 704, 3), 200, np.uint8), lens, camera)
    angle = np.arctan(np.hypot(*(grid(301, 301) - 150).transpose(2, 0, 1)) / 60)
    limit = np.arccos(FISHEYE.unproject([FISHEYE.cu + 353, FISHEYE.cv])[2])
    assert not picture[angle > limit + 0.03].any()
    assert (picture[angle < limit - 0.03] == 200).all()


def test_a_map_is_made_once():
    lenses._maps.cache_clear()
    camera = upright_pinhole(AriaLens(FISHEYE, 1))
    for _ in range(3):
        rectify(np.zeros((2, 352, 352, 3), np.uint8), AriaLens(FISHEYE, 1), camera)
    rectify(np.zeros((2, 704, 704, 3), np.uint8), AriaLens(FISHEYE, 1), camera)
    assert lenses._maps.cache_info()[:2] == (2, 2)


def test_the_pinhole_of_a_lens():
    camera = upright_pinhole(AriaLens(OBLONG, 0))
    assert (camera.width, camera.height) == (480, 640)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (330.0, 300.0, 239.5, 319.5)


def test_what_does_not_fit_is_said():
    with pytest.raises(AnnotationError, match="aspect ratio"):
        rectify(
            np.zeros((1, 480, 640, 3), np.uint8), AriaLens(FISHEYE, 0), Camera(9, 9, 4, 4, 9, 9)
        )
    with pytest.raises(AnnotationError, match="quarters"):
        AriaLens(FISHEYE, 4)
