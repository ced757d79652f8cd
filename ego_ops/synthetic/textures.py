"""Procedural textures: RGB uint8 images with detail at several scales, from a seeded generator."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Colour = tuple[float, float, float]
"""Red, green, blue in [0, 255]."""

WORDS = (
    "OATS", "TEA", "NORD", "BLOOM", "MINT", "CITRUS", "HARVEST", "PEAK", "RIVER", "COCOA", "ALMA",
    "FIELD", "DAILY", "PURE", "ORIGIN", "LUNA", "CRISP", "GARDEN", "AMBER", "FOREST",
)  # fmt: skip
_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
_CREAM, _INK = (243.0, 238.0, 226.0), (38.0, 34.0, 42.0)


def noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> Floats:
    """(height, width) smooth noise of unit variance whose blobs are about `cell` (y, x) pixels."""
    rows, columns = (max(2, round(n / c)) for n, c in zip((height, width), cell, strict=True))
    coarse = rng.standard_normal((rows, columns), np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def fractal(rng: np.random.Generator, height: int, width: int, cells: Sequence[float]) -> Floats:
    """(height, width) sum of smooth noise, the larger blobs the stronger, of unit variance."""
    total = np.zeros((height, width), np.float32)
    for cell in cells:
        total += noise(rng, height, width, (cell, cell)) * np.float32(cell**0.5)
    return np.asarray(total / np.std(total))


def colour(hue: float, saturation: float, value: float) -> Colour:
    """A colour from its hue (turns), saturation and value in [0, 1]."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return 255 * r, 255 * g, 255 * b


def filled(height: int, width: int, base: ArrayLike) -> Floats:
    """(height, width, 3) of one colour."""
    return np.broadcast_to(np.asarray(base, np.float32), (height, width, 3)).copy()


