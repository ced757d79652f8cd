"""Augmentation: crops, turns and colours against what they must be, pixel by pixel."""

from __future__ import annotations

import math
import time

import cv2
import numpy as np
import pytest

from training.data.augment import (
    CROP,
    TURN_RAD,
    Colours,
    View,
    augment,
    coloured,
    draw_colours,
    draw_view,
    fitted,
    framed,
)
from training.data.keyed import philox

SIDE = 224


def chance(*key: int) -> np.random.Generator:
    return np.random.Generator(philox(*key))


def scene(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def ramp() -> np.ndarray:
    """Red grows with x, green with y, at half a level a pixel, about 60."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([60 + x / 2, 60 + y / 2, np.full_like(x, 128, float)], axis=2).astype(np.uint8)


def where(image: np.ndarray) -> np.ndarray:
    """Read off a framed ramp which pixel (x, y) of the ramp each came from, to a pixel."""
    return (image[..., :2].astype(float) + 0.25 - 60) * 2


def test_nothing_asked_for_changes_nothing():
    image = scene()
    assert (framed(image, View()) == image).all()
    assert (coloured(image, Colours()) == image).all()


@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (1.0, 1.0), (0.25, 0.8)])
def test_a_crop_is_the_part_it_says_scaled_up(left, top):
    found = where(framed(ramp(), View(scale=0.5, left=left, top=top)))
    # Edges of the cut lie on edges of the picture: a pixel p covers p - 0.5 to p + 0.5.
    pixels = (np.arange(SIDE) + 0.5) / 2 - 0.5
    assert np.abs(found[10:-10, 10:-10, 0] - (pixels + left * SIDE / 2)[None, 10:-10]).max() < 1.6
    assert np.abs(found[10:-10, 10:-10, 1] - (pixels + top * SIDE / 2)[10:-10, None]).max() < 1.6


def test_a_crop_equals_that_of_slicing_and_resizing():
    image = scene()
    cut = image[28:140, 56:168]  # 112 of 224 pixels: room of 112
    wanted = cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(int)
    found = framed(image, View(scale=0.5, left=0.5, top=0.25)).astype(int)
    assert np.abs(found - wanted)[2:-2, 2:-2].max() <= 3


def test_a_quarter_turn_moves_the_top_to_the_right():
    image = scene()
    turned = framed(image, View(turn=math.pi / 2))
    assert np.abs(turned.astype(int) - np.rot90(image, -1).astype(int)).max() <= 1


def test_a_turn_of_a_crop_turns_what_the_crop_shows():
    image, view = scene(), View(0.95, 0.3, 0.9, math.radians(4))
    cropped = framed(image, View(view.scale, view.left, view.top))
    both = framed(image, view).astype(int)
    after = framed(cropped, View(turn=view.turn)).astype(int)
    assert np.abs(both - after)[16:-16, 16:-16].mean() < 0.7  # OpenCV rounds the matrix too


def test_outside_the_picture_is_black():
    found = framed(np.full((SIDE, SIDE, 3), 255, np.uint8), View(turn=math.radians(45)))
    assert (found[0, 0] == 0).all()
    assert (found[SIDE // 2, SIDE // 2] == 255).all()


def test_colours_are_what_they_say():
    image = scene().astype(np.uint8) // 2 + 40  # away from black and white
    exact = image.astype(float)
    mean = exact.mean()
    grey = exact @ [0.299, 0.587, 0.114]
    for colours, wanted in (
        (Colours(brightness=1.2), exact * 1.2),
        (Colours(contrast=0.6), (exact - mean) * 0.6 + mean),
        (Colours(saturation=0.0), np.repeat(grey[..., None], 3, axis=2)),
        (Colours(saturation=1.2), np.clip(exact * 1.2 - 0.2 * grey[..., None], 0, 255)),
        (Colours(0.8, 1.3, 0.5), None),
    ):
        found = coloured(image, colours).astype(float)
        if wanted is None:
            bright = exact * 0.8
            harsh = (bright - bright.mean()) * 1.3 + bright.mean()
            level = (harsh @ [0.299, 0.587, 0.114])[..., None]
            wanted = np.clip((harsh - level) * 0.5 + level, 0, 255)
        assert np.abs(found - wanted).max() < 0.7  # OpenCV rounds the matrix too


def test_what_is_drawn_stays_within_its_bounds_and_fills_them():
    views = [draw_view(chance(1, n)) for n in range(400)]
    assert {view.scale for view in views} == {CROP}
    for name, low, high in (("left", 0, 1), ("top", 0, 1), ("turn", -TURN_RAD, TURN_RAD)):
        values = np.array([getattr(view, name) for view in views])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
    factors = np.array([list(vars(draw_colours(chance(2, n))).values()) for n in range(400)])
    for values, width in zip(factors.T, (0.3, 0.4, 0.5), strict=True):
        assert 1 - width <= values.min() < 1 - 0.95 * width
        assert 1 + width >= values.max() > 1 + 0.95 * width


def test_each_sample_is_changed_in_its_own_way_and_always_so():
    image = scene()
    one, same, other = (augment(image, chance(0, n), wrist=False) for n in (5, 5, 6))
    assert (one == same).all()
    assert np.abs(one.astype(int) - other).mean() > 3


def test_a_wrist_camera_is_not_moved():
    image = ramp()
    image[..., :] = image[..., :1]  # grey, so that saturation changes nothing
    found = augment(image, chance(0, 1), wrist=True)
    # Pixels that were alike stay alike, but for rounding.
    assert max(np.ptp(found[image == value]) for value in np.unique(image)) <= 1
    moved = augment(image, chance(0, 1), wrist=False)
    assert max(np.ptp(moved[image == value]) for value in np.unique(image)) > 5


def test_fitting_keeps_the_aspect():
    image = np.full((120, 160, 3), 200, np.uint8)
    found = fitted(image, 224)
    assert found.shape == (224, 224, 3)
    assert (found[:28] == 0).all()
    assert (found[-28:] == 0).all()
    assert (found[28:-28] == 200).all()
    square = scene()
    assert fitted(square, SIDE) is square


def test_a_picture_takes_less_than_a_millisecond():
    image, best = scene(), math.inf
    for trial in range(5):
        begin = time.perf_counter()
        for number in range(20):
            augment(image, chance(trial, number), wrist=False)
        best = min(best, (time.perf_counter() - begin) / 20)
    assert best < 2e-3  # 0.4 ms on an idle core