def finish(image: NDArray, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Add print grain and slow unevenness, and round to uint8."""
    height, width = image.shape[:2]
    grain = 4 * rng.standard_normal((height, width), np.float32)
    grain += 6 * noise(rng, height, width, (3, 3))
    grain += 4 * fractal(rng, height, width, (12, 48, 160))
    rough = image + np.float32(strength) * grain[..., None]
    return np.clip(rough, 0, 255, out=rough).astype(np.uint8)


def plain(rng: np.random.Generator, height: int, width: int, base: ArrayLike) -> Image:
    """An almost even surface: plaster, paint, carpet."""
    return finish(filled(height, width, base), rng, 0.6)


def wood(rng: np.random.Generator, height: int, width: int, base: ArrayLike) -> Image:
    """Planks along x, with grain, pores and a few knots."""
    shade = np.zeros((height, width), np.float32)
    planks = np.linspace(0, height, 6).astype(int)
    for top, bottom in pairwise(planks):
        rows = bottom - top
        warp = 14 * noise(rng, rows, width, (60, 420))
        grain = np.sin((np.arange(rows)[:, None] + warp) * rng.uniform(0.12, 0.2))
        fibre = noise(rng, rows, width, (3, 150)) + 0.7 * noise(rng, rows, width, (2, 40))
        patch = rng.normal(0, 9) + 5 * grain + 8 * fibre + 9 * noise(rng, rows, width, (90, 300))
        patch[:2] -= 45
        shade[top:bottom] = patch
    knots = np.zeros((height, width), np.float32)
    for _ in range(14):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(14, 40)), int(rng.integers(5, 11)))
        cv2.ellipse(knots, centre, axes, 0, 0, 360, 1.0, -1)
    shade -= 38 * cv2.GaussianBlur(knots, (0, 0), 5)
    tint = np.array([1.0, 0.85, 0.65], np.float32)
    return finish(filled(height, width, base) + shade[..., None] * tint, rng, 0.5)


def cloth(rng: np.random.Generator, height: int, width: int, base: ArrayLike) -> Image:
    """Woven fabric: a fine rib and soft folds."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rib = 6 * np.sin(x * 2 * np.pi / 8) + 5 * np.sin(y * 2 * np.pi / 5)
    folds = 10 * fractal(rng, height, width, (30, 90))
    return finish(filled(height, width, base) + (rib + folds)[..., None], rng)


def skin(rng: np.random.Generator, height: int, width: int, base: ArrayLike) -> Image:
    """Skin with blotches, pores and creases across (along v)."""
    blotch = fractal(rng, height, width, (10, 30, 80))[..., None]
    crease = np.minimum(0, noise(rng, height, width, (height, 6)) + 1)[..., None]
    image = filled(height, width, base)
    image += blotch * np.array([5, 7, 7], np.float32) + crease * np.array([14, 16, 15], np.float32)
    return finish(image, rng, 0.6)


def glaze(rng: np.random.Generator, height: int, width: int, base: ArrayLike) -> Image:
    """A glazed or painted surface with rings along v."""
    bands = 10 * np.sign(noise(rng, height, 1, (height / 12, 1)))
    shade = bands + 6 * fractal(rng, height, width, (6, 20))
    return finish(filled(height, width, base) + shade[..., None], rng)


def landscape(rng: np.random.Generator, height: int, width: int) -> Image:
    """A picture for the wall: a sky above ranges of hills."""
    low, high = (np.array(colour(rng.random(), 0.25, v), np.float32) for v in (0.9, 0.6))
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = np.broadcast_to(high + y * (low - high), (height, width, 3)).copy()
    hue = rng.uniform(0.05, 0.6)
    for k, level in enumerate((0.45, 0.6, 0.75)):
        ridge = level + 0.07 * fractal(rng, 2, width, (width / 3, width / 9, width / 30))[0]
        hill = np.array(colour(hue + 0.04 * k, 0.35, 0.7 - 0.17 * k), np.float32)
        image[np.arange(height)[:, None] / height > ridge] = hill
    framed = cv2.copyMakeBorder(image, 14, 14, 14, 14, cv2.BORDER_CONSTANT, value=_INK)
    return finish(framed, rng, 0.8)


def label(rng: np.random.Generator, height: int, width: int, hue: float, title: str) -> Image:
    """A printed label: colour fields, blobs, a patterned band, a title, small print, a barcode."""
    dark, bright = rng.uniform(0.3, 0.5), rng.uniform(0.75, 0.95)
    base, contrast = colour(hue, rng.uniform(0.3, 0.6), bright), colour(hue + 0.5, 0.6, 0.85)
    deep, near = colour(hue + 0.03, 0.6, dark), colour(hue + rng.uniform(-0.12, 0.12), 0.55, 0.8)
    image = filled(height, width, base).astype(np.uint8)
    blobs = fractal(rng, height, width, (height / 9, height / 3))
    image[blobs > 0.7] = np.array(near, np.uint8)
    image[blobs < -1.0] = np.array(deep, np.uint8)
    for fill in (contrast, near, _CREAM, deep) * 6:
        _shape(image, rng, fill)
    top = int(rng.uniform(0.12, 0.22) * height)
    cv2.rectangle(image, (0, top), (width, top + int(0.3 * height)), _CREAM, -1)
    _band(image[top - int(0.07 * height) : top], rng, deep, contrast)
    _print(image, rng, title, top)
    return image


def _band(strip: Image, rng: np.random.Generator, ground: Colour, ink: Colour) -> None:
    height, width = strip.shape[:2]
    strip[:] = np.array(ground, np.uint8)
    step = max(6, height)
    kind = int(rng.integers(3))
    for x in range(0, width, step):
        if kind == 0:
            cv2.circle(strip, (x + step // 2, height // 2), step // 3, ink, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.line(strip, (x, height), (x + height, 0), ink, max(1, step // 4), cv2.LINE_AA)
        else:
            cv2.rectangle(strip, (x, 0), (x + step // 2, height // 2), ink, -1)


def _shape(image: Image, rng: np.random.Generator, fill: Colour) -> None:
    height, width = image.shape[:2]
    centre = np.array([rng.uniform(0.03, 0.97) * width, rng.uniform(0.45, 0.97) * height])
    radius = rng.uniform(0.02, 0.08) * min(height, width) + 3
    corners = int(rng.integers(3, 9))
    angle = rng.uniform(0, 6) + np.arange(2 * corners) * np.pi / corners
    reach = radius * np.where(np.arange(2 * corners) % 2, rng.uniform(0.4, 1.0), 1.0)
    points = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cv2.fillPoly(image, [points.astype(np.int32)], fill, cv2.LINE_AA)
    cv2.circle(image, [int(c) for c in centre], int(radius / 3), _CREAM, -1, cv2.LINE_AA)


def _print(image: Image, rng: np.random.Generator, title: str, top: int) -> None:
    height, width = image.shape[:2]
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    (w, h), _ = cv2.getTextSize(title, font, 1.0, 2)
    scale = min(0.8 * width / w, 0.15 * height / h)
    left = int(rng.uniform(0.05, 0.15) * width)
    at = (left, top + int(0.17 * height))
    cv2.putText(image, title, at, font, scale, _INK, int(3 * scale) + 1, cv2.LINE_AA)
    for row in (0.22, 0.27):
        words = " ".join(rng.choice(WORDS, 4)).lower()
        at = (left, top + int(row * height))
        cv2.putText(image, words, at, font, max(0.35, scale / 4), _INK, 1, cv2.LINE_AA)
    left, top = int(0.6 * width), int(0.84 * height)
    bars = (rng.random(24) < 0.5).repeat(max(1, int(0.014 * width)))
    patch = image[top : top + int(0.11 * height), left : left + len(bars)]
    patch[:] = np.where(bars[: patch.shape[1], None], 25, 245)


def atlas(cells: Sequence[Image], height: int, width: int) -> Image:
    """Six images as one, three a row: the texture of a box with `atlas=True`."""
    scaled = [
        cv2.resize(cell, (width // 3, height // 2), interpolation=cv2.INTER_AREA) for cell in cells
    ]
    return np.vstack([np.hstack(scaled[:3]), np.hstack(scaled[3:])]).astype(np.uint8)
